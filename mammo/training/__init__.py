"""Training: the Lightning module, losses, optimisers, schedules, callbacks and checkpoints.

In: the checked config, or plain arguments below `fit.py` and `setup.py`.
Out: a run folder with checkpoints, curves and the best epoch's validation score.
"""
