"""The files of an input as breasts or exams: headers, names or a table say which views form a sample."""

import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mammo.data.progress_bar import progress
from mammo.data.samples import SampleUnit, group_samples, place_name, place_names, sample_settings
from mammo.data.tables.text_table import TextTable
from mammo.data.tables.vocabulary import places
from mammo.errors import ConfigError, DataError
from mammo.evaluation.prediction.input_files import (
    Files,
    LeftOutError,
    Row,
    exam_of,
    kind_of,
    path_sort_key,
    reason_of,
    wanted_facts,
)
from mammo.runs import RunFolder

# path, name of the patient or exam, laterality, view, study date
_Image: TypeAlias = tuple[str, str, str, str, str]
_COLUMNS = ["image_id", "patient_id", "laterality", "view", "study_date"]
# A network disk answers many parallel requests as fast as a single one.
_THREADS = 16
_NO_PLACE = "no_place"


@dataclass(frozen=True)
class InputSample:
    """A breast or exam of the input.

    Attributes:
        sample_id: its name in the table of scores, without identifiers of headers.
        laterality: LEFT or RIGHT; None for an exam.
        images: path, laterality and view of each image, in the order of the places.
        exam: its exam, or the exam that it is, in the words of `sample_id`.
    """

    sample_id: str
    laterality: str | None
    images: tuple[tuple[str, str, str], ...]
    exam: str

    @property
    def paths(self) -> list[str]:
        """Paths of the images."""
        return [path for path, _, _ in self.images]

    @property
    def first(self) -> str:
        """The first of the paths in the order of the input."""
        return min(self.paths, key=path_sort_key)


@dataclass(frozen=True)
class InputSamples:
    """The files of an input as samples.

    Attributes:
        root: folder that the paths are relative to.
        unit: what a sample is.
        views: views of a breast, in the order of their places.
        samples: samples in the order of their first file.
        errors: why a file is in no sample, by path.
        kinds: the word for this reason, by path, see `kind_of`.
        include: kinds of objects that are images too, see `wanted_facts`.
    """

    root: Path
    unit: SampleUnit
    views: tuple[str, ...]
    samples: list[InputSample]
    errors: dict[str, str]
    kinds: dict[str, str]
    include: Collection[str]

    def place_of(self, laterality: str, view: str) -> str:
        """Return the name of the place of an image."""
        return place_name(self.unit, laterality, view)

    def key(self, sample: InputSample) -> str:
        """Return the key of a sample's scores: another grouping of the files gives other keys."""
        return sample_key(*self.cells(sample.images))

    def cells(self, images: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
        """Return the cells `files` and `views` of the table of scores for the images of a sample."""
        views = (self.place_of(laterality, view) for _, laterality, view in images)
        return ";".join(path for path, _, _ in images), ";".join(views)

    def missing(self, images: Sequence[tuple[str, str, str]]) -> list[str]:
        """Return the names of the places without any of the images of a sample."""
        present = {self.place_of(laterality, view) for _, laterality, view in images}
        return [place for place in place_names(self.unit, self.views) if place not in present]


def sample_key(files: str, views: str) -> str:
    """Return the key of a row of scores from its cells `files` and `views`."""
    return f"{files}|{views}"


def grouping_of(run: RunFolder, *, table: str | None) -> dict[str, Any] | None:
    """Return the arguments `unit`, `views` and `table` of `group_files`; None if the run scores images.

    Args:
        run: run of the network.
        table: path of the table of files, None for none.

    Raises:
        ConfigError: a table for a run that scores images.
    """
    grouping = sample_settings(run.config()["data"])
    if grouping["unit"] in ("breast", "exam"):
        return grouping | {"table": None if table is None else Path(table)}
    if table is not None:
        raise ConfigError(
            f"table={table}: groups images into breasts or exams, but the run scores each image by itself; "
            "leave it out, or give a run of data.sample_unit=breast or exam"
        )
    return None


def place_in_sample(run: RunFolder, row: Row) -> NDArray[np.bool_] | None:
    """Return which place an image has in a sample of a run, V; None if the run scores images.

    Args:
        run: run of the network.
        row: row of the image, with its laterality and view.

    Raises:
        DataError: laterality or view is not known, or the view is none of the run's.
    """
    unit, views = sample_settings(run.config()["data"]).values()
    if unit not in ("breast", "exam"):
        return None
    try:
        laterality, view = known_place(row["laterality"], row["view"], views)
    except DataError as error:
        raise DataError(f"{row['path'] or 'image'}: {error}") from None
    place = place_name(unit, laterality, view)
    return np.array([name == place for name in place_names(unit, views)])


def group_files(
    files: Files,
    *,
    unit: SampleUnit,
    views: Sequence[str],
    table: Path | None = None,
    secondary: bool = False,
    include: Collection[str] = (),
) -> InputSamples:
    """Group files into breasts or exams, reading no pixels.

    The exam of a file is that of `exam_of`; laterality and view are those of its header, else of its name.

    Args:
        files: all files of the input.
        unit: `breast` or `exam`.
        views: views of a breast.
        table: CSV file that is used in place of headers and names: `image_path` (relative to the folder of
            the table), `patient_id`, `laterality`, `view` and, where a patient has several exams,
            `study_date`.
        secondary: see `wanted_facts`.
        include: see `wanted_facts`.

    Raises:
        DataError: the table is invalid, or has none of the files.
    """
    listed = None if table is None else _read_table(table)
    images: list[_Image] = []
    errors: dict[str, str] = {}
    kinds: dict[str, str] = {}
    exams: dict[tuple[str, ...], str] = {}
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        progress(
            total=len(files.paths), done=0, what="reading headers", unit="file", after_seconds=2
        ) as advance,
    ):
        read = pool.map(
            lambda path: _read(files.root / path, secondary=secondary, include=include), files.paths
        )
        for path, facts in zip(files.paths, read, strict=True):
            advance(1)
            try:
                if isinstance(facts, DataError):
                    raise facts
                exam, laterality, view = facts
                patient = None if exam is None else exams.setdefault(exam, f"exam{len(exams) + 1}")
                date = ""
                if listed is not None:
                    patient, laterality, view, date = _row_of(files.root / path, listed, table)
                if patient is None:
                    raise LeftOutError(
                        "has no study in its header and no name such as A_LEFT_CC.png; give table=FILE",
                        kind=_NO_PLACE,
                    )
                images.append((path, patient, *known_place(laterality, view, views), date))
            except DataError as error:
                errors[path] = reason_of(error, files.root / path)
                kinds[path] = kind_of(error)
    if listed is not None and not any(os.path.abspath(files.root / path) in listed for path in files.paths):
        raise DataError(
            f"table={table}: has none of the files, the first is '{files.paths[0]}'; give image_path "
            "relative to the folder of the table"
        )
    samples = _grouped(images, unit, views)
    return InputSamples(files.root, unit, tuple(views), samples, errors, kinds, include)


def _read(
    file: Path, *, secondary: bool, include: Collection[str]
) -> "tuple[tuple[str, ...] | None, str | None, str | None] | DataError":
    """Return exam, laterality and view of a file, or the error that it cannot be used."""
    try:
        facts = wanted_facts(file, secondary=secondary, include=include)
    except DataError as error:
        return error
    return exam_of(file, facts.patient, facts.study), facts.laterality, facts.view


def known_place(laterality: str | None, view: str | None, views: Sequence[str]) -> tuple[str, str]:
    """Return laterality and view of an image that has a place in a breast.

    Args:
        laterality: laterality of the image, None if it is not known.
        view: view of the image, None if it is not known.
        views: views of a breast.

    Raises:
        LeftOutError: one of them is not known, or the view is none of the views.
    """
    for name, value in (("laterality", laterality), ("view", view)):
        if value is None:
            raise LeftOutError(
                f"has no {name} in its header, table or name (such as A_LEFT_CC.png); give it there",
                kind=_NO_PLACE,
            )
    assert laterality is not None
    assert view is not None
    if view not in views:
        reason = f"has the view {view}, which is not one of the views of the run, {', '.join(views)}"
        raise LeftOutError(reason, kind="other_view")
    return laterality, view


def _read_table(file: Path) -> dict[str, tuple[str, str | None, str | None, str]]:
    """Return patient, laterality, view and study date of each file of a table, by absolute path."""
    sheet = TextTable.read(file)
    sheet.require("image_path", "patient_id", "laterality", "view")
    paths = sheet.text("image_path", required=True)
    columns = (
        sheet.text("patient_id", required=True),
        *places(sheet, laterality="laterality", view="view"),
        sheet.text("study_date").fillna(""),
    )
    listed: dict[str, tuple[str, str | None, str | None, str]] = {}
    for row, path, patient, laterality, view, date in zip(paths.index, paths, *columns, strict=True):
        place = os.path.abspath(file.parent / path.replace("\\", "/"))
        if place in listed:
            raise sheet.refuse(row, f"image_path '{path}' is in a row above; keep one row per image")
        known = [None if pd.isna(cell) else cell for cell in (laterality, view)]
        listed[place] = (patient, known[0], known[1], date)
    return listed


def _row_of(
    file: Path, listed: dict[str, tuple[str, str | None, str | None, str]], table: Path | None
) -> tuple[str, str | None, str | None, str]:
    try:
        return listed[os.path.abspath(file)]
    except KeyError:
        raise LeftOutError(f"is not in table={table}", kind="not_in_table") from None


def _grouped(images: Sequence[_Image], unit: SampleUnit, views: Sequence[str]) -> list[InputSample]:
    """Return the samples of images, in the order of their first file."""
    if not images:
        return []
    table = pd.DataFrame(images, columns=_COLUMNS, dtype="string")
    samples = group_samples(table, unit=unit, views=views)
    names = samples.table.drop_duplicates("group")[["sample_id", "laterality"]]
    group = samples.table["group"].to_numpy()
    ends = np.searchsorted(group, np.arange(1, len(names) + 1))
    found = []
    for name, laterality, rows in zip(
        names["sample_id"], names["laterality"], np.split(samples.rows, ends[:-1]), strict=True
    ):
        # place by place, without the repetitions of a place with fewer images
        members = [images[row] for row in dict.fromkeys(rows.T[rows.T >= 0].tolist())]
        places = tuple((path, side, view) for path, _, side, view, _ in members)
        _, patient, _, _, date = members[0]
        exam = "_".join(filter(None, (patient, date)))
        found.append(InputSample(name, None if pd.isna(laterality) else laterality, places, exam))
    return sorted(found, key=lambda sample: path_sort_key(sample.first))
