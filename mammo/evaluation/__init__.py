"""Evaluation: runs and images go in; predictions, metrics with intervals, heatmaps and reports come out."""
