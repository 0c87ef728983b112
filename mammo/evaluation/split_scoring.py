"""The images of a split of a run, and their scores."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from mammo.config.checks import arguments_for
from mammo.data.sources.reader import read_catalog
from mammo.data.splits import make_split
from mammo.data.store.store import Store, prepare
from mammo.data.tasks import CLASSES, labels
from mammo.errors import DataError
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.scoring import Scorer, Tta, open_classifier
from mammo.evaluation.seen_patients import count_seen, refuse_seen
from mammo.runs import RunFolder
from mammo.runs.provenance import Provenance, weights_digest
from mammo.training.best_epoch import predictions_table

SplitName = Literal["val", "test", "clean_test", "train", "all"]

# Settings of the preprocessing; a run uses its own on any data.
_PREPROCESSING = ("height", "width", "crop", "aspect")


@dataclass(frozen=True)
class OpenedSplit:
    """The images of a split, and the network of the run that scores them.

    Attributes:
        images: N rows of the images table.
        labels: N, index of the class.
        classes: names of the classes of the task.
        rows: N, rows of the images in the store.
        store: store of the images.
        scorer: scorer of the run.
        fold: fold of the run if the images are from its own data, else NA.
        provenance: record of the weights and data, with the check of `count_seen`.
        source: run and split, shown in messages.
    """

    images: pd.DataFrame
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    rows: list[int]
    store: Store
    scorer: Scorer
    fold: Any
    provenance: Provenance
    source: str

    def predictions(self, probability: NDArray[np.float32]) -> Predictions:
        """Return the predictions of the images from their probabilities, N C."""
        table = predictions_table(
            self.images, label=self.labels, probability=probability, classes=self.classes
        )
        table = table.reset_index(drop=True).assign(fold=self.fold)
        return Predictions(table, self.classes, self.source, (self.provenance,))

    def score(self) -> Predictions:
        """Return the uncalibrated scores of the images."""
        return self.predictions(self.scorer.of_store(self.store, self.rows))


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
    store = prepare(read_catalog(**arguments_for(read_catalog, settings)), **arguments_for(prepare, settings))
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
    images, own = table.loc[ids], data is None
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
    task = config.task.name
    return OpenedSplit(
        images=images,
        labels=labels(images, store.lesions, task=task),
        classes=CLASSES[task],
        rows=images["row"].tolist(),
        store=store,
        scorer=Scorer(
            open_classifier(run),
            size=(config.data.height, config.data.width),
            precision=config.trainer.precision,
            batch_size=config.data.batch_size,
            tta=tta,
        ),
        fold=config.data.fold if own and config.data.split == "kfold" else pd.NA,
        provenance=provenance,
        source=f"{run.path} ({split})",
    )


def score_split(
    run: RunFolder, split: SplitName, *, data: DictConfig | None = None, tta: Tta = "none"
) -> Predictions:
    """Return the uncalibrated scores of the images of a split; see `open_split`."""
    return open_split(run, split, data=data, tta=tta).score()


def _as_prepared(data: DictConfig, own: DictConfig) -> DictConfig:
    """Return the settings of other data with the run's preprocessing."""
    merged = data.copy()
    merged.update({key: own[key] for key in _PREPROCESSING})
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
