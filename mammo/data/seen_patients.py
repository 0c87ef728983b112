"""Images of patients whom a run has seen: the checks against a leak from training into a test."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mammo.config.data.combined_sets import own_id
from mammo.data.store.store import Store
from mammo.errors import DataError
from mammo.runs import RunFolder

_TRAINED = ("train", "pretrained")  # lists of a run, of images whose patients its weights were trained on


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

    The patients whom the run that gave the initial weights was trained on, `split/pretrained.txt`, count as
    trained on. An image is of a seen patient if its id is in a list, or its patient has an image in the
    list. Patients are compared by their ids. With other data, two different patients may have the same id,
    and one patient two ids. The ids of two tables are taken as those of the same patients if the tables have
    an image id in common, as the same release in another folder has. So the count is too high rather than too
    low where both data sets number their images alike, such as two phantoms of different seeds.

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
    for sides in (_TRAINED, ("val",)):
        listed = _listed(run, sides)
        listed = listed if own else list(map(own_id, listed))
        if not listed or not set(listed) <= set(patients.index):
            return None
        counts += _counts(_of_patients(images, listed, set(patients[listed])))
    return Seen(*counts)


def pretrained_images(
    weights: str | None, *, split: Mapping[str, Collection[str]], table: pd.DataFrame
) -> list[str]:
    """Return the ids of the images whose patients the initial weights were trained on.

    These are the training patients of the run that the weights are of, and those of its own initial weights.
    Patients are compared as by `count_seen`.

    Args:
        weights: folder of a run, or a checkpoint in it. For any other file and for None no image is known.
        split: ids of the images of each set.
        table: images table of all the data.

    Raises:
        DataError: they are images of the validation or test set.
    """
    if weights is None:
        return []
    path = Path(weights)
    run = RunFolder(path if path.is_dir() else path.absolute().parent.parent)
    listed = _listed(run, _TRAINED)
    known = _own_table(run) if listed else None
    if known is None:  # the store is gone: its ids alone tell the patients
        known = table
    known, own = _with_own_ids(known), _with_own_ids(table)
    if not known["image_id"].isin(own["image_id"]).any():
        return []
    listed = list(map(own_id, listed))
    patients = known.loc[known["image_id"].isin(listed), "patient_id"]
    pretrained = table.loc[_of_patients(own, listed, set(patients)).index]
    for side, name in (("val", "validation"), ("test", "test")):
        images, women = _counts(pretrained[pretrained["image_id"].isin(split[side])])
        if images:
            raise DataError(
                f"model.weights={weights}: {images} of the {len(split[side])} {name} images are of {women} "
                "patients that these weights were trained on; give the data.split, data.fold and data.seed "
                "of that run, or other weights"
            )
    found: list[str] = pretrained["image_id"].tolist()
    return found


def _listed(run: RunFolder, sides: Iterable[str]) -> list[str]:
    """Return the ids of the images in the run's lists; a list that is not there is empty."""
    files = (run.path / "split" / f"{side}.txt" for side in sides)
    return [image_id for file in files if file.is_file() for image_id in file.read_text().splitlines()]


def _of_patients(images: pd.DataFrame, ids: Collection[str], patients: Collection[str]) -> pd.DataFrame:
    """Return the rows of images that are listed, or of listed patients."""
    return images[images["image_id"].isin(ids) | images["patient_id"].isin(patients)]


def _counts(images: pd.DataFrame) -> tuple[int, int]:
    """Return the numbers of images and patients."""
    return len(images), images["patient_id"].nunique()


def _with_own_ids(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{name: table[name].map(own_id) for name in ("image_id", "patient_id")})


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
