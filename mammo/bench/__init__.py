"""`python -m mammo.bench`: where the time goes on this machine, each stage held against its limit.

- prepare: images of the data (full-size DICOMs by default) with their masks, from the page cache into a new
  store, by two worker processes once they have started; against twice what one process takes to read and
  decode the files and to reduce each once (by area, to its prepared size) and nothing else.
- loader: batches read by one thread from the prepared store in the page cache; against a plain copy of as
  many bytes. Its rivals read the same images from what else people keep: the DICOM file, decoded and reduced
  at every epoch, a 16-bit PNG, an 8-bit JPEG.
- step: an optimiser step on a batch that is on the device, with scaling and augmentation; against the bare
  network's on numbers that are ready. Its rival is the bare network in float32 and contiguous.
- train: optimiser steps of Lightning as `train.py` sets it up; against the slower of loader and step. Its
  rival is a bare PyTorch loop on the same loader that does the same to images and weights, without scores,
  callbacks and learning rate schedule. No time holds validation, an epoch's end or a progress bar.
- evaluate: the training images of a run scored, judged, looked into and reported, as `mammo.evaluate` does;
  against the forward passes alone.
- startup: from the command to the end of the first optimiser step's checkpoint, of `python train.py` with the
  bench's overrides and train.py's own defaults, on a prepared store; against a script that imports PyTorch
  and timm and takes that step. Beside it `--help` and a mistake in the config, in seconds.

The rivals of a stage are measured in turn, so that what slows the machine for a while slows all of them.
"""
