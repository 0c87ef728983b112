"""Samples: the images that one forward pass scores together, each at its place."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.config.task.task_checks import patch_size
from mammo.errors import DataError

SampleUnit = Literal["image", "patch", "breast", "exam"]
SIDES = ("LEFT", "RIGHT")
PLURALS = {"image": "images", "patch": "patches", "breast": "breasts", "exam": "exams", "patient": "patients"}
_FACTS = ("view", "density", "abnormality_type", "subtlety", "assessment")
# Columns of a table of predictions, and the beginnings of the names of others.
_OF_PREDICTIONS = (
    "sample_id",
    "unit",
    "image_id",
    "patient_id",
    "laterality",
    *_FACTS,
    "label",
    "fold",
    "group",
)
_SCORES = ("score_", "label_")


def sample_words(unit: str) -> dict[str, str]:
    """Return what a sample, several samples and one of them are called in results.

    Example:
        >>> sample_words("exam")
        {'sample': 'exam', 'samples': 'exams', 'a_sample': 'an exam'}
    """
    article = "an" if unit[0] in "aeiou" else "a"
    return {"sample": unit, "samples": PLURALS[unit], "a_sample": f"{article} {unit}"}


@dataclass(frozen=True)
class Samples:
    """N samples of V places each.

    Attributes:
        table: N rows with `sample_id`, `patient_id`, `laterality` (NA for an exam) and `group` (int64,
            0 to G - 1 in ascending order). The samples of a group have the same `sample_id`; they are all
            images of one breast or exam, and evaluation averages their scores.
        rows: N V, positions in the images table, -1 where the view is missing.
    """

    table: pd.DataFrame
    rows: NDArray[np.int64]


def views_of(unit: SampleUnit, views: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the views that enter, None for all: a breast or exam has CC and MLO unless others are given."""
    if views is None:
        return ("CC", "MLO") if unit in ("breast", "exam") else None
    return tuple(views)


def in_views(images: pd.DataFrame, *, unit: SampleUnit, views: Sequence[str] | None) -> NDArray[np.bool_]:
    """Return which of N images have one of the views.

    Args:
        images: images table, N rows.
        unit: kind of samples.
        views: see `views_of`.

    Raises:
        DataError: no image has one of the views; or the unit is `breast` or `exam`, and an image has no view
            or no laterality.
    """
    chosen = views_of(unit, views)
    if chosen is None:
        return np.ones(len(images), dtype=bool)
    entering = _entering(images, unit, chosen)
    if not entering.any():
        raise DataError(f"{_views_sentence(images, entering, chosen)}; choose from the views of the data")
    return entering


def other_views_sentence(
    images: pd.DataFrame, entering: NDArray[np.bool_], *, unit: SampleUnit, views: Sequence[str] | None
) -> str:
    """Return how many images have other views, and which; empty if none has.

    Args:
        images: images table, N rows.
        entering: N, the result of `in_views`.
        unit: kind of samples.
        views: see `views_of`.
    """
    return "" if entering.all() else _views_sentence(images, entering, views_of(unit, views) or ())


def sample_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments `unit` and `views` of `group_samples` from the configuration of data.

    The configuration of an older run has neither: its samples are images.
    """
    unit: SampleUnit = data.get("sample_unit", "image")
    return {"unit": unit, "views": views_of(unit, data.get("views")) or ()}


def sample_size(data: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of what the network sees, from the configuration of data."""
    if data.get("sample_unit") == "patch":
        return patch_size(data["patch"]["size"])
    return data["height"], data["width"]


def sides_of(unit: SampleUnit, views: Sequence[str]) -> tuple[int, ...]:
    """Return the side of each place, an index: of a breast or exam, each side has one place for each view.

    Example:
        >>> sides_of("exam", ["CC", "MLO"])
        (0, 0, 1, 1)
        >>> sides_of("breast", ["CC", "MLO"])
        (0, 0)
    """
    if unit == "exam":
        return (0,) * len(views) + (1,) * len(views)
    return (0,) * (len(views) if unit == "breast" else 1)


def place_name(unit: SampleUnit, laterality: str, view: str) -> str:
    """Return the name of the place of an image in a breast or exam."""
    return f"{laterality}_{view}" if unit == "exam" else view


def place_names(unit: SampleUnit, views: Sequence[str]) -> tuple[str, ...]:
    """Return the name of each place of a breast or exam.

    Example:
        >>> place_names("exam", ["CC", "MLO"])
        ('LEFT_CC', 'LEFT_MLO', 'RIGHT_CC', 'RIGHT_MLO')
        >>> place_names("breast", ["CC", "MLO"])
        ('CC', 'MLO')
    """
    sides = SIDES if unit == "exam" else SIDES[:1]
    return tuple(place_name(unit, side, view) for side in sides for view in views)


def part_names(unit: SampleUnit, views: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the parts of a sample that have scores: its places and, of an exam, its sides."""
    return (*place_names(unit, views), *(SIDES if unit == "exam" else ()))


def group_samples(
    images: pd.DataFrame,
    *,
    unit: SampleUnit,
    views: Sequence[str] = ("CC", "MLO"),
    draw: tuple[int, int] | None = None,
) -> Samples:
    """Group images into samples.

    `image` and `patch`: one sample for each image, in the order of the table, whatever its view.
    `breast`: the images of one patient, laterality and exam, with one place for each view. An exam is an
    `exam_id` or, without, a `study_date` (columns that may be absent; images without either are of one exam).
    `exam`: the images of one patient and exam, first the places of the left breast, then of the right. A
    group has as many samples as it has images of its most frequent place; a place with fewer images repeats
    them, so that every image with one of the views is in at least one sample. These samples are in the order
    of patient, exam and laterality, independent of the order of the table.

    Args:
        images: images table, N rows.
        unit: kind of samples.
        views: views of a breast, in the order of their places; images with other views are in no sample.
        draw: seed and epoch; the images of each place are then combined at random, anew in each epoch.

    Raises:
        DataError: the unit is `breast` or `exam`, and an image has no view or no laterality, or two groups
            have the same name.
    """
    if unit in ("image", "patch"):
        table = images[["image_id", "patient_id", "laterality"]].set_axis(
            ["sample_id", "patient_id", "laterality"], axis=1
        )
        every = np.arange(len(images), dtype=np.int64)
        return Samples(table.reset_index(drop=True).assign(group=every), every[:, None])
    position = np.flatnonzero(_entering(images, unit, views))
    found = images.iloc[position]
    exam, patient, date = _exams(found)
    # one number for each place, in the order of patient, study, side and view
    cell = exam * 2 + (found["laterality"] == SIDES[1]).to_numpy(dtype=np.int64)
    cell = cell * len(views) + sum(
        (found["view"] == view).to_numpy(dtype=np.int64) * index for index, view in enumerate(views)
    )
    order = _order(cell, found["image_id"], draw)
    places = len(sides_of(unit, views))
    whole, place = np.divmod(cell[order], places)
    begins = np.diff(whole, prepend=-1) > 0
    group = np.cumsum(begins) - 1

    groups = int(begins.sum())
    count = np.bincount(group * places + place, minlength=groups * places).reshape(groups, places)
    start = (np.cumsum(count) - count.ravel()).reshape(groups, places)
    size = count.max(axis=1)
    of_sample = np.repeat(np.arange(groups, dtype=np.int64), size)
    number = np.arange(of_sample.size) - np.repeat(np.cumsum(size) - size, size)  # within the group
    present = count[of_sample] > 0
    chosen = (start[of_sample] + number[:, None] % np.maximum(count[of_sample], 1))[present]
    rows = np.full(present.shape, -1, dtype=np.int64)
    rows[present] = position[order[chosen]]

    first = order[begins]
    names = _names(found.iloc[first], exam[first], patient[first], date.iloc[first], unit)
    return Samples(names.take(of_sample).reset_index(drop=True).assign(group=of_sample), rows)


def label_of_groups(
    labels: NDArray[np.int64],
    positives: Sequence[int],
    samples: Samples,
    *,
    places: slice = slice(None),
) -> NDArray[np.int64]:
    """Return the label of the group of each sample.

    It is the greatest positive class of its images, else the greatest class: a breast is malignant if any of
    its images is. Images in no class (-1) have no effect; a group without others has the label -1.

    Args:
        labels: index of the class of each row of the images table, -1 for no class.
        positives: indices of the positive classes.
        samples: N samples of this table.
        places: places whose images count, such as those of one side.

    Returns:
        N, indices of classes.
    """
    rows = samples.rows[:, places]
    above = int(labels.max(initial=-1)) + 1  # positive classes rank above all others
    rank = labels + above * np.isin(labels, list(positives))
    of_sample = np.where(rows < 0, -1, rank[rows] if len(rank) else -1).max(axis=1)
    group: NDArray[np.int64] = samples.table["group"].to_numpy()
    best = np.full(int(group.max(initial=-1)) + 1, -1, dtype=np.int64)
    np.maximum.at(best, group, of_sample)
    best[best >= above] -= above
    return best[group]


def carried_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of a data set that a table of predictions can have beside its own.

    Example:
        >>> carried_columns(["age", "view", "label", "score_BENIGN"])
        ['age']
    """
    return [name for name in names if name not in _OF_PREDICTIONS and not name.startswith(_SCORES)]


def facts_of_groups(
    images: pd.DataFrame, samples: Samples, *, unit: SampleUnit, own: Iterable[str] = ()
) -> pd.DataFrame:
    """Return a table of the G groups for their predictions.

    Where the images of a group differ, its view and the user's own columns are missing, its subtlety is the
    lowest, its density and assessment the highest, and its abnormality type `both`, as the values of an image
    are derived from its lesions.

    Args:
        images: images table.
        samples: samples of this table.
        unit: what a group is.
        own: the user's own columns of the table, of which those of `carried_columns` are carried.

    Returns:
        `sample_id`, `unit`, `image_id` (ids of the images, separated by semicolons), `patient_id`,
        `laterality`, `view`, `density`, `abnormality_type`, `subtlety`, `assessment` and the user's columns.
    """
    carried = carried_columns(own)
    group, present = samples.table["group"].to_numpy(), samples.rows >= 0
    pairs = pd.DataFrame(
        {"group": np.repeat(group, present.sum(axis=1)), "place": samples.rows[present]}
    ).drop_duplicates()
    names = samples.table.drop_duplicates("group").set_index("group")
    held = images.reset_index(drop=True).loc[pairs["place"]].reset_index(drop=True)
    if len(pairs) == len(names):  # an image each, which is much faster
        found = held.set_index(pairs["group"]).loc[names.index]
    else:
        groups = held.groupby(pairs["group"].to_numpy())
        alike = ["view", "abnormality_type", *carried]
        several = groups[alike].nunique() > 1
        found = groups[alike].first()
        for name in ("view", *carried):
            found[name] = found[name].mask(several[name])
        found["abnormality_type"] = found["abnormality_type"].mask(several["abnormality_type"], "both")
        found = found.assign(
            image_id=groups["image_id"].agg(";".join),
            density=groups["density"].max(),
            subtlety=groups["subtlety"].min(),
            assessment=groups["assessment"].max(),
        )
    table = names.assign(unit=unit, **{name: found[name] for name in ("image_id", *_FACTS, *carried)})
    columns = ["sample_id", "unit", "image_id", "patient_id", "laterality", *_FACTS, *carried]
    return table[columns].reset_index(drop=True)


def side_labels(labels: NDArray[np.int64], positives: Sequence[int], samples: Samples) -> NDArray[np.int64]:
    """Return the labels of the left and the right side of each exam, N 2; -1 for a side without images."""
    half = samples.rows.shape[1] // 2
    sides = (slice(half), slice(half, None))
    return np.stack([label_of_groups(labels, positives, samples, places=side) for side in sides], axis=1)


def _entering(images: pd.DataFrame, unit: SampleUnit, views: Sequence[str]) -> NDArray[np.bool_]:
    entering: NDArray[np.bool_] = images["view"].isin(list(views)).to_numpy(dtype=bool)
    if unit in ("breast", "exam"):
        _refuse_missing(images, "view", unit)
        _refuse_missing(images[entering], "laterality", unit)
    return entering


def _views_sentence(images: pd.DataFrame, entering: NDArray[np.bool_], views: Sequence[str]) -> str:
    others = images["view"][~entering]
    reasons = [f"{others.isna().sum()} without view"] if others.isna().any() else []
    reasons += [f"{count} with view {view}" for view, count in Counter(others.dropna()).most_common()]
    return (
        f"data.views=[{','.join(views)}]: {len(others)} of {len(images)} images have none of these views "
        f"({', '.join(reasons)})"
    )


def _refuse_missing(images: pd.DataFrame, column: str, unit: SampleUnit) -> None:
    missing = images[column].isna().to_numpy()
    if missing.any():
        raise DataError(
            f"data.sample_unit={unit}: {missing.sum()} of {len(images)} images have no {column}, the first "
            f"is '{images['image_id'].iloc[int(missing.argmax())]}'; fill in the column '{column}' of the "
            "table, or give data.sample_unit=image"
        )


def _exams(images: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], "pd.Series[str]"]:
    """Return numbers of exam and patient, which increase with patient and exam, and the exams' names."""
    none = pd.Series(pd.NA, index=images.index, dtype="string")
    names = [images[name].astype("string") if name in images else none for name in ("exam_id", "study_date")]
    date = names[0].fillna(names[1]).fillna("")
    patient = pd.factorize(images["patient_id"], sort=True)[0].astype(np.int64)
    study, dates = pd.factorize(date, sort=True)
    return patient * max(len(dates), 1) + study, patient, date


def _order(
    cell: NDArray[np.int64], image_ids: "pd.Series[str]", draw: tuple[int, int] | None
) -> NDArray[np.int64]:
    """Return the order of N images by cell, within a cell by image_id or, if drawn, at random."""
    order = np.argsort(cell, kind="stable")
    ordered = cell[order]
    alone = (np.diff(ordered, prepend=-1) != 0) & (np.diff(ordered, append=-1) != 0)
    among = order[~alone]  # only these are sorted by text, which is slow
    among = among[np.asarray(image_ids.iloc[among].array.argsort())]
    keys = [cell[among]] if draw is None else [np.random.default_rng(draw).random(among.size), cell[among]]
    order[~alone] = among[np.lexsort(keys)]
    return order


def _names(
    images: pd.DataFrame,
    exam: NDArray[np.int64],
    patient: NDArray[np.int64],
    date: "pd.Series[str]",
    unit: SampleUnit,
) -> pd.DataFrame:
    """Return the names of groups: one image of each group is given, with its exam, patient and study date."""
    _, first = np.unique(exam, return_index=True)
    several = np.bincount(patient[first], minlength=1)[patient] > 1
    breast = unit == "breast"
    names = images["patient_id"] + "_" + images["laterality"] if breast else images["patient_id"]
    dated = several & (date != "").to_numpy(dtype=bool)
    names = names.where(~dated, names + "_" + date)
    if dated.any() and names.duplicated().any():
        twice = names[names.duplicated()].iloc[0]
        raise DataError(
            f"data.sample_unit={unit}: '{twice}' names two {unit}s, by patient_id and exam; rename a patient"
        )
    laterality = images["laterality"] if breast else pd.Series(pd.NA, index=images.index, dtype="string")
    return pd.DataFrame({"sample_id": names, "patient_id": images["patient_id"], "laterality": laterality})
