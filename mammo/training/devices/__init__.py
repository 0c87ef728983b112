"""What the machine decides in a training: the number of processes, the number format, and the batch size."""
