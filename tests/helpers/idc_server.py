"""A small Imaging Data Commons: an index of series, and a server of the S3 protocol on this machine."""

import contextlib
import hashlib
import io
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.dicom_headers import header_of
from helpers.trees import File, Lesion, files

BUCKET = "idc-open-data"


def write_collection(folder: Path, lesions: Sequence[Lesion], *, padding: int = 0) -> Path:
    """Write the DICOM files of a release like CBIS-DDSM into the bucket of a server; return their index.

    Args:
        folder: folder of the server.
        lesions: rows of the case files.
        padding: bytes at the end of each file, which take no space on the disk.
    """
    by_series: dict[str, list[File]] = {}
    for file in files(list(lesions)):
        by_series.setdefault(file.series, []).append(file)
    rows = []
    for uid, parts in by_series.items():
        first = parts[0]
        objects = {f"{part.number}": dicom_file(part) for part in parts}
        rows.append(_publish(folder, "cbis_ddsm", first.case, first.study, uid, objects, padding))
    return write_index(folder, rows)


def write_index(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows of `_publish` as an index beside the bucket; return its path."""
    index = folder.parent / f"{folder.name}_index.parquet"
    pd.DataFrame(rows).to_parquet(index, index=False)
    return index


def publish(
    folder: Path, collection: str, patient: str, study: str, uid: str, objects: dict[str, bytes]
) -> dict[str, object]:
    """Write the files of a series into the bucket; return its row of the index."""
    return _publish(folder, collection, patient, study, uid, objects, 0)


def _publish(
    folder: Path, collection: str, patient: str, study: str, uid: str, objects: dict[str, bytes], padding: int
) -> dict[str, object]:
    key = hashlib.md5(uid.encode()).hexdigest()
    place = folder / BUCKET / key
    place.mkdir(parents=True)
    for name, content in objects.items():
        with (place / f"{name}.dcm").open("wb") as file:
            file.write(content)
            if padding:  # Data Set Trailing Padding
                file.write(struct.pack("<HH2sHL", 0xFFFC, 0xFFFC, b"OB", 0, padding - 12))
                file.truncate(len(content) + padding)
    return {
        "collection_id": collection,
        "PatientID": patient,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": uid,
        "Modality": "MG",
        "instanceCount": len(objects),
        "series_size_MB": sum(len(content) + padding for content in objects.values()) / 1e6,
        "series_aws_url": f"s3://{BUCKET}/{key}/*",
        "license_short_name": "CC BY 3.0",
        "source_DOI": "10.7937/k9/tcia.2016.7o02s9cy",
    }


def dicom_file(file: File) -> bytes:
    """A film with a half ellipse and a lesion in it, its mask, or its crop."""
    y, x = np.mgrid[:60, :40]
    lesion = (abs(y - 30) < 5) & (abs(x - 10) < 4)
    if file.number == 2 or file.description.startswith("ROI"):
        pixels: NDArray[np.uint16] = (lesion * 255).astype(np.uint16)
    else:
        rng = np.random.default_rng(int(file.series[-6:]))
        levels = np.where(((y - 30) / 25) ** 2 + (x / 30) ** 2 < 1, 0.3, 0.01) + rng.random(y.shape) * 0.02
        pixels = (np.where(lesion, 0.9, levels) * 65535).astype(np.uint16)
        pixels = pixels[20:40, 5:20] if file.description.startswith("crop") else pixels
    header = header_of(
        np.ascontiguousarray(pixels),
        PatientID=file.case,
        StudyInstanceUID=file.study,
        SeriesInstanceUID=file.series,
        SeriesDescription=file.description,
        Manufacturer="",
    )
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def object_of(folder: Path, uid: str) -> Path:
    """The folder of the objects of a series."""
    return folder / BUCKET / hashlib.md5(uid.encode()).hexdigest()


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """A server of the buckets in a folder; yields its address."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    program = [sys.executable, "-m", "localbucket", "--port", str(port), str(folder)]
    with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
