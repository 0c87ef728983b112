"""Score of the best epoch on the validation images, and the table of its predictions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.loading.loader import StoreDataset
from mammo.data.samples import SIDES, part_names
from mammo.metrics import Estimate, clustered_auc, clustered_multiclass_auc
from mammo.runs.provenance import Provenance, write_scores
from mammo.training.module import MammogramModule


def score_best(
    trainer: pl.Trainer,
    module: MammogramModule,
    datamodule: MammogramDataModule,
    *,
    checkpoint: Path,
    predictions: Path,
    fold: int | None,
    provenance: Provenance,
) -> Estimate:
    """Return the validation AUC of the best epoch, with a confidence interval clustered by patient.

    Args:
        trainer: trainer without callbacks.
        module: module that loads the weights.
        datamodule: data module of the validation samples.
        checkpoint: checkpoint of the best epoch.
        predictions: CSV file to write: facts of each sample, its class, and a score for each class;
            the files of all folds together contain out-of-fold predictions.
        fold: fold of the run, written as a column of the table; None without folds.
        provenance: record of the checkpoint and the data, written beside the table.
    """
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(weights)
    trainer.validate(module, datamodule, verbose=False)
    probability, label, unit = module.val_scores.gathered()
    units = datamodule.val.units.iloc[unit]
    predictions.parent.mkdir(parents=True, exist_ok=True)
    table = predictions_table(units, label=label, probability=probability, classes=datamodule.classes)
    parts = module.val_scores.gathered_parts()
    columns = parts_columns(datamodule.val, parts, unit=unit, classes=datamodule.classes)
    content = table.assign(fold=fold, **columns).to_csv(index=False)
    images = table["image_id"].str.split(";").explode().nunique()
    write_scores(predictions, content, provenance=[replace(provenance, images=images)])
    patients = units["patient_id"].to_numpy(dtype=str)
    if len(datamodule.classes) == 2:
        return clustered_auc(probability[:, 1], label, patients)
    return clustered_multiclass_auc(probability, label, patients)


def parts_columns(
    dataset: StoreDataset,
    parts: NDArray[np.float32] | None,
    *,
    unit: NDArray[np.int64],
    classes: Sequence[str],
) -> dict[str, NDArray[Any]]:
    """Return the columns of a predictions table for the views and sides of its samples.

    Args:
        dataset: dataset of the units.
        parts: U P C, probabilities of the views and, of exams, of the two sides; None where there are none.
        unit: U, the units of the table.
        classes: names of the C classes.

    Returns:
        `score_<CLASS>_<VIEW>`, as `score_MALIGNANT_CC` of a breast or `score_MALIGNANT_LEFT_CC` of an exam;
        of an exam also `score_<CLASS>_<SIDE>` and `label_<SIDE>`, as `label_LEFT`.
    """
    places = part_names(dataset.sample_unit, dataset.views)
    columns: dict[str, NDArray[Any]] = {}
    if parts is not None:
        columns = {
            f"score_{name}_{place}": parts[:, index, number].astype(float)
            for number, name in enumerate(classes)
            for index, place in enumerate(places)
        }
    if dataset.side_labels is not None:
        named = np.array([*classes, None], dtype=object)  # the last for -1, a side without images
        columns |= {
            f"label_{side}": named[labels]
            for side, labels in zip(SIDES, dataset.side_labels[dataset.first_of_units[unit]].T, strict=True)
        }
    return columns


def predictions_table(
    units: pd.DataFrame,
    *,
    label: NDArray[np.int64],
    probability: NDArray[np.float32],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Return a table with the facts of each sample, its class, and a score for each class.

    Args:
        units: N rows of a table of `facts_of_groups`.
        label: N, index of the class of each sample.
        probability: N C, probability of each class.
        classes: names of the C classes.
    """
    table = units.assign(label=[classes[index] for index in label])
    for index, name in enumerate(classes):
        table[f"score_{name}"] = probability[:, index].astype(float)
    return table
