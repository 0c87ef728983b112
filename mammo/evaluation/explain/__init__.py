"""Heatmaps: a network and images go in; heatmaps, their agreement with the lesions and pictures come out."""
