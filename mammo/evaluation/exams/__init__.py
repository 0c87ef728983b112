"""Scores of new exams: by image, breast and exam, as tables, an HTML page and DICOM objects."""
