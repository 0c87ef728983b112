"""Searches for settings: their space, the workers that try them, their journal and what came out."""
