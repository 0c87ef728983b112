"""Lightning module, optimisers, callbacks, and the function that runs a training."""
