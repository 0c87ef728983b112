"""Simulated patients with correlated images, and tables of predictions for them."""

import numpy as np
import pandas as pd

from mammo.data.tasks import CLASSES
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.weighted_metrics import expit


def simulate(
    rng: np.random.Generator, *, patients: int, alike: float = 0.7, shift: float = 1.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patients, labels and normal scores of images, 1 to 3 per patient.

    40 % of the patients have malignant images; 10 % of the images of these patients are benign. The images of
    a patient have the share `alike` of the variance of their scores in common.
    """
    index = np.repeat(np.arange(patients), rng.integers(1, 4, size=patients))
    ill = rng.permutation(patients) < round(0.4 * patients)
    labels = (ill[index] & (rng.random(index.size) < 0.9)).astype(int)
    shared, own = rng.normal(size=patients)[index], rng.normal(size=index.size)
    scores = np.sqrt(alike) * shared + np.sqrt(1 - alike) * own + shift * labels
    return np.char.mod("P_%05d", index), labels, scores


def predictions(
    rng: np.random.Generator, *, patients: int = 60, shift: float = 1.1, source: str = "simulated"
) -> Predictions:
    """A table of the task `pathology` with all columns for each image."""
    names, labels, scores = simulate(rng, patients=patients, shift=shift)
    malignant = expit(scores - 0.5)
    return table(
        names, labels, np.stack([1 - malignant, malignant], axis=1), rng, task="pathology", source=source
    )


def four_classes(rng: np.random.Generator, *, patients: int = 60, source: str = "four") -> Predictions:
    """A table of the task `lesion_type_pathology`."""
    names, malignant, _ = simulate(rng, patients=patients)
    labels = malignant + 2 * rng.integers(2, size=malignant.size)
    logits = rng.normal(size=(labels.size, 4)) + 1.5 * np.eye(4)[labels]
    powers = np.exp(logits)
    scores = powers / powers.sum(axis=1, keepdims=True)
    return table(names, labels, scores, rng, task="lesion_type_pathology", source=source)


def table(
    patients: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    rng: np.random.Generator,
    *,
    task: str,
    source: str,
) -> Predictions:
    classes = CLASSES[task]
    count = len(patients)
    columns = {
        "image_id": [f"{patient}_{i}" for i, patient in enumerate(patients)],
        "patient_id": patients,
        "laterality": pd.array(rng.choice(["LEFT", "RIGHT"], count), dtype="string"),
        "view": pd.array(rng.choice(["CC", "MLO"], count), dtype="string"),
        "density": pd.array(rng.integers(1, 5, count), dtype="Int64"),
        "abnormality_type": pd.array(rng.choice(["mass", "calcification"], count), dtype="string"),
        "subtlety": pd.array(rng.integers(1, 6, count), dtype="Int64"),
        "assessment": pd.array([pd.NA] * count, dtype="Int64"),
        "label": [classes[label] for label in labels],
        **{f"score_{name}": scores[:, i] for i, name in enumerate(classes)},
        "fold": pd.array([pd.NA] * count, dtype="Int64"),
    }
    return Predictions(pd.DataFrame(columns), classes, source)
