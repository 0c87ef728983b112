"""Synthetic mammograms: films, case files and ROI masks like those of CBIS-DDSM, generated from a seed."""
