"""Which series of a data set are downloaded: those of its images, of chosen patients, masks and crops."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from mammo.data.sources.cbis_ddsm import FILE_COLUMNS, read_case_rows
from mammo.data.sources.public.cmmd import read_breasts


def choose_patients(
    malignant: "pd.Series[bool]", test: "pd.Series[bool]", count: int, *, seed: int
) -> list[str]:
    """Return some patients, of each class and official split in the proportion of the data set.

    A larger number contains the patients of a smaller one. Two patients are one of each class.

    Args:
        malignant: Whether a patient has a malignant image, by patient.
        test: Whether an image of a patient is in the official test set, by patient.
        count: Number of patients.
        seed: Seed of the choice.
    """
    rng = np.random.default_rng(seed)
    parts = malignant.groupby([test, malignant])
    shuffled = [(label, rng.permutation(sorted(part.index))) for (_, label), part in parts]
    largest, *others = sorted(shuffled, key=lambda part: -len(part[1]))
    # the largest part first, then the largest of the other class
    ordered = [largest, *sorted(others, key=lambda part: part[0] == largest[0])]
    ranked = [
        (rank / len(names), place, name)
        for place, (_, names) in enumerate(ordered)
        for rank, name in enumerate(names)
    ]
    # the first of each part, then all parts at the same pace
    return [name for *_, name in sorted(ranked)[:count]]


def select_cbis_ddsm(
    cases: Path,
    *,
    abnormality: Literal["mass", "calc", "all"],
    patients: int | None,
    seed: int,
    masks: bool,
    crops: bool,
) -> pd.DataFrame:
    """Return `patient_id`, `image_id` and `uid` of the series to download, from the case files.

    Args:
        cases: Folder of the case files.
        abnormality: Lesion type of the case files to read.
        patients: Number of patients, see `choose_patients`; None for all.
        seed: Seed of the choice of patients.
        masks: Whether to download the ROI masks.
        crops: Whether to download the cropped images; most are in the series of the masks.

    Raises:
        DataError: A case file cannot be read.
    """
    rows = read_case_rows([cases], abnormality)
    by_patient = rows.groupby("patient_id")
    malignant = by_patient["pathology"].agg(lambda labels: bool((labels == "MALIGNANT").any()))
    test = by_patient["official_split"].agg(lambda splits: bool((splits == "test").any()))
    rows = _of_patients(rows, malignant, test, patients, seed)
    wanted = ["image", *(["mask"] if masks else []), *(["crop"] if crops else [])]
    assert set(wanted) <= set(FILE_COLUMNS)
    parts = [
        rows[["patient_id", "image_id"]].assign(uid=rows[name].str.replace("\\", "/").str.split("/").str[-2])
        for name in wanted
    ]
    return pd.concat(parts, ignore_index=True).drop_duplicates(ignore_index=True)


def select_cmmd(
    table: Path, series: Sequence[tuple[str, str]], *, patients: int | None, seed: int
) -> pd.DataFrame:
    """Return `patient_id` and `uid` of the series to download.

    Args:
        table: Table of the breasts.
        series: Patient and UID of each series of the collection.
        patients: Number of patients, see `choose_patients`; None for all.
        seed: Seed of the choice of patients.

    Raises:
        DataError: The table cannot be read.
    """
    rows = pd.DataFrame(series, columns=["patient_id", "uid"])
    if patients is None:
        return rows
    breasts = read_breasts(table)
    malignant = breasts.groupby("patient_id")["pathology"].agg(
        lambda labels: bool((labels == "MALIGNANT").any())
    )
    malignant = malignant[malignant.index.isin(rows["patient_id"])]
    return _of_patients(rows, malignant, malignant & False, patients, seed)


def _of_patients(
    rows: pd.DataFrame,
    malignant: "pd.Series[bool]",
    test: "pd.Series[bool]",
    patients: int | None,
    seed: int,
) -> pd.DataFrame:
    if patients is None:
        return rows
    chosen = choose_patients(malignant, test, patients, seed=seed)
    return rows[rows["patient_id"].isin(chosen)]
