"""Classification tasks: the classes of a task and the label of each image."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from mammo.config.checks import CONF
from mammo.data.tables.text_table import column_name
from mammo.errors import ConfigError, DataError

# Columns of which a positive class means a malignant image.
_PATHOLOGY = ("pathology", "lesion_type_pathology")
MALIGNANCY = {"positive": "malignant", "negative": "benign", "score": "score of malignancy"}
_MOST_VALUES = 3  # in a message


@dataclass(frozen=True)
class Task:
    """Classes of images by the value of one column of the images table.

    Attributes:
        name: name of the task.
        column: column of the images table, or `lesion_type_pathology`, which is derived from the lesions.
        values: for each class, in the order of the network's outputs, its values in the column.
        positive: classes whose scores add up to the score of a positive image; empty for a task that has
            classes only.
        ordered: whether the order of the classes has a meaning, as for grades.
        unlabelled: `refuse` or `leave_out` images whose value is missing or in no class.
        background: class of the patches without a lesion; None for a task of images.
    """

    name: str
    column: str
    values: Mapping[str, tuple[str, ...]]
    positive: tuple[str, ...] = ()
    ordered: bool = False
    unlabelled: Literal["refuse", "leave_out"] = "refuse"
    background: str | None = None

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Self:
        """Create a task from its node of the configuration, which `mammo.config.checks` has checked.

        The node of an older run has only a name; the others are then those of the shipped task.
        """
        if "column" not in node:
            return cls.shipped(str(node["name"]))
        given = node["classes"]
        values = given if isinstance(given, Mapping) else {name: name for name in given}
        return cls(
            name=str(node["name"]),
            column=str(node["column"]),
            values={
                str(name): tuple(str(value) for value in (held if isinstance(held, list | tuple) else [held]))
                for name, held in values.items()
            },
            positive=tuple(node["positive"]),
            ordered=bool(node["ordered"]),
            unlabelled=node["unlabelled"],
            background=node.get("background"),
        )

    @classmethod
    def shipped(cls, name: str) -> Self:
        """Return a task of `conf/task`.

        Raises:
            ConfigError: there is no such task.
        """
        files = {file.stem: file for file in (CONF / "task").glob("*.yaml")}
        if name not in files:
            raise ConfigError(f"task={name}: no such task; choose from {', '.join(sorted(files))}")
        return cls.of(yaml.safe_load(files[name].read_text()))

    @classmethod
    def all_shipped(cls) -> list[Self]:
        """Return all tasks of `conf/task`, by name."""
        return [cls.shipped(file.stem) for file in sorted((CONF / "task").glob("*.yaml"))]

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's outputs."""
        return tuple(self.values)

    @cached_property
    def positives(self) -> list[int]:
        """Indices of the positive classes.

        Example:
            >>> Task.shipped("lesion_type_pathology").positives
            [1, 3]
        """
        return [index for index, name in enumerate(self.classes) if name in self.positive]

    @cached_property
    def shown(self) -> list[int]:
        """Indices of the classes whose heat can be shown: the positive ones, or all if none is positive."""
        return self.positives or list(range(len(self.classes)))

    @property
    def words(self) -> dict[str, str]:
        """What positive and negative images and the score of the positive ones are called in results."""
        if self.of_pathology:
            return MALIGNANCY
        return {"positive": "positive", "negative": "negative", "score": "score of the positive class"}

    @property
    def of_pathology(self) -> bool:
        """Whether the positive images are the malignant ones."""
        return self.column in _PATHOLOGY and bool(self.positive)


def labels(images: pd.DataFrame, lesions: pd.DataFrame, *, task: Task) -> NDArray[np.int64]:
    """Indices into `task.classes`, one for each of the N rows of the images table; -1 for no class.

    For a task of patches whose column only the lesions have, an image has the class of its first lesion that
    is in one; without a lesion it is in the class of the background.
    For the column `lesion_type_pathology` an image with both types has the type of its deciding lesions:
    those with the same pathology as the image. If these have both types too, or are not in the table, the
    image is a mass. This concerns 42 of the 3061 images of CBIS-DDSM: the deciding lesions of 7 are
    calcifications, of 2 masses, of 33 both.

    Args:
        images: the images table.
        lesions: the lesions table; may contain lesions of other images too.
        task: the task.

    Raises:
        DataError: the table has no such column, or no value in it; or an image is in no class and
            `task.unlabelled` is `refuse`.
    """
    column = _column(images, lesions, task)
    index = {value: i for i, values in enumerate(task.values.values()) for value in values}
    found: NDArray[np.int64] = np.asarray(column.map(index).fillna(-1), dtype=np.int64)
    if task.unlabelled == "refuse" and (found < 0).any():
        first = images["image_id"].iloc[int((found < 0).argmax())]
        raise DataError(
            f"{unlabelled_sentence(images, lesions, found, task=task)}, the first is '{first}'; fill in that "
            "column of the table, or give task.unlabelled=leave_out"
        )
    return found


def lesion_labels(lesions: pd.DataFrame, *, task: Task) -> NDArray[np.int64]:
    """Index into `task.classes` of each lesion; -1 for no class, as for a task that is not of lesions.

    The class is that of the lesion itself, which may differ from that of its image.

    Args:
        lesions: the lesions table, N rows.
        task: the task.
    """
    if task.column == "lesion_type_pathology":
        column = lesions["pathology"] + "_" + lesions["abnormality_type"].str.upper()
    elif (name := _name_in(lesions, task)) in lesions:
        column = lesions[name].astype("string")
    else:
        return np.full(len(lesions), -1)
    index = {value: i for i, values in enumerate(task.values.values()) for value in values}
    return np.asarray(column.map(index).fillna(-1), dtype=np.int64)


def patch_labels(lesions: pd.DataFrame, *, task: Task) -> NDArray[np.int64]:
    """Index into `task.classes` of the patches of each lesion, see `lesion_labels`; -1 for no class.

    Args:
        lesions: the lesions table, N rows.
        task: a task with a class `background`, which is that of the patches without a lesion.

    Raises:
        DataError: the table has no such column, or a lesion is in no class and `task.unlabelled` is `refuse`.
    """
    if task.column != "lesion_type_pathology" and _name_in(lesions, task) not in lesions:
        raise DataError(
            f"task.column={task.column}: the lesions have no such column; choose from "
            f"{', '.join(lesions.columns)}"
        )
    found = lesion_labels(lesions, task=task)
    if task.unlabelled == "refuse" and (found < 0).any():
        outside = found < 0
        raise DataError(
            f"task={task.name}: {outside.sum()} of {len(lesions)} lesions are in no class by their "
            f"{task.column}, the first is '{lesions['lesion_id'].iloc[int(outside.argmax())]}'; fill in that "
            "column of the table of lesions, or give task.unlabelled=leave_out"
        )
    return found


def unlabelled_sentence(
    images: pd.DataFrame, lesions: pd.DataFrame, labels: NDArray[np.int64], *, task: Task
) -> str:
    """Return how many images are in no class, and why; empty if all are in one.

    Args:
        images: the images table, N rows.
        lesions: the lesions table.
        labels: N, the result of `labels`.
        task: the task.
    """
    outside = _column(images, lesions, task)[labels < 0]
    if outside.empty:
        return ""
    missing = int(outside.isna().sum())
    counts = Counter(outside.dropna().tolist()).most_common()
    reasons = [f"{missing} without {task.column}"] if missing else []
    reasons += [f"{count} with {task.column} '{value}'" for value, count in counts[:_MOST_VALUES]]
    if rest := sum(count for _, count in counts[_MOST_VALUES:]):
        reasons.append(f"{rest} with other values")
    return f"task={task.name}: {len(outside)} of {len(images)} images are in no class ({', '.join(reasons)})"


def _column(images: pd.DataFrame, lesions: pd.DataFrame, task: Task) -> "pd.Series[str]":
    """The value of each image as text, NA where it is missing."""
    if task.column == "lesion_type_pathology":
        return images["pathology"] + "_" + _types(images, lesions).str.upper()
    name = _name_in(images, task)
    if name not in images and task.background is not None and _name_in(lesions, task) in lesions:
        return _of_lesions(images, lesions, task)
    if name not in images:
        raise DataError(
            f"task.column={task.column}: the data have no such column; choose from "
            f"{', '.join(images.columns)}"
        )
    column = images[name].astype("string")
    if len(column) and column.isna().all():
        raise DataError(
            f"task.column={task.column}: is missing for all {len(column)} images; choose data that have it, "
            "or another task"
        )
    return column


def _name_in(table: pd.DataFrame, task: Task) -> str:
    return task.column if task.column in table else column_name(task.column)


def _of_lesions(images: pd.DataFrame, lesions: pd.DataFrame, task: Task) -> "pd.Series[str]":
    """The value of the first lesion of each image that is in a class; of the first lesion if none is."""
    known = {value for values in task.values.values() for value in values}
    column = lesions[["image_id"]].assign(value=lesions[_name_in(lesions, task)].astype("string"))
    column = column.assign(unknown=~column["value"].isin(known)).sort_values("unknown", kind="stable")
    first = column.drop_duplicates("image_id").set_index("image_id")["value"]
    found = images["image_id"].map(first).astype("string")
    background = task.values[str(task.background)][0]
    return found.mask(~images["image_id"].isin(first.index), background)


def _types(images: pd.DataFrame, lesions: pd.DataFrame) -> "pd.Series[str]":
    """The type of each of N images, mass or calcification."""
    types = images["abnormality_type"]
    pathology = lesions["image_id"].map(images.set_index("image_id")["pathology"])
    deciding = lesions[lesions["pathology"] == pathology]
    calcified, massed = (
        images["image_id"].isin(deciding.loc[deciding["abnormality_type"] == kind, "image_id"])
        for kind in ("calcification", "mass")
    )
    both = (types == "both").fillna(value=False)
    return types.mask(both, "mass").mask(both & calcified & ~massed, "calcification")
