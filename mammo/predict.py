"""`python -m mammo.predict`: scores mammograms without labels, with the network of a finished run."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder

if TYPE_CHECKING:
    from mammo.evaluation.prediction.file_scoring import Pictures
    from mammo.evaluation.prediction.input_files import Files
    from mammo.evaluation.prediction.prediction_log import PredictionLog
    from mammo.evaluation.scoring import Scorer


@hydra_main("predict")
def main(cfg: DictConfig) -> None:
    for key, least in (("workers", 0), ("batch_size", 1)):
        if cfg[key] < least:
            raise ConfigError(f"{key}={cfg[key]}: must be at least {least}")
    run = RunFolder.find(cfg.run, key="run")

    from mammo.data.tasks import CLASSES
    from mammo.evaluation.prediction.file_scoring import identity_of, pending_files
    from mammo.evaluation.prediction.input_files import find_files
    from mammo.evaluation.prediction.prediction_log import PredictionLog, write_table

    output, heatmaps = Path(cfg.output), None if cfg.heatmaps is None else Path(cfg.heatmaps)
    ours = [output, *PredictionLog.beside(output), *([] if heatmaps is None else [heatmaps])]
    files = find_files(cfg.input, leave_out=ours)
    log = PredictionLog(output, identity=identity_of(run, files), root=files.root)
    todo = pending_files(files, log, heatmaps=heatmaps)
    if len(todo) < len(files.paths):
        _say(f"{len(files.paths) - len(todo)} of {len(files.paths)} files are already scored")
    if todo:
        _score(cfg, run, files, todo, log, heatmaps)
    scored, unreadable = write_table(
        log,
        classes=CLASSES[run.config()["task"]["name"]],
        **_fixed(run),
        run=str(run.path.absolute()),
        commit=run.facts()["commit"],
    )
    print(f"{scored} images scored, {unreadable} unreadable{' (see the column error)' if unreadable else ''}")
    print(f"written to {output}" + ("" if heatmaps is None else f", pictures to {heatmaps}"))


def _fixed(run: RunFolder) -> dict[str, Any]:
    """Return calibration and threshold of the run; if one is missing, print its replacement."""
    from mammo.evaluation.evaluation_files import calibration_of

    calibration = calibration_of(run, may_score=False)
    if calibration is None:
        _say(
            "the run has no calibration.json of its current weights, so probabilities stay empty and the "
            "threshold is 0.5; "
            f"run python -m mammo.evaluate run={run.path}, then this command again, to add both"
        )
        return {"calibration": None, "threshold": 0.5}
    threshold = calibration.threshold("image", "mean")
    if math.isnan(threshold):
        _say("calibration.json of the run has no threshold for images; the threshold is 0.5")
        threshold = 0.5
    return {"calibration": calibration, "threshold": threshold}


def _score(
    cfg: DictConfig,
    run: RunFolder,
    files: "Files",
    todo: list[str],
    log: "PredictionLog",
    heatmaps: Path | None,
) -> None:
    from mammo.data.store.store_building import Settings
    from mammo.evaluation.prediction.file_scoring import score_files

    data = run.config()["data"]
    preparation = {key: data[key] for key in ("height", "width", "crop", "aspect")}
    score_files(
        files,
        todo,
        log,
        network=lambda: _network(run, heatmaps),
        settings=Settings(**preparation, dtype="uint16", masks=False),
        workers=cfg.workers,
        batch_size=cfg.batch_size,
    )


def _network(run: RunFolder, heatmaps: Path | None) -> "tuple[Scorer, Pictures | None]":
    from mammo.data.tasks import CLASSES

    with quick_imports():
        from mammo.evaluation.explain.heatmaps import Heatmaps
        from mammo.evaluation.scoring import Scorer, open_classifier
    from mammo.evaluation.prediction.file_scoring import Pictures

    config = run.config()
    scorer = Scorer(
        open_classifier(run),
        size=(config["data"]["height"], config["data"]["width"]),
        precision=config["trainer"]["precision"],
    )
    if heatmaps is None:
        return scorer, None
    classes = CLASSES[config["task"]["name"]]
    return scorer, Pictures(heatmaps, heatmaps=Heatmaps(scorer.classifier), classes=classes)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
