"""Tables of scores by image: read from files, combined over runs, and reduced to breasts or patients."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.catalog import LATERALITIES, VIEWS
from mammo.data.sources.csv_table import CsvTable
from mammo.data.tasks import CLASSES, malignant_classes
from mammo.errors import DataError
from mammo.runs.provenance import Provenance, write_scores

Unit = Literal["image", "breast", "patient"]
Reduce = Literal["mean", "max"]

UNITS: tuple[Unit, ...] = ("image", "breast", "patient")
# Largest accepted difference from 1 of the sum of a row's scores: four scores rounded to two digits.
_ROUNDING = 0.02


@dataclass(frozen=True)
class Predictions:
    """Scores of one model, or combined scores of several models.

    Attributes:
        table: one row per image: `image_id`, `patient_id`, `laterality`, `view`, `density`,
            `abnormality_type`, `subtlety`, `assessment` and `fold` (NA if missing), `label` (the name of the
            class) and `score_<CLASS>` for each class.
        classes: names of the classes, in the order of the task.
        source: origin of the table, shown in messages.
        provenance: record of the weights and data of each run; empty if it is not known.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    source: str
    provenance: tuple[Provenance, ...] = ()

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """N C probabilities."""
        return self.table[[f"score_{name}" for name in self.classes]].to_numpy(dtype=np.float64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """N, index of each image's class."""
        return pd.Index(self.classes).get_indexer(pd.Index(self.table["label"])).astype(np.int64)

    @cached_property
    def images(self) -> NDArray[np.str_]:
        """N, the image ids."""
        return self.table["image_id"].to_numpy(dtype=str)

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """N, the patient of each image."""
        return self.table["patient_id"].to_numpy(dtype=str)

    @cached_property
    def _malignant_classes(self) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(self.classes)), malignant_classes(self.classes))

    @cached_property
    def malignancy(self) -> NDArray[np.float64]:
        """N, the score of malignancy: the sum over the malignant classes."""
        return np.asarray(self.scores[:, self._malignant_classes].sum(axis=1))

    @cached_property
    def folds(self) -> NDArray[np.int64] | None:
        """N, fold of each image; None unless the scores are of the networks of several folds."""
        folds = self.table.get("fold")
        if folds is None or folds.isna().any() or folds.nunique() < 2:
            return None
        return folds.to_numpy(dtype=np.int64)

    @cached_property
    def malignant(self) -> NDArray[np.int64]:
        """N, 1 for a malignant image and 0 for a benign one."""
        return self._malignant_classes[self.labels].astype(np.int64)

    def with_scores(self, scores: NDArray[np.float64], *, source: str | None = None) -> "Predictions":
        """Return the same images with other scores, N C."""
        columns = {f"score_{name}": scores[:, index] for index, name in enumerate(self.classes)}
        return replace(self, table=self.table.assign(**columns), source=source or self.source)

    def write(self, path: Path) -> None:
        """Write the table and its provenance; `read_predictions` reads back exactly the same numbers."""
        write_scores(path, self.table.to_csv(index=False), provenance=self.provenance)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Predictions":
        """Return the predictions of some of the images."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, table=self.table.iloc[positions].reset_index(drop=True))


@dataclass(frozen=True)
class Units:
    """Images, breasts or patients with one score each.

    Attributes:
        score: M, score of malignancy.
        label: M, 1 if any of the unit's images is malignant, else 0.
        cluster: M, patient of each unit.
        fold: M, fold whose network scored the unit; None if all scores are of one network.
    """

    score: NDArray[np.float64]
    label: NDArray[np.int64]
    cluster: NDArray[np.str_]
    fold: NDArray[np.int64] | None = None


def read_predictions(path: Path) -> Predictions:
    """Read a table of predictions as written by training and evaluation.

    Required columns are `image_id`, `patient_id`, `label` and `score_<CLASS>` for each class of one task;
    the scores are probabilities that sum to 1. All other columns are optional. Numbers are read exactly as
    they are written.

    Args:
        path: CSV file.

    Raises:
        DataError: a column is missing, a cell is invalid (the message has its row as a spreadsheet shows
            it), an image occurs twice, or the table has no rows.
    """
    sheet = CsvTable.read(path)
    sheet.require("image_id", "patient_id", "label")
    if sheet.cells.empty:
        raise DataError(f"{path}: no row below the header; name a table with an image in each row")
    classes = _classes(sheet)
    ids = sheet.text("image_id", required=True)
    if ids.duplicated().any():
        row = ids.index[ids.duplicated()][0]
        first = ids.index[ids == ids[row]][0]
        raise sheet.refuse(row, f"image_id '{ids[row]}' is in row {first} already; keep one of them")
    scores = {f"score_{name}": _probabilities(sheet, f"score_{name.lower()}") for name in classes}
    table = pd.DataFrame(
        {
            "image_id": ids,
            "patient_id": sheet.text("patient_id", required=True),
            "laterality": sheet.words("laterality", LATERALITIES),
            "view": sheet.words("view", VIEWS),
            "density": sheet.grades("density", highest=4, letters="ABCD"),
            "abnormality_type": sheet.text("abnormality_type"),
            "subtlety": sheet.grades("subtlety", highest=5),
            "assessment": sheet.grades("assessment", highest=6),
            "label": sheet.words(
                "label", {name: name for name in classes}, required=True, remedy="delete the row"
            ),
            **scores,
            "fold": sheet.numbers("fold").round().astype("Int64"),
        }
    )
    total = table[list(scores)].sum(axis=1)
    wrong = total.index[(total - 1).abs() > _ROUNDING]
    if len(wrong):
        problem = f"the scores sum to {total[wrong[0]]:g} instead of 1; give the probability of each class"
        raise sheet.refuse(wrong[0], problem)
    return Predictions(table.reset_index(drop=True), classes, str(path))


def _classes(sheet: CsvTable) -> tuple[str, ...]:
    """Return the classes of the task whose scores are in the sheet."""
    for classes in CLASSES.values():
        if any(f"score_{name.lower()}" in sheet.cells for name in classes):
            for name in classes:
                if f"score_{name.lower()}" not in sheet.cells:
                    raise DataError(
                        f"{sheet.path}: no column 'score_{name}'; add the probability of each of "
                        f"{', '.join(classes)}"
                    )
            return classes
    known = " or ".join(", ".join(f"score_{name}" for name in classes) for classes in CLASSES.values())
    raise DataError(f"{sheet.path}: no column of scores; add {known}")


def _probabilities(sheet: CsvTable, name: str) -> "pd.Series[float]":
    # `float` returns exactly the number that was written; `pandas.to_numeric` may differ in the last digit
    column = sheet.text(name, required=True)
    numbers = column.map(_number).astype(np.float64)
    wrong = column.index[~numbers.between(0, 1)]
    if len(wrong):
        problem = f"{name} '{column[wrong[0]]}' is no probability; give a number from 0 to 1"
        raise sheet.refuse(wrong[0], problem)
    return numbers


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def by_unit(predictions: Predictions, unit: Unit = "image", *, reduce: Reduce = "mean") -> Units:
    """Return the malignancy by image, by breast (patient and laterality) or by patient.

    Args:
        predictions: predictions of images.
        unit: unit of the result.
        reduce: how the scores of a unit's images become one score.

    Raises:
        DataError: `unit` is `breast` and an image has no laterality.
    """
    score, label, patients = predictions.malignancy, predictions.malignant, predictions.patients
    folds = predictions.folds
    if unit == "image":
        return Units(score, label, patients, folds)
    keys = predictions.table[["patient_id"]]
    if unit == "breast":
        laterality = predictions.table["laterality"]
        if laterality.isna().any():
            raise DataError(
                f"{predictions.source}: {laterality.isna().sum()} of {len(laterality)} images have no "
                "laterality, so results by breast are left out; fill in that column to get them"
            )
        keys = keys.assign(laterality=laterality)
    index = keys.groupby(list(keys.columns), sort=True).ngroup().to_numpy()
    count = int(index.max()) + 1
    _, first = np.unique(index, return_index=True)
    any_malignant = np.zeros(count, np.int64)
    np.maximum.at(any_malignant, index, label)
    if reduce == "max":
        reduced = np.full(count, -np.inf)
        np.maximum.at(reduced, index, score)
    else:
        reduced = np.bincount(index, score) / np.bincount(index)
    return Units(reduced, any_malignant, patients[first], None if folds is None else folds[first])


def aligned(runs: Sequence[Predictions]) -> list[Predictions]:
    """Return the tables of all runs with the images in the order of the first table.

    Raises:
        DataError: two tables differ in their images, or in an image's patient or label.
    """
    first = runs[0]
    found = [first]
    for other in runs[1:]:
        both = f"{first.source} and {other.source}"
        differing = sorted(set(first.images).symmetric_difference(other.images))
        if differing:
            raise DataError(
                f"{both}: {len(differing)} images are in one table only, the first is '{differing[0]}'; "
                "evaluate the runs on the same split"
            )
        rows = pd.Index(other.images).get_indexer(pd.Index(first.images))
        ordered = other.take(rows)
        for what, left, right in (
            ("patient", first.patients, ordered.patients),
            ("label", _names(first, ordered), _names(ordered, first)),
        ):
            unlike = np.flatnonzero(left != right)
            if unlike.size:
                raise DataError(
                    f"{both}: the {what} of {unlike.size} of {len(rows)} images differs, first for "
                    f"'{first.images[unlike[0]]}'; evaluate the runs on the same data"
                )
        found.append(ordered)
    return found


def _names(predictions: Predictions, other: Predictions) -> NDArray[np.str_]:
    """Return N labels to compare with the other table: classes if both have the same, else malignancy."""
    if predictions.classes == other.classes:
        return predictions.table["label"].to_numpy(dtype=str)
    return predictions.malignant.astype(str)


def ensemble(runs: Sequence[Predictions]) -> Predictions:
    """Average the scores of the runs.

    Raises:
        DataError: the runs have different tasks or images.
    """
    first = runs[0]
    for run in runs:
        if run.classes != first.classes:
            raise DataError(
                f"{first.source} and {run.source} have different classes; combine runs of one task"
            )
    scores = np.mean([run.scores for run in aligned(runs)], axis=0)
    combined = first.with_scores(scores, source=", ".join(run.source for run in runs))
    return replace(combined, provenance=_records(runs))


def out_of_fold(folds: Sequence[Predictions]) -> Predictions:
    """Concatenate the tables of all folds; each image is scored by the model not trained on it.

    Raises:
        DataError: the folds have different tasks, or share an image or a patient.
    """
    first = folds[0]
    for fold in folds:
        if fold.classes != first.classes:
            raise DataError(
                f"{first.source} and {fold.source} have different classes; combine folds of one task"
            )
    for what, remedy in (
        ("image", "name each fold once"),
        ("patient", "split by patient, or the scores are not out of fold"),
    ):
        names = [np.unique(fold.images if what == "image" else fold.patients).tolist() for fold in folds]
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
    return Predictions(table, first.classes, ", ".join(fold.source for fold in folds), _records(folds))


def _records(runs: Sequence[Predictions]) -> tuple[Provenance, ...]:
    return tuple(record for run in runs for record in run.provenance)
