"""Benign or malignant: a PyTorch Lightning and Hydra research framework for mammograms."""

__version__ = "0.1.0"
