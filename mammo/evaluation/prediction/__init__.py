"""Prediction on new exams: a run and files go in; a table of scores and pictures comes out."""
