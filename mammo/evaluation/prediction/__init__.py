"""Prediction on new mammograms: from a run and image files to a table of scores and heatmap pictures."""
