"""Statistics: scores and labels go in; metrics, intervals, calibration and comparisons come out."""
