"""`python -m mammo.predict`: scores mammograms without labels, with the network of a finished run."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from mammo.config.calls.next_steps import call, ending, this_call
from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder

if TYPE_CHECKING:
    from mammo.evaluation.prediction.file_scoring import Pictures
    from mammo.evaluation.prediction.input_files import Files
    from mammo.evaluation.prediction.prediction_log import Counts
    from mammo.evaluation.scoring import Scorer


@hydra_main("predict")
def main(cfg: DictConfig) -> None:
    for key, least in (("workers", 0), ("batch_size", 1)):
        if cfg[key] < least:
            raise ConfigError(f"{key}={cfg[key]}: must be at least {least}")
    run = RunFolder.find(cfg.run, key="run")

    from mammo.evaluation.prediction.input_files import find_files
    from mammo.evaluation.prediction.prediction_log import PredictionLog
    from mammo.evaluation.prediction.sample_inputs import grouping_of
    from mammo.runs.provenance import checkpoint_of

    checkpoint_of(run)
    grouping = grouping_of(run, table=cfg.table)
    output, heatmaps = Path(cfg.output), None if cfg.heatmaps is None else Path(cfg.heatmaps)
    ours = [output, *PredictionLog.beside(output), *([] if heatmaps is None else [heatmaps])]
    tables = [] if cfg.table is None else [Path(cfg.table)]
    files = find_files(cfg.input, leave_out=[*ours, *tables])
    if grouping is None:
        _score_images(cfg, run, files, heatmaps)
    else:
        _score_samples(cfg, run, files, heatmaps, grouping)
    written = {"written to": output} | ({} if heatmaps is None else {"pictures": heatmaps})
    pictures = {"heatmaps": output.with_name(f"{output.stem}-heatmaps")}
    export = call("export", run=run.path, output=run.path / "model.onnx")
    evaluate = call("evaluate", run=run.path, split="test" if run.has_test_images() else "val")
    print(ending(written, export if heatmaps else this_call(pictures), evaluate))


def _score_images(cfg: DictConfig, run: RunFolder, files: "Files", heatmaps: Path | None) -> None:
    from mammo.evaluation.prediction.file_scoring import (
        identity_of,
        pending_files,
        preparation_of,
        score_files,
    )
    from mammo.evaluation.prediction.prediction_log import PredictionLog, image_rows, write_table
    from mammo.evaluation.prediction.prediction_table import Decision, say_notes

    read = partial(image_rows, files.root)
    log = PredictionLog(Path(cfg.output), identity=identity_of(run, files), read=read)
    todo = pending_files(files, log, heatmaps=heatmaps, secondary=cfg.secondary)
    _say_done(len(files.paths) - len(todo), len(files.paths), "files")
    if todo:
        score_files(
            files,
            todo,
            log,
            network=lambda: _network(run, heatmaps, hanging=cfg.hanging),
            settings=preparation_of(run),
            workers=cfg.workers,
            batch_size=cfg.batch_size,
            secondary=cfg.secondary,
        )
    say_notes(log.rows())
    counts = write_table(log, Decision.of(run), **_facts(run))
    reason = " (see the column error)" if counts.unreadable else ""
    print(f"{counts.scored} images scored, {counts.unreadable} unreadable{reason}")
    _say_secondary(counts)


def _score_samples(
    cfg: DictConfig, run: RunFolder, files: "Files", heatmaps: Path | None, grouping: dict[str, Any]
) -> None:
    """Score breasts or exams.

    Args:
        cfg: settings of the command.
        run: run whose samples are breasts or exams.
        files: all files of the input.
        heatmaps: folder of the pictures, None for no pictures.
        grouping: arguments of `group_files`.
    """
    from mammo.data.samples import PLURALS
    from mammo.data.tasks import Task
    from mammo.evaluation.prediction.file_scoring import identity_of, preparation_of
    from mammo.evaluation.prediction.prediction_log import PredictionLog, write_lines
    from mammo.evaluation.prediction.prediction_table import Decision, say_notes
    from mammo.evaluation.prediction.sample_inputs import group_files
    from mammo.evaluation.prediction.sample_scoring import pending_samples, score_samples
    from mammo.evaluation.prediction.sample_table import SampleTable, sample_rows

    classes = Task.of(run.config()["task"]).classes
    read = partial(sample_rows, classes=classes)
    log = PredictionLog(Path(cfg.output), identity=identity_of(run, files), read=read)
    found = group_files(files, **grouping, secondary=cfg.secondary)
    plural = PLURALS[found.unit]
    todo = pending_samples(found, log, heatmaps=heatmaps)
    _say_done(len(found.samples) - len(todo), len(found.samples), plural)
    for rows in score_samples(
        found,
        todo,
        network=lambda: _network(run, heatmaps, hanging=cfg.hanging),
        classes=classes,
        settings=preparation_of(run),
        workers=cfg.workers,
        batch_size=cfg.batch_size,
    ):
        log.append(rows)
    say_notes(log.row(found.key(sample)) for sample in found.samples)
    table = SampleTable(found, log.row, Decision.of(run))
    counts, lacking = table.counts()
    numbers = {plural: counts.scored, "files_without_score": counts.unreadable}
    facts = _facts(run) | {"unit": found.unit, "views": found.views}
    write_lines(log, table.decision, table.columns, table.lines(), numbers, **facts)
    reason = " (see the column error)" if counts.unreadable else ""
    print(f"{counts.scored} {plural} scored, {counts.unreadable} files without a score{reason}")
    if lacking:
        print(f"{lacking} of the {counts.scored} {plural} lack a view (see the column missing)")
    _say_secondary(counts)


def _facts(run: RunFolder) -> dict[str, Any]:
    return {"run": str(run.path.absolute()), "commit": run.facts()["commit"]}


def _say_done(done: int, total: int, plural: str) -> None:
    if done:
        print(f"{done} of {total} {plural} are already scored", file=sys.stderr)


def _say_secondary(counts: "Counts") -> None:
    if counts.secondary:
        print(
            f"{counts.secondary} files are cropped images or lesion masks of CBIS-DDSM and are not scored; "
            "secondary=true scores them"
        )


def _network(run: RunFolder, heatmaps: Path | None, *, hanging: bool) -> "tuple[Scorer, Pictures | None]":
    from mammo.data.tasks import Task

    with quick_imports():
        from mammo.evaluation.explain.heatmaps import Heatmaps
        from mammo.evaluation.scoring import open_scorer
    from mammo.evaluation.prediction.file_scoring import Pictures

    scorer = open_scorer(run)
    if heatmaps is None:
        return scorer, None
    task = Task.of(run.config()["task"])
    return scorer, Pictures(heatmaps, heatmaps=Heatmaps(scorer.classifier), task=task, hanging=hanging)


if __name__ == "__main__":
    main()
