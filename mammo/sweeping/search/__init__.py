"""A search: its space, sampler, journal and trials, in a folder that many workers share."""
