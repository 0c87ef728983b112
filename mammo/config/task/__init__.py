"""Checks of the node `task`, and of the samples that its classes are for."""
