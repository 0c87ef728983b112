"""Samples that a network gets wrong, found to train on them."""
