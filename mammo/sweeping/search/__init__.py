"""A search: its space, sampler, pruner, journal and trials, in a folder that many workers share."""
