"""Black and white of each kind of file in a data set, and how the store uses them."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from mammo.data.images.display import Display
from mammo.data.sources.csv_dataset import read_csv
from mammo.data.store import white_points
from mammo.data.store.store import Store, prepare
from mammo.data.store.white_points import known_ranges, measure_ranges

SIZE: dict[str, Any] = {"height": 64, "width": 48, "crop": "none", "aspect": "stretch", "workers": 0}


def film(highest: int) -> NDArray[np.uint16]:
    pixels = np.linspace(0, highest, 64 * 48).reshape(64, 48)
    return np.rint(pixels).astype(np.uint16)


def stored(folder: Path, highest: dict[str, int], **choices: Any) -> Store:
    """Store of one film of each highest value."""
    for name, value in highest.items():
        if not (folder / name).exists():  # a file written again is another file
            cv2.imwrite(str(folder / name), film(value))
    names = list(highest)
    table = pd.DataFrame({"image_path": names, "patient_id": names, "pathology": "benign"})
    table.to_csv(folder / "t.csv", index=False)
    return prepare(read_csv(table=folder / "t.csv", root=folder), store=folder / "store", **SIZE, **choices)


def test_each_kind_of_file_has_the_white_point_of_its_images(tmp_path: Path) -> None:
    store = stored(tmp_path, {"a.png": 900, "b.png": 4000, "c.tif": 60000, "d.tif": 3000})
    assert store.manifest["kinds"] == {
        "PNG, 16 bits": {"images": 2, "black": 0, "white": 4095},
        "TIFF, 16 bits": {"images": 2, "black": 0, "white": 65535},
    }
    assert store.manifest["settings"]["white"] == "auto"
    dark = "is dark, because its values need only 12 bits and white is 65535"
    assert store.manifest["notes"] == {dark: 1}
    assert store.table["kind"].tolist() == ["PNG, 16 bits"] * 2 + ["TIFF, 16 bits"] * 2
    highest = store.images.max(axis=(1, 2)).tolist()
    assert highest == [round(900 / 4095 * 65535), round(4000 / 4095 * 65535), 60000, 3000]
    assert not (store.directory / "white_points.json").exists()
    assert known_ranges(store.manifest["kinds"]) == {"PNG, 16 bits": (0, 4095), "TIFF, 16 bits": (0, 65535)}


def test_other_choices_of_the_white_point_give_other_stores(tmp_path: Path) -> None:
    films = {"a.png": 900, "b.png": 4000}
    stores = [stored(tmp_path, films, white=white) for white in ("auto", "file", 5000)]
    assert len({store.directory for store in stores}) == 3
    whites = [4095, 65535, 5000]
    for store, white in zip(stores, whites, strict=True):
        assert store.images[1].max() == round(4000 / white * 65535)
    again = stored(tmp_path, films, known_kinds={"PNG, 16 bits": (0, 4095), "JPEG, 8 bits": (0, 255)})
    assert again.directory == stores[0].directory  # which measured the same
    known = stored(tmp_path, films, known_kinds={"PNG, 16 bits": (0, 1023)})
    assert known.images.max() == 65535
    assert known.manifest["notes"] == {"has values outside black and white, 0 and 1023": 1}


def test_films_are_decoded_until_all_bits_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    true_read = white_points.read_values

    def watched(path: Path) -> Any:
        read.append(path.name)
        return true_read(path)

    monkeypatch.setattr(white_points, "read_values", watched)
    paths = []
    for name, value in {"a.png": 900, "b.png": 60000, "c.png": 100, "d.jpg": 200, "e.txt": 0}.items():
        paths.append(tmp_path / name)
        if name == "e.txt":
            paths[-1].write_text("no image")
        else:
            cv2.imwrite(str(paths[-1]), film(value).astype(np.uint8 if name == "d.jpg" else np.uint16))
    found = measure_ranges(paths, Display(), cache=tmp_path / "cache.json", workers=0)
    assert found == {"JPEG, 8 bits": (0, 255), "PNG, 16 bits": (0, 65535)}
    assert read == ["a.png", "b.png"]
    assert measure_ranges([], Display(), cache=tmp_path / "cache.json", workers=0) == found
    assert json.loads((tmp_path / "cache.json").read_text())["PNG, 16 bits"] == [0, 65535]
