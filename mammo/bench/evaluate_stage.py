"""The stage `evaluate`: from a run's checkpoint to its report."""

import math
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.bench.measurement import Result, in_turn
from mammo.config.checks import plain
from mammo.evaluation.evaluation_settings import EvaluationSettings
from mammo.evaluation.run_evaluation import evaluate_run
from mammo.evaluation.scoring import open_scorer
from mammo.runs import RunFolder
from mammo.runs.run_lock import RunLock
from mammo.training.fit import fit
from mammo.training.setup import Training


def measure_evaluate(cfg: DictConfig, training: Training) -> Result:
    """Measure the evaluation of the training images by a network trained for one batch; only time matters."""
    train = training.datamodule.train
    number = len(train)
    with tempfile.TemporaryDirectory(prefix="mammo-bench-") as folder:
        short: Any = OmegaConf.create(plain(cfg))
        short.trainer.fast_dev_run = True
        short.resume = None
        with RunLock(Path(folder) / "run") as lock:
            run = fit(short, run_dir=lock.folder, overrides=[], lock=lock)
        assert run is not None  # with one process there is a run
        scorer = open_scorer(run, batch_size=cfg.data.batch_size)
        batch = train.batch(range(min(number, scorer.batch_size)))
        passes_of_all = math.ceil(number / scorer.batch_size)

        def forward() -> float:
            started = time.perf_counter()
            for _ in range(passes_of_all):
                scorer(batch["image"], batch["present"])
            return passes_of_all * len(batch["label"]) / (time.perf_counter() - started)

        speeds = in_turn(
            {"evaluate": lambda: _review(run, number), "forward passes": forward}, repeats=cfg.repeats
        )
    own, alone = speeds["evaluate"], speeds["forward passes"]
    takes, passes = number / median(own), number / median(alone)
    slower = "the network's own work" if passes > takes / 2 else "metrics, figures and report"
    sentence = (
        f"{number} images are evaluated in {takes:.1f} s, {passes:.1f} of them for the forward passes and "
        f"{takes - passes:.1f} for the rest: {slower} is the bottleneck"
    )
    return Result("evaluate", own, "forward passes", alone, {}, sentence)


def _review(run: RunFolder, images: int) -> float:
    started = time.perf_counter()
    evaluate_run(run, EvaluationSettings(split="train", folder=run.evaluation / "train"))
    return images / (time.perf_counter() - started)
