"""Tables of scores by sample: read from files, combined over runs, and reduced to breasts or patients."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.catalog import VIEWS
from mammo.data.samples import PLURALS, SIDES, carried_columns
from mammo.data.tables.text_table import TextTable, column_name, word_key
from mammo.data.tables.vocabulary import assessments, densities, places
from mammo.data.tasks import MALIGNANCY, Task
from mammo.errors import DataError
from mammo.runs.provenance import Provenance, write_scores

Unit = Literal["image", "patch", "breast", "exam", "patient"]
Reduce = Literal["mean", "max"]

UNITS: tuple[Unit, ...] = get_args(Unit)
# Units with results for each kind of sample; a patient is none for patches, most of which have no lesion.
_UNITS_OF: dict[Unit, tuple[Unit, ...]] = {
    "image": ("image", "breast", "patient"),
    "patch": ("patch",),
    "breast": ("breast", "patient"),
    "exam": ("exam", "breast", "patient"),
}
# Parts of a sample that may have a score of their own: the views of a breast; those and the sides of an exam.
PLACES = (*VIEWS, *(f"{side}_{view}" for side in SIDES for view in VIEWS), *SIDES)
_ROW: tuple[Unit, ...] = ("image", "patch", "breast", "exam")  # what a row of a table may be
# Largest accepted difference from 1 of the sum of a row's scores: four scores rounded to two digits.
_ROUNDING = 0.02


@dataclass(frozen=True)
class Predictions:
    """Scores of one model, or combined scores of several models.

    Attributes:
        table: one row per sample: `sample_id`, `unit` (what a sample is), `image_id` (ids of its images,
            separated by semicolons), `patient_id`, `laterality`, `view`, `density`, `abnormality_type`,
            `subtlety`, `assessment` and `fold` (NA if missing), `label` (the name of the class) and
            `score_<CLASS>` for each class; of views and sides also the columns of `parts_columns`; further
            columns of the data.
        task: task of the scores.
        source: origin of the table, shown in messages.
        provenance: record of the weights and data of each run; empty if it is not known.
    """

    table: pd.DataFrame
    task: Task
    source: str
    provenance: tuple[Provenance, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the task."""
        return self.task.classes

    @cached_property
    def scores(self) -> NDArray[np.float64]:
        """N C probabilities."""
        return self.table[[f"score_{name}" for name in self.classes]].to_numpy(dtype=np.float64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """N, index of each sample's class."""
        return pd.Index(self.classes).get_indexer(pd.Index(self.table["label"])).astype(np.int64)

    @cached_property
    def samples(self) -> NDArray[np.str_]:
        """N, the sample ids; those of images are their image ids."""
        return self.table["sample_id"].to_numpy(dtype=str)

    @cached_property
    def images_table(self) -> pd.DataFrame:
        """The table with a row for each image of each sample."""
        if self.unit == "image":
            return self.table
        return self.table.assign(image_id=self.table["image_id"].str.split(";")).explode(
            "image_id", ignore_index=True
        )

    @cached_property
    def image_ids(self) -> list[str]:
        """The ids of all images, sample by sample."""
        return self.images_table["image_id"].tolist()

    @cached_property
    def unit(self) -> Unit:
        """What a sample is."""
        unit: Unit = self.table["unit"].iloc[0]
        return unit

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """The units that have results: the samples themselves first."""
        return _UNITS_OF[self.unit]

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """N, the patient of each sample."""
        return self.table["patient_id"].to_numpy(dtype=str)

    @cached_property
    def _positive_classes(self) -> NDArray[np.bool_]:
        return np.isin(np.arange(len(self.classes)), self.task.positives)

    @cached_property
    def malignancy(self) -> NDArray[np.float64]:
        """N, the score of malignancy, or of positive samples: the sum over the positive classes."""
        return np.asarray(self.scores[:, self._positive_classes].sum(axis=1))

    @property
    def part_columns(self) -> list[str]:
        """Columns of the scores of views and sides."""
        whole = {f"score_{name}" for name in self.classes}
        return [name for name in map(str, self.table) if name.startswith("score_") and name not in whole]

    def part(self, place: str) -> NDArray[np.float64] | None:
        """Return N scores as `malignancy`, of one of `PLACES` alone; NaN where it is missing.

        Returns:
            None if the network does not score this place by itself.
        """
        columns = [f"score_{name}_{place}" for name in self.task.positive]
        if not columns or not set(columns) <= set(self.part_columns):
            return None
        scores = self.table[columns].to_numpy(dtype=np.float64).sum(axis=1)
        return None if np.isnan(scores).all() else np.asarray(scores)

    @cached_property
    def folds(self) -> NDArray[np.int64] | None:
        """N, fold of each sample; None unless the scores are of the networks of several folds."""
        folds = self.table.get("fold")
        if folds is None or folds.isna().any() or folds.nunique() < 2:
            return None
        return folds.to_numpy(dtype=np.int64)

    @cached_property
    def malignant(self) -> NDArray[np.int64]:
        """N, 1 for a malignant (positive) sample and 0 for a benign one."""
        return self._positive_classes[self.labels].astype(np.int64)

    def with_scores(self, scores: NDArray[np.float64], *, source: str | None = None) -> "Predictions":
        """Return the same samples with other scores, N C."""
        columns = {f"score_{name}": scores[:, index] for index, name in enumerate(self.classes)}
        return replace(self, table=self.table.assign(**columns), source=source or self.source)

    def write(self, path: Path) -> None:
        """Write the table and its provenance; `read_predictions` reads back exactly the same numbers."""
        write_scores(path, self.table.to_csv(index=False), provenance=self.provenance)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> "Predictions":
        """Return the predictions of some of the samples."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        return replace(self, table=self.table.iloc[positions].reset_index(drop=True))


@dataclass(frozen=True)
class Units:
    """Images, breasts, exams or patients with one score each.

    Attributes:
        score: M, score of malignancy.
        label: M, 1 if any of the unit's images is malignant, else 0.
        cluster: M, patient of each unit.
        fold: M, fold whose network scored the unit; None if all scores are of one network.
        words: what positive and negative units and the score are called, see `Task.words`.
    """

    score: NDArray[np.float64]
    label: NDArray[np.int64]
    cluster: NDArray[np.str_]
    fold: NDArray[np.int64] | None = None
    words: Mapping[str, str] = field(default_factory=lambda: dict(MALIGNANCY))


def read_predictions(path: Path, *, task: Task | None = None) -> Predictions:
    """Read a table of predictions as written by training and evaluation.

    Required columns are `sample_id` or `image_id`, `patient_id`, `label` and `score_<CLASS>` for each class
    of the task; the scores are probabilities that sum to 1. All other columns are optional, those of the
    user are kept as text; without `unit`, the samples are images. Numbers are read exactly as written.

    Args:
        path: CSV file.
        task: task of the scores; None for the one of `conf/task` whose classes the columns name.

    Raises:
        DataError: a column is missing, a cell is invalid (the message has its row as a spreadsheet shows
            it), a sample occurs twice, the samples are of several units, or the table has no rows.
    """
    sheet = TextTable.read(path)
    key = "sample_id" if "sample_id" in sheet.cells else "image_id"
    sheet.require(key, "patient_id", "label")
    if sheet.cells.empty:
        raise DataError(f"{path}: no row below the header; name a table with an image in each row")
    task = task or _shipped_task(sheet)
    _require_scores(sheet, task)
    ids = sheet.text(key, required=True)
    if ids.duplicated().any():
        row = ids.index[ids.duplicated()][0]
        first = ids.index[ids == ids[row]][0]
        raise sheet.refuse(row, f"{key} '{ids[row]}' is in row {first} already; keep one of them")
    laterality, view = places(sheet, laterality="laterality", view="view")
    scores = {f"score_{name}": _probabilities(sheet, column_name(f"score_{name}")) for name in task.classes}
    table = pd.DataFrame(
        {
            "sample_id": ids,
            "unit": _unit(sheet),
            "image_id": sheet.text("image_id").fillna(ids),
            "patient_id": sheet.text("patient_id", required=True),
            "laterality": laterality,
            "view": view,
            "density": densities(sheet, "density"),
            "abnormality_type": sheet.text("abnormality_type"),
            "subtlety": sheet.grades("subtlety", highest=5),
            "assessment": assessments(sheet, "assessment"),
            "label": sheet.words(
                "label",
                {word_key(name): name for name in task.classes},
                required=True,
                remedy="delete the row",
            ),
            **scores,
            "fold": sheet.numbers("fold").round().astype("Int64"),
            **_parts(sheet, task),
        }
    )
    further = [name for name in carried_columns(map(str, sheet.cells)) if name not in table]
    for name in further:  # where a table that is written has them
        table.insert(list(table).index("label"), name, sheet.text(name))
    total = table[list(scores)].sum(axis=1)
    wrong = total.index[(total - 1).abs() > _ROUNDING]
    if len(wrong):
        problem = f"the scores sum to {total[wrong[0]]:g} instead of 1; give the probability of each class"
        raise sheet.refuse(wrong[0], problem)
    return Predictions(table.reset_index(drop=True), task, str(path))


def _unit(sheet: TextTable) -> "pd.Series[str]":
    """Return the unit of each row, which is the same in all."""
    units = sheet.words("unit", {word_key(name): name for name in _ROW}).fillna("image")
    other = units.index[units != units.iloc[0]]
    if len(other):
        problem = f"unit '{units[other[0]]}' is not that of the rows above, '{units.iloc[0]}'"
        raise sheet.refuse(other[0], f"{problem}; give tables of one unit")
    return units


def _parts(sheet: TextTable, task: Task) -> dict[str, "pd.Series[Any]"]:
    """Return the columns of views and sides, see `parts_columns`."""
    words = {word_key(name): name for name in task.classes}
    found: dict[str, pd.Series[Any]] = {}
    for place in PLACES:
        names = {name: column_name(f"score_{name}_{place}") for name in task.classes}
        if all(name in sheet.cells for name in names.values()):
            for name, column in names.items():
                cells = sheet.text(column).fillna("nan")
                found[f"score_{name}_{place}"] = cells.map(_number).astype(np.float64)
            if place in SIDES:
                found[f"label_{place}"] = sheet.words(column_name(f"label_{place}"), words)
    return found


def _shipped_task(sheet: TextTable) -> Task:
    """Return the task of `conf/task` that has the most scores in the sheet, of several the smallest."""

    def rank(task: Task) -> tuple[int, int]:
        return sum(column_name(f"score_{name}") in sheet.cells for name in task.classes), -len(task.classes)

    best = max(Task.all_shipped(), key=rank)
    if rank(best)[0] == 0:
        raise DataError(
            f"{sheet.path}: no column of scores; add one for each class, such as score_BENIGN and "
            "score_MALIGNANT, and give task=NAME for a task of your own"
        )
    return best


def _require_scores(sheet: TextTable, task: Task) -> None:
    for name in task.classes:
        if column_name(f"score_{name}") not in sheet.cells:
            raise DataError(
                f"{sheet.path}: no column 'score_{name}'; add the probability of each of "
                f"{', '.join(task.classes)}"
            )


def _probabilities(sheet: TextTable, name: str) -> "pd.Series[float]":
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


def by_unit(predictions: Predictions, unit: Unit | None = None, *, reduce: Reduce = "mean") -> Units:
    """Return the malignancy by sample, by breast (patient and laterality) or by patient.

    Args:
        predictions: predictions of samples.
        unit: unit of the result, one of `predictions.units`; None for the samples. The breasts of exams have
            the scores that the network gives to each side.
        reduce: how the scores of a unit's samples become one score.

    Raises:
        DataError: `unit` is no unit of the samples, or is `breast` and an image has no laterality, or no side
            of an exam has a score.
    """
    if unit == "breast" and predictions.unit == "exam":
        predictions = _sides(predictions)
    if unit in (None, predictions.unit):
        score, label, patients = predictions.malignancy, predictions.malignant, predictions.patients
        return Units(score, label, patients, predictions.folds, predictions.task.words)
    return by_name(predictions, unit, reduce=reduce)[1]


def by_name(
    predictions: Predictions, unit: Unit, *, reduce: Reduce = "mean"
) -> tuple["pd.Index[Any]", Units]:
    """Return the malignancy by breast or by patient, over all exams of a patient, with their names.

    Tables of different samples have the same names for the same breasts and patients.

    Returns:
        Names in ascending order, M tuples of patient and, of breasts, laterality; and the M units.

    Raises:
        DataError: see `by_unit`.
    """
    if unit not in predictions.units:
        raise DataError(
            f"{predictions.source}: a row is one {predictions.unit}, so there are no results by {unit}; "
            f"choose from {', '.join(predictions.units)}"
        )
    if unit == "breast" and predictions.unit == "exam":
        predictions = _sides(predictions)
    score, label, folds = predictions.malignancy, predictions.malignant, predictions.folds
    keys = predictions.table[["patient_id"]]
    if unit == "breast":
        laterality = predictions.table["laterality"]
        if laterality.isna().any():
            raise DataError(
                f"{predictions.source}: {laterality.isna().sum()} of {len(laterality)} "
                f"{PLURALS[predictions.unit]} have no laterality, so results by breast are left out; fill in "
                "that column to get them"
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
    names = pd.Index(keys.iloc[first].itertuples(index=False, name=None))
    folds = None if folds is None else folds[first]
    return names, Units(reduced, any_malignant, predictions.patients[first], folds, predictions.task.words)


def counted(n: Mapping[str, int], unit: Unit) -> str:
    """Return the number of samples as text, with that of the images where a sample is not one."""
    several = "" if unit in ("image", "patch") else f" ({n['images']} images)"
    return f"{n[PLURALS[unit]]} {PLURALS[unit]}{several}"


def _sides(predictions: Predictions) -> Predictions:
    """Return the predictions of each side of exams, as those of breasts."""
    tables = []
    for side in SIDES:
        columns = {f"score_{name}_{side}": f"score_{name}" for name in predictions.classes}
        if not columns.keys() <= set(predictions.table.columns):
            raise DataError(
                f"{predictions.source}: no column '{next(iter(columns))}', so results by breast are left "
                "out; evaluate the run again to get them"
            )
        own = predictions.table.drop(columns=["label", *columns.values()])
        own = own.rename(columns={**columns, f"label_{side}": "label"}).dropna(subset="label")
        tables.append(own.assign(laterality=side, unit="breast", sample_id=own["sample_id"] + f"_{side}"))
    return replace(predictions, table=pd.concat(tables, ignore_index=True))
