"""The samples of a split of a run, and their scores."""

import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import arguments_for, plain
from mammo.data.loading.loader import StoreDataset
from mammo.data.loading.patch_dataset import dataset_of
from mammo.data.samples import in_views, other_views_sentence, sample_settings, views_of
from mammo.data.seen_patients import count_seen, refuse_seen
from mammo.data.sources.reader import read_catalog
from mammo.data.splits import make_split
from mammo.data.store.fingerprint import PREPARATION_KEYS
from mammo.data.store.store import Store, prepare
from mammo.data.store.white_points import ranges_of_run
from mammo.data.tasks import Task, labels, unlabelled_sentence
from mammo.errors import ConfigError, DataError
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.scoring import Scorer, Scores, Tta, open_scorer
from mammo.runs import RunFolder
from mammo.runs.provenance import Provenance, weights_digest
from mammo.training.best_epoch import parts_columns, predictions_table

SplitName = Literal["val", "test", "clean_test", "train", "all"]


@dataclass(frozen=True)
class OpenedSplit:
    """The samples of a split, and the network of the run that scores them.

    Attributes:
        images: M rows of the images table.
        labels: M, index of the class of each image.
        dataset: samples of these images: the images themselves, breasts or exams, as in the training.
        task: task of the run.
        store: store of the images.
        scorer: scorer of the run.
        fold: fold of the run if the images are from its own data, else NA.
        provenance: record of the weights and data, with the check of `count_seen`.
        source: run and split, shown in messages.
        notes: sentences on images that are left out: with other views, and in no class of the task.
    """

    images: pd.DataFrame
    labels: NDArray[np.int64]
    dataset: StoreDataset
    task: Task
    store: Store
    scorer: Scorer
    fold: Any
    provenance: Provenance
    source: str
    notes: tuple[str, ...] = ()

    def predictions(self, scores: Scores) -> Predictions:
        """Return the predictions of the units of the dataset from their scores."""
        dataset, classes = self.dataset, self.task.classes
        table = predictions_table(
            dataset.units,
            label=dataset.unit_labels,
            probability=scores.probability.numpy(),
            classes=classes,
        )
        parts = None if scores.parts is None else scores.parts.numpy()
        every = np.arange(len(table))
        table = table.assign(fold=self.fold, **parts_columns(dataset, parts, unit=every, classes=classes))
        return Predictions(table, self.task, self.source, (self.provenance,))

    def score(self) -> Predictions:
        """Return the uncalibrated scores of the units of the dataset."""
        return self.predictions(self.scorer.of_dataset(self.dataset))


def open_split(
    run: RunFolder, split: SplitName, *, data: DictConfig | None = None, tta: Tta = "none"
) -> OpenedSplit:
    """Open the images of a split and the network.

    Args:
        run: finished run.
        split: `val` and `train` are those of the run; `clean_test` leaves out patients of the training set;
            `all` is every image.
        data: data to use instead of the run's own, with the run's preprocessing.
        tta: see `Scorer`.

    Raises:
        ConfigError: the run has no usable checkpoint, or the data have no such split.
        DataError: the split has no images, or some of them are not in the store; a test set of the run's own
            data has a patient of the training or validation set.
    """
    config: Any = OmegaConf.create(run.config())
    settings = config.data if data is None else _as_prepared(data, config.data)
    known = None if data is None else ranges_of_run(run)
    store = prepare(read_catalog(plain(settings)), **arguments_for(prepare, settings), known_kinds=known)
    if known is not None and (others := sorted(store.manifest["kinds"].keys() - known.keys())):
        print(
            "warning: some images are of a kind of file that is not among the training images: "
            f"{'; '.join(others)}; the white point of each is that of the images of this kind",
            file=sys.stderr,
        )
    ids = _image_ids(run, split, store=store, data=settings, own=data is None)
    table = store.table.set_index("image_id", drop=False)
    missing = [image for image in ids if image not in table.index]
    if missing:
        raise DataError(
            f"run={run.path}: {len(missing)} of the {len(ids)} {split} images are not in the store, first "
            f"'{missing[0]}'; restore the run's data"
        )
    if not ids:
        raise DataError(f"split={split}: has no images; choose another split")
    images, own, task = table.loc[ids], data is None, Task.of(run.config()["task"])
    unit, views = settings.get("sample_unit", "image"), settings.get("views")  # an older run has neither
    entering = in_views(images, unit=unit, views=views)
    other_views = other_views_sentence(images, entering, unit=unit, views=views)
    images = images[entering]
    found = labels(images, store.lesions, task=task)
    unlabelled = unlabelled_sentence(images, store.lesions, found, task=task)
    images, found = images[found >= 0], found[found >= 0]
    if images.empty:
        raise DataError(f"split={split}: {unlabelled}; choose data with the classes of the run")
    seen = count_seen(run, images, table=store.table, own=own)
    if own and split in ("test", "clean_test"):
        refuse_seen(run, seen, split=split, images=len(images), data_split=config.data.split)
    provenance = Provenance(
        weights_digest(run),  # before the weights are read, which a training may replace
        store.directory.name,
        split,
        tta,
        images=len(images),
        seen=None if seen is None else seen.to_dict(),
    )
    return OpenedSplit(
        images=images,
        labels=found,
        dataset=dataset_of(
            store=store, table=images, task=task, patch=settings.get("patch"), **sample_settings(settings)
        ),
        task=task,
        store=store,
        scorer=open_scorer(run, batch_size=config.data.batch_size, tta=tta),
        fold=config.data.fold if own and config.data.split == "kfold" else pd.NA,
        provenance=provenance,
        source=f"{run.path} ({split})",
        notes=tuple(f"{sentence}: they are left out" for sentence in (other_views, unlabelled) if sentence),
    )


def score_split(
    run: RunFolder, split: SplitName, *, data: DictConfig | None = None, tta: Tta = "none"
) -> Predictions:
    """Return the uncalibrated scores of the images of a split; see `open_split`."""
    return open_split(run, split, data=data, tta=tta).score()


def _as_prepared(data: DictConfig, own: DictConfig) -> DictConfig:
    """Return the settings of other data with the run's preprocessing, unit and views."""
    merged = data.copy()
    merged.update({key: own[key] for key in PREPARATION_KEYS})  # a run uses its own on any data
    unit = own.get("sample_unit", "image")
    views = views_of(unit, own.get("views"))
    given = views if data.get("views") is None else views_of(unit, data.views)
    if views is not None and given != views:
        raise ConfigError(
            f"data.views=[{','.join(data.views)}]: the run was trained with [{','.join(views)}]; leave it out"
        )
    merged.update(sample_unit=unit, views=None if given is None else list(given))
    if unit == "patch":
        merged.update(patch=own.patch)
    return merged


def _image_ids(run: RunFolder, split: SplitName, *, store: Store, data: DictConfig, own: bool) -> list[str]:
    if split == "all":
        return sorted(store.table["image_id"])
    if own and split != "clean_test":
        return (run.path / "split" / f"{split}.txt").read_text().splitlines()
    wanted = arguments_for(make_split, data)
    if split == "clean_test":
        wanted |= {"split": "clean", "sample": None}
    sides: dict[str, list[str]] = asdict(make_split(store.table, **wanted))
    return sides["test" if split == "clean_test" else split]
