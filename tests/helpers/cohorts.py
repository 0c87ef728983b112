"""Simulated patients with correlated images, and tables of predictions for them."""

import numpy as np
import pandas as pd

from mammo.data.tasks import Task
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.statistics.weighted_metrics import expit

_WORDS = ("sample_id", "image_id", "patient_id", "laterality", "view", "abnormality_type")


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
    found = Task.shipped(task)
    classes = found.classes
    count = len(patients)
    ids = [f"{patient}_{i}" for i, patient in enumerate(patients)]
    columns = {
        "sample_id": ids,
        "unit": "image",
        "image_id": ids,
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
    return Predictions(pd.DataFrame(columns), found, source)


def several_views(images: Predictions, *, unit: str, source: str = "several views") -> Predictions:
    """A table of breasts or exams of the task `pathology`, each scored with the mean over its images.

    The views, and the sides of exams, have scores of their own; those without an image are missing.
    """
    table = images.table.assign(malignant=images.malignant, score=images.malignancy)
    rows = []
    for name, held in table.groupby(["patient_id", "laterality"] if unit == "breast" else ["patient_id"]):
        row = {
            **held.iloc[0][["patient_id", "density", "abnormality_type", "subtlety", "assessment", "fold"]],
            "sample_id": "_".join(name),
            "unit": unit,
            "image_id": ";".join(held["image_id"]),
            "laterality": name[1] if unit == "breast" else pd.NA,
            "view": pd.NA,
            "label": images.classes[held["malignant"].max()],
        }
        parts = {"": held}
        if unit == "breast":
            parts |= {f"_{view}": held[held["view"] == view] for view in ("CC", "MLO")}
        else:
            for side in ("LEFT", "RIGHT"):
                parts[f"_{side}"] = own = held[held["laterality"] == side]
                parts |= {f"_{side}_{view}": own[own["view"] == view] for view in ("CC", "MLO")}
                row[f"label_{side}"] = pd.NA if own.empty else images.classes[own["malignant"].max()]
        for place, found in parts.items():
            score = found["score"].mean()
            row |= {f"score_BENIGN{place}": 1 - score, f"score_MALIGNANT{place}": score}
        rows.append(row)
    return Predictions(pd.DataFrame(rows).astype(dict.fromkeys(_WORDS, "string")), images.task, source)
