"""Counts of a catalog: images, lesions, files, missing values, leaked patients and duplicate files."""

import contextlib
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from tqdm import tqdm

from mammo.data.catalog import Catalog
from mammo.errors import DataError

_CHUNK_BYTES = 1 << 16


def inventory(
    catalog: Catalog, *, masks: bool = True, duplicates: bool = True, workers: int | None = None
) -> dict[str, Any]:
    """Count the contents of a catalog.

    Args:
        catalog: Images and lesions.
        masks: Whether to read the ROI masks and count the usable ones.
        duplicates: Whether to compare the image files byte for byte and count the duplicates.
        workers: Number of threads that read masks; one per core by default.

    Returns:
        Counts by name, and the lists `leak_patient_ids` and `duplicate_groups`. A name starts with the
        official split, the abnormality type or both (`train_mass_images`, without the images that have
        calcifications too: these are `train_both_images`). `leak_...` counts what is in both official
        splits, `clean_test_...` the test set without the leaked patients, `left out: ...` images of the
        data set that are not in its table, by reason; `cohort: ...` the images of one, and `dataset` and
        `diagnosis` alike.
    """
    images, lesions = catalog.images, catalog.lesions
    counts = _contents(images, lesions) | _files(images)
    counts |= {f"left out: {reason}": count for reason, count in catalog.left_out.items()}
    if images["official_split"].notna().any():
        counts |= _leak(images)
    if masks:
        counts |= _masks(images, lesions, workers or os.cpu_count() or 1)
    if duplicates:
        counts |= _duplicates(list(images["path"].dropna().unique()))
    return counts


def _contents(images: pd.DataFrame, lesions: pd.DataFrame) -> dict[str, Any]:
    """Images, malignant images, patients and lesions, per official split and abnormality type."""
    lesions = lesions.merge(images[["image_id", "official_split"]], on="image_id", how="left")
    counts: dict[str, Any] = {}
    for split in ("", *sorted(images["official_split"].dropna().unique(), reverse=True)):
        for kind in ("", *sorted(images["abnormality_type"].dropna().unique(), reverse=True)):
            selected = _select(images, split, kind)
            name = "".join(f"{part}_" for part in (split, kind) if part)
            counts[f"{name}images"] = len(selected)
            counts[f"{name}malignant_images"] = _malignant(selected)
            counts[f"{name}patients"] = selected["patient_id"].nunique()
            if kind != "both":  # a lesion is of one type
                selected = _select(lesions, split, kind)
                counts[f"{name}lesions"] = len(selected)
                counts[f"{name}malignant_lesions"] = _malignant(selected)
    for column in ("dataset", "cohort", "diagnosis"):
        for value, part in images.groupby(column) if column in images else ():
            counts[f"{column}: {value}, images"] = len(part)
            counts[f"{column}: {value}, malignant images"] = _malignant(part)
    labels = lesions.groupby("image_id")["pathology"].nunique()
    counts["images_with_benign_and_malignant_lesions"] = int((labels > 1).sum())
    counts["images_with_several_lesions"] = int((lesions["image_id"].value_counts() > 1).sum())
    counts["lesions_with_box"] = int(lesions["x_min"].notna().sum())
    for column in (
        "pathology",
        "laterality",
        "view",
        "abnormality_type",
        "density",
        "subtlety",
        "assessment",
    ):
        counts[f"images_without_{column}"] = int(images[column].isna().sum())
    return counts


def _select(table: pd.DataFrame, split: str, kind: str) -> pd.DataFrame:
    if split:
        table = table[(table["official_split"] == split).fillna(value=False)]
    if kind:
        table = table[(table["abnormality_type"] == kind).fillna(value=False)]
    return table


def _malignant(table: pd.DataFrame) -> int:
    return int((table["pathology"] == "MALIGNANT").sum())


def _files(images: pd.DataFrame) -> dict[str, Any]:
    missing = int(images["path"].isna().sum())
    return {"files_found": len(images) - missing, "files_missing": missing}


def _leak(images: pd.DataFrame) -> dict[str, Any]:
    """Patients and views in both official splits, and the test set without these patients."""
    train, test = _select(images, "train", ""), _select(images, "test", "")
    leaked = test[test["patient_id"].isin(train["patient_id"])]
    clean = test.drop(leaked.index)
    view = ["patient_id", "laterality", "view"]
    views = leaked[view].dropna().drop_duplicates().merge(train[view].drop_duplicates(), on=view)
    patients = sorted(leaked["patient_id"].unique())
    return {
        "leak_patients": len(patients),
        "leak_views": len(views),
        "leak_test_images": len(leaked),
        "clean_test_images": len(clean),
        "clean_test_malignant_images": _malignant(clean),
        "leak_patient_ids": patients,
    }


def _masks(images: pd.DataFrame, lesions: pd.DataFrame, workers: int) -> dict[str, Any]:
    """Lesions by the status of their ROI mask; `no_image` if the image is missing or unreadable."""
    from mammo.data.images.masks import MaskStatus

    masked = lesions[lesions["mask_paths"].notna()]
    paths = masked["image_id"].map(images.set_index("image_id")["path"])
    tasks = list(zip(paths, masked["mask_paths"], strict=True))
    with ThreadPoolExecutor(workers) as pool:
        statuses = tqdm(
            pool.map(_mask_status, tasks), total=len(tasks), desc="masks", unit="lesion", disable=None
        )
        count_of = Counter(statuses)
    count_of["missing"] += len(lesions) - len(masked)
    counts = {f"lesion_masks_{status}": count_of[status] for status in (*get_args(MaskStatus), "no_image")}
    usable = count_of["as_is"] + count_of["rescaled"]
    return {"lesions_with_usable_mask": usable, "lesions_without_usable_mask": len(lesions) - usable} | counts


def _mask_status(task: tuple[Any, str]) -> str:
    from mammo.data.images.masks import find_mask

    image, candidates = task
    try:
        shape = _shape(Path(image)) if isinstance(image, str) else None
    except DataError:
        shape = None
    if shape is None:
        return "no_image"
    return find_mask([Path(path) for path in candidates.split(os.pathsep)], image_shape=shape).status


def _shape(path: Path) -> tuple[int, int]:
    """Rows and columns of an image, without decoding it if a DICOM header contains them."""
    import pydicom

    from mammo.data.images.dicom import read_stored

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
        return int(header.Rows), int(header.Columns)
    except Exception:  # not DICOM, or damaged: the reader decides
        rows, columns = read_stored(path).shape
        return rows, columns


def _duplicates(paths: list[str]) -> dict[str, Any]:
    """Files of equal content; cheap comparisons first, so that few files are read as a whole."""
    groups: list[list[str]] = [paths]
    for key in (os.path.getsize, _middle_hash, _whole_hash):
        groups = [part for group in groups for part in _grouped(group, key) if len(part) > 1]
    return {
        "duplicate_files": sum(len(group) - 1 for group in groups),
        "duplicate_groups": [sorted(group) for group in groups],
    }


def _grouped(paths: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    groups: defaultdict[Hashable, list[str]] = defaultdict(list)
    for path in paths:
        with contextlib.suppress(OSError):  # an unreadable file has no duplicate
            groups[key(path)].append(path)
    return list(groups.values())


def _middle_hash(path: str) -> bytes:
    """Digest of 64 kB in the middle of the file, where the breast is; other parts are often alike."""
    with open(path, "rb") as file:
        file.seek(os.path.getsize(path) // 2)
        return hashlib.sha256(file.read(_CHUNK_BYTES)).digest()


def _whole_hash(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
