"""Images and patients of an evaluation: their flow from the source to the scores, their characteristics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mammo.config.flattening import flatten
from mammo.config.instantiation import part_name
from mammo.data.samples import PLURALS, sample_settings, sample_words
from mammo.data.sources.reader import source_name
from mammo.data.store.store import Store
from mammo.data.tasks import MALIGNANCY, Task
from mammo.errors import DataError
from mammo.evaluation.number_format import count
from mammo.evaluation.predictions import Predictions, Unit
from mammo.evaluation.report.figure_style import readable
from mammo.evaluation.report.report_content import public
from mammo.runs import RunFolder
from mammo.runs.provenance import Provenance

SIDES = {"train": "training", "val": "validation", "test": "test"}
_UNKNOWN_REASON = "reason not recorded"
# Most reasons of rejected files that are listed each by itself.
_MOST_REASONS = 5
# Columns of the images table in the table of characteristics; those of the second line may be empty.
_COLUMNS = ("view", "laterality", "density", "abnormality_type")
_OPTIONAL_COLUMNS = ("assessment", "subtlety")


@dataclass(frozen=True)
class Part:
    """Some of the images.

    Attributes:
        name: name of the part, or the reason for which it is left out.
        images: number of images; None if it is not recorded.
        patients: number of patients with at least one of these images; None if it is not recorded.
    """

    name: str
    images: int | None = None
    patients: int | None = None


@dataclass(frozen=True)
class DataFlow:
    """Numbers of images from the source to the scores; None for a fact that is not recorded.

    `source` is `prepared` and all of `rejected`; `prepared` is all of `sides` and `left_out`; `scored` is all
    of `origins`.

    Attributes:
        source: images in the tables of the source.
        rejected: images without a usable file, by reason.
        prepared: images in the prepared store.
        left_out: prepared images in none of the sets, by reason.
        sides: sets of the run, or of the folds.
        scored: images of this evaluation.
        origins: the scored images by the set that they are from; empty if the sets are not known.
        samples: number and kind of the samples that they make up; empty if each image is one.
    """

    source: Part
    rejected: tuple[Part, ...] | None
    prepared: Part
    left_out: tuple[Part, ...] | None
    sides: tuple[Part, ...]
    scored: Part
    origins: tuple[Part, ...]
    samples: str = ""


@dataclass(frozen=True)
class StudyData:
    """Tables of the images of an evaluation.

    Attributes:
        table: images table of the prepared store; None if the store is not known.
        rejected: content of the store's `rejected.csv`; None if it is not known.
        sides: rows of the images table of each set of the runs by name; empty if they are not known.
        listed: image ids of each set, if the scored images are from the runs' own data; else empty.
        reasons: reason by image id, of the images that are in no set.
        scored: rows of the scored images, as far as the images table is known, else of the predictions.
        samples: see `DataFlow`.
    """

    table: pd.DataFrame | None
    rejected: pd.DataFrame | None
    sides: dict[str, pd.DataFrame]
    listed: dict[str, list[str]]
    reasons: dict[str, str]
    scored: pd.DataFrame
    samples: str = ""


@dataclass(frozen=True)
class StudyFacts:
    """Facts of the runs and of their evaluation.

    Attributes:
        configs: resolved configuration of each run.
        runs: content of `run.json` of each run.
        metrics: content of `metrics.json`.
        split: name of the split, such as `test`.
        folds: whether the scores are out of fold.
        flow: numbers of images from the source to the scores.
        has_characteristics: whether the page has the table of characteristics of the sets.
        outcomes: number of images by `correct`, `missed` and `false alarm`; empty without a threshold.
        pictures: number of pictures of heatmaps on the page.
        task: task of the runs; None if it is not recorded.
        unit: what a sample is.
    """

    configs: Sequence[Mapping[str, Any]]
    runs: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    split: str
    folds: bool
    flow: DataFlow
    has_characteristics: bool
    outcomes: Mapping[str, int]
    pictures: int
    task: Task | None = None
    unit: Unit = "image"

    @property
    def words(self) -> Mapping[str, str]:
        """What samples, and positive and negative ones, are called."""
        return (MALIGNANCY if self.task is None else self.task.words) | sample_words(self.unit)

    @property
    def samples(self) -> str:
        """What the samples are called."""
        return PLURALS[self.unit]

    @property
    def places(self) -> list[str]:
        """Names of the places of the views of a sample; empty if a sample is one image or patch."""
        views = sample_settings(self.configs[0].get("data") or {})["views"]
        if self.unit == "exam":
            return [f"{side} {view}" for side in ("left", "right") for view in views]
        return list(views) if self.unit == "breast" else []

    def network_input(self, *, pixels: bool = False) -> str:
        """Return what the network sees of a sample, with its size in pixels if that is asked for."""
        of = {"breast": "one breast", "exam": "both breasts"}.get(self.unit)
        seen = f"the existing views of {of} ({', '.join(self.places)})" if of else f"one {self.unit}"
        height, width = self.setting("data.height"), self.setting("data.width")
        if not pixels or height is None or self.unit == "patch":
            return seen
        return f"{seen}{', each' if of else ''} of {height} x {width} pixels"

    @property
    def own_outcome(self) -> str | None:
        """The outcome of a task that is not one of pathology; None for one of pathology."""
        if self.task is None or self.task.of_pathology:
            return None
        whose = "author" if self.scored_source == "csv" else "source"
        classes = ", ".join(self.task.classes)
        return f"the classes {classes} of the column {self.task.column} of the {whose}'s tables"

    def setting(self, key: str) -> str | None:
        """Return the value of a dotted key; of several runs every value once; None if it is not recorded."""
        values = [flatten(dict(config)).get(key) for config in self.configs]
        texts = list(dict.fromkeys(str(value) for value in values if value is not None))
        return " or ".join(texts) or None

    def part(self, group: str) -> str | None:
        """Return the name of a part, such as the network of `model`; see `setting`."""
        names = [part_name(node) for config in self.configs if (node := config.get(group))]
        return " or ".join(dict.fromkeys(filter(None, names))) or None

    @property
    def source(self) -> str | None:
        """Source of the runs' own data."""
        names = dict.fromkeys(source_name(node) for config in self.configs if (node := config.get("data")))
        return " or ".join(filter(None, names)) or None

    @property
    def scored_source(self) -> str | None:
        """Source of the scored images."""
        return (self.metrics.get("data") or {}).get("source") or self.source

    @property
    def method(self) -> Mapping[str, Any]:
        """The methods that `metrics.json` records."""
        method = self.metrics.get("method")
        return method if isinstance(method, Mapping) else {}

    @property
    def records(self) -> tuple[Provenance, ...]:
        """Origin of the scores of each run."""
        return Provenance.all_from(self.metrics.get("provenance"))


def read_study_data(
    runs: Sequence[RunFolder], predictions: Predictions, *, store: Path | None, own: bool
) -> StudyData:
    """Read what the runs and the store of the scored images record.

    Args:
        runs: the run, or the members of an ensemble or of a k-fold split.
        predictions: predictions of the scored images.
        store: folder of the store of the scored images; None for the one that the runs record, if the
            images are from their own data.
        own: whether the scored images are from the runs' own data.
    """
    listed = _lists(runs, predictions)
    recorded = _recorded_store(runs)
    table, rejected = _tables((store or recorded) if own else store)
    own_table = table if own else _tables(recorded)[0]
    images = list(dict.fromkeys(predictions.image_ids))  # several patches may be of one image
    if table is not None and set(images) <= set(table.index):
        scored = table.loc[images]
    else:  # another store, or a newer one
        table = rejected = None
        scored = predictions.images_table.drop_duplicates("image_id")
        known = predictions.task.of_pathology and predictions.unit == "image"  # those of breasts may differ
        labels = pd.Series(predictions.malignant if known else None, scored.index)
        scored = scored.assign(pathology=labels.map({0: "BENIGN", 1: "MALIGNANT"}))
    unit, number = predictions.unit, count(len(predictions.samples))
    samples = "" if unit == "image" else f"{number} {PLURALS[unit]}"
    sides: dict[str, pd.DataFrame] = {}
    if own_table is not None and all(set(images) <= set(own_table.index) for images in listed.values()):
        sides = {name: own_table.loc[images] for name, images in listed.items()}
    elif own:
        table = rejected = None
    if not own:
        return StudyData(table, rejected, sides, {}, {}, scored, samples)
    return StudyData(table, rejected, sides, listed, _reasons(runs), scored, samples)


def _recorded_store(runs: Sequence[RunFolder]) -> Path | None:
    """Return the store that all runs record; None if they record none, or different ones."""
    stores = {run.facts().get("store") for run in runs}
    store = stores.pop()
    return Path(store) if store and not stores else None


def _lists(runs: Sequence[RunFolder], predictions: Predictions) -> dict[str, list[str]]:
    """Return the image ids of each set; the sets have no image in common.

    The sets of runs with the same lists are training, validation and test set. Those of folds are the
    validation set of each fold, and the test set. Of other runs, an image is in the test set if no run
    was trained or validated on it.
    """
    files = [{side: run.path / "split" / f"{side}.txt" for side in SIDES} for run in runs]
    if not all(file.exists() for each in files for file in each.values()):
        return {}
    lists = [{side: file.read_text().splitlines() for side, file in each.items()} for each in files]
    if predictions.folds is not None:
        held = predictions.images_table.groupby("fold")["image_id"]
        sets = {f"validation, fold {fold}": images.tolist() for fold, images in held}
    elif all(each == lists[0] for each in lists):
        return {name: lists[0][side] for side, name in SIDES.items()}
    else:
        used = [name for each in lists for side in ("train", "val") for name in each[side]]
        sets = {"training or validation of a run": list(dict.fromkeys(used))}
    used = [name for images in sets.values() for name in images]
    rest = dict.fromkeys(name for each in lists for name in each["test"])
    return sets | {"test": [name for name in rest if name not in set(used)]}


def _tables(store: Path | None) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Return the images table by image id and the rejected files of a store; None without a store."""
    if store is None:
        return None, None
    try:
        table = Store.open(store).table
        return table.set_index("image_id", drop=False), pd.read_csv(store / "rejected.csv", dtype="string")
    except (OSError, DataError, ValueError):
        return None, None


def _reasons(runs: Sequence[RunFolder]) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in runs:
        file = run.path / "split" / "left_out.csv"
        if file.exists():
            table = pd.read_csv(file, dtype="string", keep_default_na=False)
            found |= dict(zip(table["image_id"], table["reason"], strict=True))
    return found


def data_flow(data: StudyData) -> DataFlow:
    """Count the images and patients from the source to the scores."""
    source, rejected, prepared, left_out = Part("source"), None, Part("prepared"), None
    placed = {name for images in data.listed.values() for name in images}
    if data.table is not None and data.rejected is not None:
        rejected = _rejected(data.rejected)
        lost = data.rejected.get("patient_id")  # older stores do not record it
        patients = None
        if lost is not None or data.rejected.empty:
            patients = len(set(data.table["patient_id"]).union(lost if lost is not None else ()))
        source = Part("source", len(data.table) + len(data.rejected), patients)
        prepared = _part("prepared", data.table)
        used = placed or set(data.scored["image_id"])
        reason = _UNKNOWN_REASON if placed else "in no set of these data that was scored"
        rest = data.table[~data.table["image_id"].isin(used)]
        reasons = rest["image_id"].map(lambda name: data.reasons.get(name, reason))
        left_out = tuple(
            _part(public(str(name)), images) for name, images in rest.groupby(reasons, sort=True)
        )
    return DataFlow(
        source=source,
        rejected=rejected,
        prepared=prepared,
        left_out=left_out,
        sides=tuple(
            _part(name, data.sides[name]) if name in data.sides else Part(name, len(images))
            for name, images in data.listed.items()
        ),
        scored=_part("scored", data.scored),
        origins=_origins(data) if placed else (),
        samples=data.samples,
    )


def _part(name: str, images: pd.DataFrame) -> Part:
    return Part(name, len(images), images["patient_id"].nunique())


def _rejected(rejected: pd.DataFrame) -> tuple[Part, ...]:
    """Return the most frequent reasons, and the rest as one."""
    numbers = rejected["reason"].fillna(_UNKNOWN_REASON).value_counts(sort=True)
    most = len(numbers) if len(numbers) <= _MOST_REASONS else _MOST_REASONS - 1
    found = [Part(public(str(reason)), int(number)) for reason, number in numbers.iloc[:most].items()]
    if len(numbers) > most:
        found.append(Part(f"{len(numbers) - most} other reasons", int(numbers.iloc[most:].sum())))
    return tuple(found)


def _origins(data: StudyData) -> tuple[Part, ...]:
    scored = data.scored
    found = [_part(name, scored[scored["image_id"].isin(images)]) for name, images in data.listed.items()]
    placed = {name for images in data.listed.values() for name in images}
    found.append(_part("none of the sets", scored[~scored["image_id"].isin(placed)]))
    return tuple(part for part in found if part.images)


def characteristics(data: StudyData) -> pd.DataFrame:
    """Count patients and images of each set by their characteristics.

    Returns:
        A row for each value, with the columns `characteristic`, `value`, and the number of images (of
        patients, in the rows that say so) of each set. A missing value is the value `missing`. Assessment and
        subtlety are left out if no image has any.
    """
    sets = dict(data.sides)
    if not any(set(images["image_id"]) == set(data.scored["image_id"]) for images in sets.values()):
        sets["scored"] = data.scored
    together = pd.concat(sets.values())
    tables = sets.values()
    rows: list[tuple[str, str, list[int]]] = []
    for name, number in (("patients", lambda images: images["patient_id"].nunique()), ("images", len)):
        rows.append((name, "all", [number(images) for images in tables]))
        if together["pathology"].notna().any():
            rows.append((name, "malignant", [number(_malignant(images)) for images in tables]))
    for column in (*_COLUMNS, *_OPTIONAL_COLUMNS):
        if column in _OPTIONAL_COLUMNS and together[column].isna().all():
            continue
        for value in sorted(together[column].dropna().unique()):
            rows.append(
                (column, str(value), [int((images[column] == value).sum()) for images in sets.values()])
            )
        if together[column].isna().any():
            rows.append((column, "missing", [int(images[column].isna().sum()) for images in sets.values()]))
    frame = pd.DataFrame([numbers for _, _, numbers in rows], columns=list(sets))
    frame.insert(0, "characteristic", [name for name, _, _ in rows])
    frame.insert(1, "value", [value for _, value, _ in rows])
    return frame


def _malignant(images: pd.DataFrame) -> pd.DataFrame:
    return images[(images["pathology"] == "MALIGNANT").fillna(value=False).astype(bool)]


def characteristics_rows(table: pd.DataFrame) -> list[tuple[str, str, list[str]]]:
    """Return label, value and cells of each row of `characteristics`, with shares of the set's total."""
    sets = list(table.columns[2:])
    totals: Mapping[str, pd.Series] = {
        name: table.loc[(table["characteristic"] == name) & (table["value"] == "all"), sets].iloc[0]
        for name in ("patients", "images")
    }
    rows = []
    for _, row in table.iterrows():
        total = totals["patients" if row["characteristic"] == "patients" else "images"]
        cells = [
            f"{row[name]}" if row["value"] == "all" else f"{row[name]} ({_share(row[name], total[name])})"
            for name in sets
        ]
        rows.append((readable(row["characteristic"]), readable(row["value"]), cells))
    return rows


def _share(number: int, total: int) -> str:
    return f"{100 * number / total:.0f} %" if total else "–"
