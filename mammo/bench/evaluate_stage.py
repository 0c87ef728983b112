"""The stage `evaluate`: from a run's checkpoint to its report."""

import math
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.bench.measurement import Result, in_turn
from mammo.evaluation.run_evaluation import evaluate_run
from mammo.evaluation.scoring import Scorer, images_of, open_classifier
from mammo.runs import RunFolder
from mammo.training.fit import fit
from mammo.training.setup import Training


def measure_evaluate(cfg: DictConfig, training: Training) -> Result:
    """Measure the evaluation of the training images by a network trained for one batch; only time matters."""
    rows = training.datamodule.train.rows.tolist()
    with tempfile.TemporaryDirectory(prefix="mammo-bench-") as folder:
        short: Any = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))
        short.trainer.fast_dev_run = True
        short.resume = None
        run = fit(short, run_dir=Path(folder) / "run", overrides=[])
        assert run is not None  # with one process there is a run
        scorer = Scorer(
            open_classifier(run),
            size=(cfg.data.height, cfg.data.width),
            precision=cfg.trainer.precision,
            batch_size=cfg.data.batch_size,
        )
        batch = images_of(training.store, rows[: scorer.batch_size])

        def forward() -> float:
            started = time.perf_counter()
            for _ in range(math.ceil(len(rows) / len(batch))):
                scorer(batch)
            return math.ceil(len(rows) / len(batch)) * len(batch) / (time.perf_counter() - started)

        speeds = in_turn(
            {"evaluate": lambda: _review(run, len(rows)), "forward passes": forward}, repeats=cfg.repeats
        )
    own, alone = speeds["evaluate"], speeds["forward passes"]
    takes, passes = len(rows) / median(own), len(rows) / median(alone)
    slower = "the network's own work" if passes > takes / 2 else "metrics, figures and report"
    sentence = (
        f"{len(rows)} images are evaluated in {takes:.1f} s, {passes:.1f} of them for the forward passes and "
        f"{takes - passes:.1f} for the rest: {slower} is the bottleneck"
    )
    return Result("evaluate", own, "forward passes", alone, {}, sentence)


def _review(run: RunFolder, images: int) -> float:
    started = time.perf_counter()
    evaluate_run(run, split="train", folder=run.evaluation / "train")
    return images / (time.perf_counter() - started)
