"""Inspection of image files: what their headers and pixels say, what is suspicious, and a contact sheet."""
