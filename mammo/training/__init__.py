"""Training: the Lightning module, losses, optimisers, schedules, callbacks and checkpoints.

Input: the checked config in `fit`, `setup`, `part_checks`, `trainer_options`; plain arguments in the others.
Output: a run folder with checkpoints, curves and the best epoch's validation score.
"""
