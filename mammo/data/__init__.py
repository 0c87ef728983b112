"""From case files and pixels on disk to batches on the device."""
