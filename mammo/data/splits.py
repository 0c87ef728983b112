"""Training, validation and test sets by patient: all images of a patient are in the same set."""

import logging
import os
import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mammo.data.tables.text_table import TextTable
from mammo.errors import ConfigError, DataError

log = logging.getLogger(__name__)

SPLITS = ("official", "clean", "random", "kfold", "file")
_SIDE_OF = {
    "TRAIN": "train",
    "TRAINING": "train",
    "VAL": "val",
    "VALID": "val",
    "VALIDATION": "val",
    "TEST": "test",
}
_NAME_COLUMNS = ("image_id", "image_path", "image_file_path")
# Path of a full image in a case file.
_CASE = re.compile(r"(?:Mass|Calc)-(Training|Test)_(P_\d+_(?:LEFT|RIGHT)_(?:CC|MLO))")
# Reason why an image is in none of the sets of a split; `random` uses every image.
_IN_TEST = "the patient is in the official test set too"
_NOT_IN_SPLIT = {
    "official": _IN_TEST,
    "kfold": _IN_TEST,
    "clean": "the patient is in the official training set too",
    "file": "not named in data.split_file",
}
# A split file may name a few images that could not be prepared; a larger share is an error.
_UNKNOWN_TOLERANCE = 0.05


@dataclass(frozen=True)
class Split:
    """Sorted image ids of the three sets."""

    train: list[str]
    val: list[str]
    test: list[str]


def make_split(
    images: pd.DataFrame,
    *,
    split: str,
    seed: int,
    fold: int = 0,
    folds: int = 5,
    val_fraction: float = 0.2,
    sample: Sequence[int] | None = None,
    split_file: Path | None = None,
    among: Collection[str] | None = None,
) -> Split:
    """Split images by patient, stratified by malignancy and, where known, by abnormality type.

    In CBIS-DDSM some patients are in both official splits once calcifications and masses are merged, and are
    removed from one of them: `official` keeps the whole test set and removes them from training and
    validation, `clean` keeps the whole training set and removes them from the test set.

    Args:
        images: Images table; the order of its rows has no effect.
        split: `official` or `clean`: the release's test set, and `val_fraction` of the other patients for
            validation; `random`: 70 / 20 / 10 % of the patients; `kfold`: one of `folds` parts for
            validation, the others for training, and the test set of `official` where there is one; `file`:
            the sets of `split_file`.
        seed: Seed of the random choice of patients.
        fold: Index of the validation part of `kfold`, 0 to folds - 1.
        folds: Number of parts of `kfold`, 2 to the number of patients.
        val_fraction: Share of the development patients used for validation, between 0 and 1.
        sample: Numbers of images of train, val and test, drawn patient by patient with the share of
            malignant images of the whole set; None keeps all images.
        split_file: A CSV file with a column `split` (train, val, test), or a folder with `train`, `val` and
            `test` as `.csv` or, one name a line, as `.txt`. A name is an image id or a path, in a CSV file in
            the column `image_id`, `image_path` or `image file path`; other columns are not read.
        among: Ids of the images that may be in the sets; None for all. A patient is in the same set whatever
            the task, because the others are left out after the split.

    Raises:
        ConfigError: A value is out of range, or `sample` exceeds the number of images of a set.
        DataError: The images cannot be split in this way, or a file puts a patient in two sets.
    """
    if images.empty:
        raise DataError(
            "there is no image to split; see rejected.csv in the folder of the store for the reasons"
        )
    images = images.reset_index(drop=True).sort_values("image_id", ignore_index=True)
    rng = np.random.default_rng(seed)
    if split == "official" or split == "clean":
        sides = _official(images, rng, clean=split == "clean", val_fraction=val_fraction)
    elif split == "random":
        sides = _random(images, rng)
    elif split == "kfold":
        sides = _kfold(images, rng, fold=fold, folds=folds)
    elif split == "file":
        sides = _from_file(images, split_file)
    else:
        raise ConfigError(f"data.split={split}: no such split; choose from {', '.join(SPLITS)}")
    _refuse_shared_patients(images, sides, split)
    if among is not None:
        sides = Split(
            **{side: [name for name in ids if name in among] for side, ids in asdict(sides).items()}
        )
    return sides if sample is None else _sampled(images, sides, sample, seed)


def left_out(
    images: pd.DataFrame, sides: Split, *, views: Collection[str] | None = None, **settings: Any
) -> pd.DataFrame:
    """Return the images that are in none of the three sets, each with the reason.

    Args:
        images: Images table.
        sides: Result of `make_split` for these images.
        views: Views of the images that may be in the sets; None for all.
        settings: The other arguments of that call.

    Returns:
        `image_id`, `patient_id` and `reason`, sorted by `image_id`.
    """
    sample = settings.get("sample")
    whole = sides if sample is None else make_split(images, **settings | {"sample": None})
    used, available = ({name for ids in asdict(split).values() for name in ids} for split in (sides, whole))
    rest = images.loc[~images["image_id"].isin(used), ["image_id", "patient_id", "view"]]
    rest = rest.sort_values("image_id")
    other_view = ~rest["view"].isin(views) if views is not None else pd.Series(False, index=rest.index)
    among = settings.get("among")

    def reason(name: str, *, other_view: bool) -> str:
        if other_view:
            return "its view is not in data.views"
        if among is not None and name not in among:
            return "in no class of the task"
        if name in available:
            return f"not drawn for data.sample={list(sample or [])}"
        return _NOT_IN_SPLIT[settings["split"]]

    reasons = [
        reason(name, other_view=other) for name, other in zip(rest["image_id"], other_view, strict=True)
    ]
    return rest.drop(columns="view").assign(reason=reasons).reset_index(drop=True)


def _official(images: pd.DataFrame, rng: np.random.Generator, *, clean: bool, val_fraction: float) -> Split:
    if not 0 < val_fraction < 1:
        raise ConfigError(f"data.val_fraction={val_fraction}: must be between 0 and 1")
    unknown = images["image_id"][images["official_split"].isna()]
    if len(unknown):
        raise DataError(f"image '{unknown.iloc[0]}' has no official split; choose data.split=random or kfold")
    development, test = _without_leak(images, clean=clean)
    order = _stratified_order(development, rng)
    val = order[: _count(val_fraction, of=len(order), split="clean" if clean else "official")]
    return _split(development, val=val, test=test["image_id"])


def _random(images: pd.DataFrame, rng: np.random.Generator) -> Split:
    order = _stratified_order(images, rng)
    n_val = _count(0.2, of=len(order) - 1, split="random")
    n_test = max(1, round(0.1 * len(order)))
    test = images["image_id"][images["patient_id"].isin(order[n_val : n_val + n_test])]
    return _split(images[~images["image_id"].isin(test)], val=order[:n_val], test=test)


def _kfold(images: pd.DataFrame, rng: np.random.Generator, *, fold: int, folds: int) -> Split:
    development, test = _without_leak(images, clean=False)
    order = _stratified_order(development, rng)
    if not 2 <= folds <= len(order):
        raise ConfigError(f"data.folds={folds}: must be between 2 and the number of patients, {len(order)}")
    if not 0 <= fold < folds:
        raise ConfigError(f"data.fold={fold}: must be between 0 and data.folds - 1 = {folds - 1}")
    bounds = [round(len(order) * k / folds) for k in (fold, fold + 1)]
    return _split(development, val=order[bounds[0] : bounds[1]], test=test["image_id"])


def _without_leak(images: pd.DataFrame, *, clean: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Development images and official test images; patients in both are removed from one of them."""
    is_test = (images["official_split"] == "test").fillna(value=False)
    development, test = images[~is_test], images[is_test]
    if clean:
        test = test[~test["patient_id"].isin(development["patient_id"])]
    else:
        development = development[~development["patient_id"].isin(test["patient_id"])]
    return development, test


def _stratified_order(images: pd.DataFrame, rng: np.random.Generator) -> list[str]:
    """Patients in random order; any part of it contains each kind in proportion, within one patient."""
    rows = images.assign(malignant=_malignant(images), abnormality_type=images["abnormality_type"].fillna(""))
    by_patient = rows.groupby("patient_id", sort=True)
    types = by_patient["abnormality_type"].agg(lambda column: "+".join(sorted(set(column))))
    positions: list[tuple[float, str]] = []
    for _, kind in types.groupby([by_patient["malignant"].any(), types], sort=True):
        members = rng.permutation(np.asarray(kind.index, dtype=object))
        offset = rng.random()  # so that a single patient of a rare kind can take any position
        positions += [((k + offset) / len(members), str(patient)) for k, patient in enumerate(members)]
    return [patient for _, patient in sorted(positions)]


def _count(fraction: float, *, of: int, split: str) -> int:
    """The share of the patients as a number, with at least one patient on either side."""
    if of < 2:
        raise DataError(
            f"data.split={split}: too few patients for a training and a validation set; add images"
        )
    return min(max(round(fraction * of), 1), of - 1)


def _split(development: pd.DataFrame, *, val: Sequence[str], test: "pd.Series[str]") -> Split:
    in_val = development["patient_id"].isin(val)
    ids = development["image_id"]
    return Split(train=sorted(ids[~in_val]), val=sorted(ids[in_val]), test=sorted(test))


def _refuse_shared_patients(images: pd.DataFrame, sides: Split, split: str) -> None:
    patient_of = images.set_index("image_id")["patient_id"]
    train, val, test = ({patient_of[image] for image in ids} for ids in asdict(sides).values())
    shared = sorted((train & val) | (train & test) | (val & test))
    if shared:
        names = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
        raise DataError(
            f"data.split={split}: {len(shared)} patients are in two sets ({names}); keep each in one"
        )


def _sampled(images: pd.DataFrame, sides: Split, sample: Sequence[int], seed: int) -> Split:
    if len(sample) != 3 or min(sample) < 0:
        raise ConfigError(f"data.sample={list(sample)}: give three numbers of images, [train,val,test]")
    drawn: dict[str, list[str]] = {}
    for number, (side, ids) in zip(sample, asdict(sides).items(), strict=True):
        if number > len(ids):
            raise ConfigError(f"data.sample={list(sample)}: {side} has only {len(ids)} images; request fewer")
        rng = np.random.default_rng([seed, len(drawn)])
        drawn[side] = _draw(images[images["image_id"].isin(ids)], number, rng) if number else []
    return Split(**drawn)


def _draw(images: pd.DataFrame, number: int, rng: np.random.Generator) -> list[str]:
    """Draw `number` image ids, patient by patient, until the quota of each class is full."""
    rank = {patient: k for k, patient in enumerate(_stratified_order(images, rng))}
    images = images.sort_values("patient_id", key=lambda column: column.map(rank), kind="stable")
    malignant = _malignant(images)
    most = round(number * float(malignant.mean()))
    quota = malignant.map({True: most, False: number - most})
    return sorted(images["image_id"][images.groupby(malignant).cumcount() < quota])


def _malignant(images: pd.DataFrame) -> "pd.Series[bool]":
    """Whether each image is malignant; False where the data do not say it."""
    return (images["pathology"] == "MALIGNANT").fillna(value=False).astype(bool)


def _from_file(images: pd.DataFrame, split_file: Path | None) -> Split:
    if split_file is None:
        raise ConfigError("data.split=file: name the file by data.split_file=PATH")
    names = _read_folder(split_file) if split_file.is_dir() else _read_file(split_file)
    find = _ImageFinder(images)
    image_ids: dict[str, set[str]] = {side: set() for side in names}
    unknown = []
    for side, listed in names.items():
        for name in listed:
            image = find(name)
            if image is None:
                unknown.append(name)
            else:
                image_ids[side].add(image)
    total = sum(map(len, names.values()))
    if unknown:
        problem = (
            f"{split_file}: {len(unknown)} of its {total} images are unknown, the first is '{unknown[0]}'"
        )
        if len(unknown) > _UNKNOWN_TOLERANCE * total:
            raise DataError(f"{problem}; correct their names, or delete them from the file")
        log.warning("%s; the split does not contain them", problem)
    for side in ("train", "val"):
        if not image_ids[side]:
            raise DataError(f"{split_file}: names no image for {side}; add some")
    return Split(**{side: sorted(ids) for side, ids in image_ids.items()})


def _read_file(path: Path) -> dict[str, list[str]]:
    sheet = TextTable.read(path)
    sheet.require("split")
    sides = sheet.words("split", _SIDE_OF, required=True, remedy="delete the row")
    names = _names(sheet)
    return {side: list(names[sides == side]) for side in ("train", "val", "test")}


def _read_folder(folder: Path) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for side in names:
        table, text = folder / f"{side}.csv", folder / f"{side}.txt"
        if table.is_file():
            names[side] = list(_names(TextTable.read(table)))
        elif text.is_file():
            names[side] = [line.strip() for line in text.read_text().splitlines() if line.strip()]
        elif side != "test":
            raise DataError(
                f"data.split_file={folder}: contains neither {table.name} nor {text.name}; add one"
            )
    return names


def _names(sheet: TextTable) -> "pd.Series[str]":
    column = next((name for name in _NAME_COLUMNS if name in sheet.cells), "image_id")
    sheet.require(column)
    return sheet.text(column, required=True)


class _ImageFinder:
    """Finds the id of an image by id, by path or end of a path, or by a case file's path."""

    def __init__(self, images: pd.DataFrame) -> None:
        self.ids = set(images["image_id"])
        self.by_end: dict[str, str | None] = {}
        for image_id, path in zip(images["image_id"], images["path"].fillna(""), strict=True):
            parts = path.split(os.sep)
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                # an end that several paths share is ambiguous
                self.by_end[end] = image_id if self.by_end.get(end, image_id) == image_id else None

    def __call__(self, name: str) -> str | None:
        name = os.path.normpath(name.replace("\\", "/"))
        candidates = [name, os.path.splitext(name)[0]]
        case = _CASE.search(name)
        if case:
            candidates += [f"{case[2]}_TEST", case[2]] if case[1] == "Test" else [case[2]]
        return next((image for image in candidates if image in self.ids), self.by_end.get(name))
