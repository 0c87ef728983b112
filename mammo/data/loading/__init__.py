"""Batches: from the prepared store to augmented tensors on the device, in the order of an epoch."""
