"""Simulations with a known truth that check the statistics of an evaluation, `python -m mammo.simulate`."""
