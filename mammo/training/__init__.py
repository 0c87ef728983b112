"""Training: the Lightning module, losses, optimisers, schedules, callbacks and checkpoints.

Input: the checked config in `fit.py` and `setup.py`, plain arguments in the other modules.
Output: a run folder with checkpoints, curves and the best epoch's validation score.
"""
