"""Heatmaps: turn a network and images into heatmaps, their localisation scores and pictures."""
