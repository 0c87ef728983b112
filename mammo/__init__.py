"""Benign or malignant: a PyTorch Lightning and Hydra research framework for mammograms."""
