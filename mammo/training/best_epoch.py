"""Score of the best epoch on the validation images, and the table of its predictions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.metrics import Estimate, clustered_auc, clustered_multiclass_auc
from mammo.runs.provenance import Provenance, write_scores
from mammo.training.module import MammogramModule

_FACTS = (
    "image_id",
    "patient_id",
    "laterality",
    "view",
    "density",
    "abnormality_type",
    "subtlety",
    "assessment",
)


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
        datamodule: data module of the validation images.
        checkpoint: checkpoint of the best epoch.
        predictions: CSV file to write: facts of each image, its class, and a score for each class;
            the files of all folds together contain out-of-fold predictions.
        fold: fold of the run, written as a column of the table; None without folds.
        provenance: record of the checkpoint and the data, written beside the table.
    """
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(weights)
    trainer.validate(module, datamodule, verbose=False)
    probability, label, row = module.val_scores.gathered()
    images = datamodule.store.table.set_index("row").loc[row.tolist()]
    predictions.parent.mkdir(parents=True, exist_ok=True)
    table = predictions_table(images, label=label, probability=probability, classes=datamodule.classes)
    content = table.assign(fold=fold).to_csv(index=False)
    write_scores(predictions, content, provenance=[replace(provenance, images=len(table))])
    patients = images["patient_id"].to_numpy(dtype=str)
    if len(datamodule.classes) == 2:
        return clustered_auc(probability[:, 1], label, patients)
    return clustered_multiclass_auc(probability, label, patients)


def predictions_table(
    images: pd.DataFrame,
    *,
    label: NDArray[np.int64],
    probability: NDArray[np.float32],
    classes: Sequence[str],
) -> pd.DataFrame:
    """Return a table with the facts of each image, its class, and a score for each class.

    Args:
        images: N rows of the images table.
        label: N, index of the class of each image.
        probability: N C, probability of each class.
        classes: names of the C classes.
    """
    table = images[list(_FACTS)].assign(label=[classes[index] for index in label])
    for index, name in enumerate(classes):
        table[f"score_{name}"] = probability[:, index].astype(float)
    return table
