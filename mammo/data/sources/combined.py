"""Several data sets as one, with the name of each image's set in the column `dataset`."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mammo.config.data.combined_sets import set_nodes
from mammo.data.catalog import Catalog, validate
from mammo.data.sources.reader import read_catalog
from mammo.errors import ConfigError

_IDS = ("image_id", "patient_id", "lesion_id")


def read_combined(
    *,
    sets: Mapping[str, Any],
    split: str,
    train_on: Sequence[str] | None = None,
    test_on: Sequence[str] | None = None,
) -> Catalog:
    """Read several data sets into one catalog.

    The ids of images, patients and lesions begin with the name of the set, as in `inbreast/20586908`.
    With `train_on` and `test_on`, the sets themselves are the official split: all images of a set to train on
    are in its training part, all of a set to test on in its test part; a set in both keeps its own official
    split, and a set in neither is left out. Without, each set has its own.

    Args:
        sets: Name of a set -> its folder, or a mapping of the keys of its choice of the group `data`.
        split: Method of the split; `random` and `file` use no official one.
        train_on: Names of the sets to train on.
        test_on: Names of the sets to test on.

    Raises:
        ConfigError: See `set_nodes`; or `train_on` is given with a split that does not use it.
        DataError: A set cannot be read.
    """
    nodes = set_nodes(sets, train_on=train_on, test_on=test_on)
    if train_on is not None and split in ("random", "file"):
        raise ConfigError(
            f"data.split={split}: does not use data.train_on and data.test_on; give data.split=official"
        )
    read = {name: read_catalog(node) for name, node in nodes.items()}
    left_out = {
        f"{name}: {reason}": count
        for name, catalog in read.items()
        for reason, count in catalog.left_out.items()
    }
    if train_on is not None and test_on is not None:
        unused = read.keys() - {*train_on, *test_on}
        left_out |= {
            f"{name}: in neither data.train_on nor data.test_on": len(read[name].images) for name in unused
        }
        read = {name: catalog for name, catalog in read.items() if name not in unused}
    sets_of_images = [_named(catalog.images, name).assign(dataset=name) for name, catalog in read.items()]
    sets_of_lesions = [_named(catalog.lesions, name) for name, catalog in read.items()]
    images, lesions = (pd.concat(each, ignore_index=True) for each in (sets_of_images, sets_of_lesions))
    for name in read:
        sides = (name in (train_on or ()), name in (test_on or ()))
        if sides[0] != sides[1]:
            images.loc[images["dataset"] == name, "official_split"] = "train" if sides[0] else "test"
    return validate(Catalog(images=images, lesions=lesions, left_out=left_out))


def _named(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return a table with ids that begin with the name of its set."""
    return table.assign(**{column: f"{name}/" + table[column] for column in _IDS if column in table})
