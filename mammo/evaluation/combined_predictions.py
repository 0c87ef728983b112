"""Predictions of several runs as one: aligned, averaged, or concatenated over folds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.samples import PLURALS
from mammo.errors import DataError
from mammo.evaluation.predictions import Predictions, Reduce, Unit, Units, by_name, by_unit
from mammo.runs.provenance import Provenance


def aligned(runs: Sequence[Predictions]) -> list[Predictions]:
    """Return the tables of all runs with the samples in the order of the first table.

    Raises:
        DataError: two tables differ in their samples, or in a sample's patient or label.
    """
    first = runs[0]
    found, plural = [first], PLURALS[first.unit]
    for other in runs[1:]:
        both = f"{first.source} and {other.source}"
        differing = sorted(set(first.samples).symmetric_difference(other.samples))
        if differing:
            raise DataError(
                f"{both}: {len(differing)} {plural} are in one table only, the first is '{differing[0]}'; "
                "evaluate the runs on the same split"
            )
        rows = pd.Index(other.samples).get_indexer(pd.Index(first.samples))
        ordered = other.take(rows)
        for what, left, right in (
            ("patient", first.patients, ordered.patients),
            ("label", _names(first, ordered), _names(ordered, first)),
        ):
            unlike = np.flatnonzero(left != right)
            if unlike.size:
                raise DataError(
                    f"{both}: the {what} of {unlike.size} of {len(rows)} {plural} differs, first for "
                    f"'{first.samples[unlike[0]]}'; evaluate the runs on the same data"
                )
        found.append(ordered)
    return found


def aligned_units(runs: Sequence[Predictions], unit: Unit | None, *, reduce: Reduce = "mean") -> list[Units]:
    """Return the units of all runs in the same order.

    Tables of the same samples are aligned first; others, such as one of images and one of breasts, are each
    reduced to breasts or patients, and aligned by their names.

    Args:
        runs: predictions of each run.
        unit: see `by_unit`; tables of different samples have breasts and patients in common.
        reduce: see `by_unit`.

    Raises:
        DataError: the tables differ in their samples or units, or in the patient or label of one; or `unit`
            is no unit of one of them.
    """
    first = runs[0]
    if all(run.unit == first.unit for run in runs):
        return [by_unit(run, unit, reduce=reduce) for run in aligned(runs)]
    if unit not in ("breast", "patient"):
        other = next(run for run in runs if run.unit != first.unit)
        raise DataError(
            f"{first.source} and {other.source} have {PLURALS[first.unit]} and {PLURALS[other.unit]}; "
            "compare them with unit=breast or unit=patient"
        )
    names, units = by_name(first, unit, reduce=reduce)
    found, plural = [units], PLURALS[unit]
    for other in runs[1:]:
        _require_comparable(first, other)
        their_names, theirs = by_name(other, unit, reduce=reduce)
        both = f"{first.source} and {other.source}"
        differing = names.symmetric_difference(their_names)
        if len(differing):
            raise DataError(
                f"{both}: {len(differing)} {plural} are in one table only, the first is "
                f"'{' '.join(differing[0])}'; evaluate the runs on the same images"
            )
        unlike = np.flatnonzero(units.label != theirs.label)
        if unlike.size:
            raise DataError(
                f"{both}: the label of {unlike.size} of {len(names)} {plural} differs, first for "
                f"'{' '.join(names[unlike[0]])}'; evaluate the runs on the same images"
            )
        found.append(theirs)
    return found


def _names(predictions: Predictions, other: Predictions) -> NDArray[np.str_]:
    """Return N labels to compare with the other table: classes if both have the same, else malignancy.

    Raises:
        DataError: the tables have different classes, and they are not both of malignancy.
    """
    if predictions.classes == other.classes:
        return predictions.table["label"].to_numpy(dtype=str)
    _require_comparable(predictions, other)
    return predictions.malignant.astype(str)


def _require_comparable(predictions: Predictions, other: Predictions) -> None:
    of_pathology = predictions.task.of_pathology and other.task.of_pathology
    if predictions.classes != other.classes and not of_pathology:
        raise DataError(
            f"{predictions.source} and {other.source} have different classes "
            f"({', '.join(predictions.classes)} and {', '.join(other.classes)}); compare runs of one task"
        )


def ensemble(runs: Sequence[Predictions]) -> Predictions:
    """Average the scores of the runs; those of views and sides too, if all runs have them.

    Raises:
        DataError: the runs have different tasks or samples.
    """
    first = runs[0]
    _require_one_task(runs, "runs")
    tables = aligned(runs)
    scores = np.mean([run.scores for run in tables], axis=0)
    combined = first.with_scores(scores, source=", ".join(run.source for run in runs))
    parts = [name for name in first.part_columns if all(name in run.table for run in tables)]
    means = {name: np.mean([run.table[name] for run in tables], axis=0) for name in parts}
    table = combined.table.drop(columns=first.part_columns).assign(**means)
    return replace(combined, table=table, provenance=_records(runs))


def out_of_fold(folds: Sequence[Predictions]) -> Predictions:
    """Concatenate the tables of all folds; each sample is scored by the model not trained on it.

    Raises:
        DataError: the folds have different tasks, or share a sample or a patient.
    """
    first = folds[0]
    _require_one_task(folds, "folds")
    for what, remedy in (
        (first.unit, "name each fold once"),
        ("patient", "split by patient, or the scores are not out of fold"),
    ):
        names = [np.unique(fold.samples if what == first.unit else fold.patients).tolist() for fold in folds]
        times = Counter(name for fold in names for name in fold)
        shared = [name for name, count in times.items() if count > 1]
        if shared:
            first_two = [
                fold.source for fold, inside in zip(folds, names, strict=True) if shared[0] in inside
            ]
            raise DataError(
                f"{first_two[0]} and {first_two[1]}: {what} '{shared[0]}' is in both, "
                f"{len(shared)} in more than one fold; {remedy}"
            )
    table = pd.concat([fold.table for fold in folds], ignore_index=True)
    return Predictions(table, first.task, ", ".join(fold.source for fold in folds), _records(folds))


def _require_one_task(runs: Sequence[Predictions], called: str) -> None:
    first = runs[0]
    for run in runs:
        if run.classes != first.classes:
            raise DataError(
                f"{first.source} and {run.source} have different classes; combine {called} of one task"
            )


def _records(runs: Sequence[Predictions]) -> tuple[Provenance, ...]:
    return tuple(record for run in runs for record in run.provenance)
