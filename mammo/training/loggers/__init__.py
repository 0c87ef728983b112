"""What a training shows: loggers from nodes, the numbers of each epoch, pictures, and the final score."""
