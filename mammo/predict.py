"""`python -m mammo.predict`: scores mammograms without labels, with the network of a finished run."""

import importlib.util
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from mammo.config.calls.next_steps import call, ending, this_call
from mammo.config.choices import Heatmap, PredictOutput
from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.runs import RunFolder

if TYPE_CHECKING:
    from mammo.evaluation.exams.result_files import ResultFiles
    from mammo.evaluation.exams.run_heat import RunHeat
    from mammo.evaluation.prediction.input_files import Files
    from mammo.evaluation.prediction.prediction_log import Counts


@hydra_main("predict")
def main(cfg: DictConfig) -> None:
    for key, least in (("workers", 0), ("batch_size", 1)):
        if cfg[key] < least:
            raise ConfigError(f"{key}={cfg[key]}: must be at least {least}")
    if PredictOutput.html in cfg.outputs and Path(cfg.output).suffix == ".html":
        raise ConfigError(f"output={cfg.output}: is the table of scores, not the page; name a .csv file")
    if PredictOutput.dicom in cfg.outputs and importlib.util.find_spec("highdicom") is None:
        raise ConfigError(
            "outputs=[dicom]: the package highdicom is not installed; pip install 'mammo[dicom]'"
        )
    run = RunFolder.find(cfg.run, key="run")

    from mammo.evaluation.exams.result_files import ResultFiles
    from mammo.evaluation.prediction.input_files import find_files
    from mammo.evaluation.prediction.sample_inputs import grouping_of
    from mammo.runs.provenance import checkpoint_of

    results = ResultFiles.beside(
        Path(cfg.output),
        html=PredictOutput.html in cfg.outputs,
        dicom=PredictOutput.dicom in cfg.outputs,
        heat=cfg.heatmap != Heatmap.none,
        pictures=None if cfg.heatmaps is None else Path(cfg.heatmaps),
    )
    checkpoint_of(run)
    grouping = grouping_of(run, table=cfg.table)
    tables = [] if cfg.table is None else [Path(cfg.table)]
    files = find_files(cfg.input, leave_out=[*results.ours, *tables])
    if grouping is None:
        _score_images(cfg, run, files, results)
    else:
        _score_samples(cfg, run, files, results, grouping)
    export = call("export", run=run.path, output=run.path / "model.onnx")
    evaluate = call("evaluate", run=run.path, split="test" if run.has_test_images() else "val")
    print(
        ending(results.written, export if results.page else this_call({"outputs": ["csv", "html"]}), evaluate)
    )


def _score_images(cfg: DictConfig, run: RunFolder, files: "Files", results: "ResultFiles") -> None:
    from mammo.evaluation.exams.exam_scores import ExamScores, left_out_images
    from mammo.evaluation.exams.result_files import write_results
    from mammo.evaluation.prediction.file_scoring import (
        identity_of,
        pending_files,
        preparation_of,
        score_files,
    )
    from mammo.evaluation.prediction.input_files import UNREADABLE
    from mammo.evaluation.prediction.prediction_log import PredictionLog, image_rows, write_table
    from mammo.evaluation.prediction.prediction_table import Decision, say_notes

    read = partial(image_rows, files.root)
    log = PredictionLog(results.table, identity=identity_of(run, files), read=read)
    heat, wanted = _heat(cfg, run, files, results), _wanted(cfg, run)
    todo = pending_files(files, log, written=heat.is_written, **wanted)
    _say_done(len(files.paths) - len(todo), len(files.paths), "files")
    if todo:
        score_files(
            files,
            todo,
            log,
            network=heat.network,
            settings=preparation_of(run),
            workers=cfg.workers,
            batch_size=cfg.batch_size,
            **wanted,
        )
    say_notes(log.rows())
    scores = ExamScores(Decision.of(run), reduce=cfg.reduce.value, views=("CC", "MLO"))
    exams, alone = scores.of_images(log)
    left_out = list(left_out_images(log))
    counts = write_table(log, scores.decision, reduce=scores.reduce, **_facts(run))
    reason = " (see the column error)" if UNREADABLE in counts.without else ""
    print(f"{counts.scored} images scored, {counts.without.get(UNREADABLE, 0)} unreadable{reason}")
    _say_secondary(counts)
    known: dict[str, Any] = {"run": run, "root": files.root, "heat": heat, "hanging": cfg.hanging}
    write_results(results, scores, exams, alone, left_out, unit="image", **known)


def _score_samples(
    cfg: DictConfig, run: RunFolder, files: "Files", results: "ResultFiles", grouping: dict[str, Any]
) -> None:
    """Score breasts or exams.

    Args:
        cfg: settings of the command.
        run: run whose samples are breasts or exams.
        files: all files of the input.
        results: files of the results.
        grouping: arguments of `group_files`.
    """
    from mammo.data.samples import PLURALS
    from mammo.data.tasks import Task
    from mammo.evaluation.exams.exam_scores import ExamScores, left_out_samples
    from mammo.evaluation.exams.result_files import write_results
    from mammo.evaluation.prediction.file_scoring import identity_of, preparation_of
    from mammo.evaluation.prediction.prediction_log import PredictionLog, write_lines
    from mammo.evaluation.prediction.prediction_table import Decision, say_notes
    from mammo.evaluation.prediction.sample_inputs import group_files
    from mammo.evaluation.prediction.sample_scoring import pending_samples, score_samples
    from mammo.evaluation.prediction.sample_table import SampleTable, sample_rows

    if grouping["unit"] == "exam" and cfg.reduce.value != "mean":
        raise ConfigError(
            f"reduce={cfg.reduce.value}: the network of the run scores whole exams; leave it out"
        )
    classes = Task.of(run.config()["task"]).classes
    read = partial(sample_rows, classes=classes)
    log = PredictionLog(results.table, identity=identity_of(run, files), read=read)
    found = group_files(files, **grouping, **_wanted(cfg, run))
    plural = PLURALS[found.unit]
    heat = _heat(cfg, run, files, results)
    todo = pending_samples(found, log, written=heat.is_written)
    _say_done(len(found.samples) - len(todo), len(found.samples), plural)
    for rows in score_samples(
        found,
        todo,
        network=heat.network,
        classes=classes,
        settings=preparation_of(run),
        workers=cfg.workers,
        batch_size=cfg.batch_size,
    ):
        log.append(rows)
    say_notes(log.row(found.key(sample)) for sample in found.samples)
    scores = ExamScores(Decision.of(run), reduce=cfg.reduce.value, views=found.views)
    table = SampleTable(found, log.row, scores.decision)
    exams = scores.of_samples(found, log.row)
    left_out = list(left_out_samples(table.cells()))
    counts, lacking = table.counts()
    without = sum(count for kind, count in counts.without.items() if kind != "crop_or_mask")
    numbers = {plural: counts.scored, "files_without_score": without}
    facts = _facts(run) | {"unit": found.unit, "views": found.views}
    write_lines(log, table.decision, table.columns, table.lines(), numbers, **facts)
    reason = " (see the column error)" if without else ""
    print(f"{counts.scored} {plural} scored, {without} files without a score{reason}")
    if lacking:
        print(f"{lacking} of the {counts.scored} {plural} lack a view (see the column missing)")
    _say_secondary(counts)
    known: dict[str, Any] = {"run": run, "root": files.root, "heat": heat, "hanging": cfg.hanging}
    write_results(results, scores, exams, [], left_out, unit=found.unit, **known)


def _heat(cfg: DictConfig, run: RunFolder, files: "Files", results: "ResultFiles") -> "RunHeat":
    from mammo.evaluation.exams.run_heat import RunHeat

    return RunHeat(
        run,
        root=files.root,
        paths=files.paths,
        method=cfg.heatmap.value,
        layer=cfg.heatmap_layer,
        hanging=cfg.hanging,
        pictures=results.pictures,
        captures=results.captures,
    )


def _wanted(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    """Return which files are scored, as arguments of `wanted_facts`."""
    from mammo.evaluation.prediction.file_scoring import kinds_included

    include = kinds_included(run, [kind.value for kind in cfg.include])
    return {"secondary": cfg.secondary, "include": include}


def _facts(run: RunFolder) -> dict[str, Any]:
    return {"run": str(run.path.absolute()), "commit": run.facts()["commit"]}


def _say_done(done: int, total: int, plural: str) -> None:
    if done:
        print(f"{done} of {total} {plural} are already scored", file=sys.stderr)


def _say_secondary(counts: "Counts") -> None:
    if secondary := counts.without.get("crop_or_mask"):
        print(
            f"{secondary} files are cropped images or lesion masks of CBIS-DDSM and are not scored; "
            "secondary=true scores them"
        )


if __name__ == "__main__":
    main()
