"""Scored images of patients whom a run has seen: the check against a leak from training into a test."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mammo.config.data.combined_sets import own_id
from mammo.data.store.store import Store
from mammo.errors import DataError
from mammo.runs import RunFolder


@dataclass(frozen=True)
class Seen:
    """Numbers of scored images, and of their patients, that the run has seen.

    Attributes:
        trained_images: images of patients with an image in the training set.
        trained_patients: patients with an image in the training set.
        chosen_images: images of patients with an image in the validation set, which chose the best epoch.
        chosen_patients: patients with an image in the validation set.
    """

    trained_images: int
    trained_patients: int
    chosen_images: int
    chosen_patients: int

    def __bool__(self) -> bool:
        return self.trained_images + self.chosen_images > 0

    def to_dict(self) -> dict[str, int]:
        """Return the numbers by name."""
        return asdict(self)


def count_seen(run: RunFolder, images: pd.DataFrame, *, table: pd.DataFrame, own: bool) -> Seen | None:
    """Count the scored images of patients in the run's lists `split/train.txt` and `split/val.txt`.

    An image is of a seen patient if its id is in a list, or its patient has an image in the list. Patients
    are compared by their ids. With other data, two different patients may have the same id, and one patient
    two ids. The ids of two tables are taken as those of the same patients if the tables have an image id in
    common, as the same release in another folder has. So the count is too high rather than too low where
    both data sets number their images alike, such as two phantoms of different seeds.

    Args:
        run: run with lists of its split.
        images: images table of the scored images.
        table: images table of all the data that they are from.
        own: whether these are the run's own data.

    Returns:
        None if the patients cannot be compared: the lists, the store or a listed image is missing, or other
        data have no image id in common with the run's.
    """
    known = table if own else _own_table(run)
    if known is None:
        return None
    if not own:  # one of them may be a set of `data=combined`, and the other the set itself
        known, table, images = (_with_own_ids(each) for each in (known, table, images))
        if not known["image_id"].isin(table["image_id"]).any():
            return None
    patients = known.set_index("image_id")["patient_id"]
    counts: list[int] = []
    for side in ("train", "val"):
        file = run.path / "split" / f"{side}.txt"
        listed = file.read_text().splitlines() if file.exists() else [""]
        listed = listed if own else list(map(own_id, listed))
        if not set(listed) <= set(patients.index):
            return None
        counts += _of_patients(images, listed, set(patients[listed]))
    return Seen(*counts)


def _with_own_ids(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{name: table[name].map(own_id) for name in ("image_id", "patient_id")})


def _of_patients(images: pd.DataFrame, ids: Collection[str], patients: Collection[str]) -> tuple[int, int]:
    """Return the numbers of images and patients among the scored images that are listed."""
    found = images[images["image_id"].isin(ids) | images["patient_id"].isin(patients)]
    return len(found), found["patient_id"].nunique()


def _own_table(run: RunFolder) -> pd.DataFrame | None:
    """Return the images table of the run's own store, or None if the store is gone."""
    try:
        return Store.open(Path(run.facts()["store"])).table
    except (KeyError, OSError, DataError):
        return None


def refuse_seen(run: RunFolder, seen: Seen | None, *, split: str, images: int, data_split: str) -> None:
    """Raise DataError if a test set holds patients of the training or validation set, or may hold some.

    Args:
        run: the run.
        seen: result of `count_seen` for the images of the test set.
        split: `test` or `clean_test`.
        images: number of images of the test set.
        data_split: the run's `data.split`.
    """
    if seen is None:
        raise DataError(
            f"run={run.path}: split={split} cannot be compared with the training and validation images, "
            "because some of these are not in the store; restore the run's data"
        )
    if seen:
        remedy = (
            "use split=test, the test images of the run's own split"
            if split == "clean_test"
            else "train a new run, whose split is checked"
        )
        raise DataError(
            f"run={run.path}: of the {images} images of split={split}, {seen.trained_images} are of "
            f"{seen.trained_patients} patients that the run was trained on and {seen.chosen_images} of "
            f"{seen.chosen_patients} patients that chose its best epoch (data.split={data_split}); {remedy}"
        )


def describe_seen(seen: dict[str, Any] | None, *, images: int, split: str) -> str | None:
    """Return a sentence on the scored images of seen patients; None where there is nothing to say.

    Args:
        seen: record of the check, see `Provenance`; None if it was not possible.
        images: number of scored images.
        split: name of the split; in `val`, all images chose the best epoch by definition.
    """
    if seen is None:
        return (
            "not checked whether the run was trained on these patients: the image ids of these data and of "
            "the run's own have nothing in common, or images of the run are missing in its store"
        )
    parts = [
        f"{seen[f'{kind}_images']} are of {seen[f'{kind}_patients']} patients that {did}"
        for kind, did in (("trained", "the run was trained on"), ("chosen", "chose its best epoch"))
        if seen[f"{kind}_images"] and not (kind == "chosen" and split == "val")
    ]
    return f"of the {images} images, {' and '.join(parts)}" if parts else None
