"""`python -m mammo.bench`: where the time goes on this machine, each stage held against its limit.

- loader: batches of the training loader alone, from a prepared store in the page cache, without what the step
  does with them (scaling and augmentation); against the bare loop below, which is what a step takes.
- prepare: the first images of the data (full-size DICOMs by default) with their masks, from the page cache
  into a new store, by two worker processes, their start and the writing to the disk included; against twice
  one worker. (Workers of `mammo.prepare` and `train.py` start a little later: they import these commands.)
- train: optimiser steps of Lightning as `train.py` sets it up; against a bare PyTorch loop on the same loader
  that does the same to images and weights, without scores, callbacks and learning rate schedule. Neither time
  holds start-up, warm-up, validation, an epoch's end or a progress bar.

The rivals of a stage are measured in turn, so that what slows the machine for a while slows all of them.
"""
