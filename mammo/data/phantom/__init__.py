"""Synthetic mammograms: a seed goes in; films, case files and ROI masks as CBIS-DDSM has them come out."""
