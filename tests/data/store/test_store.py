"""The prepared store: correct pixels, boxes and masks, and the same bytes after any interruption."""

import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammo.data.catalog import IMAGE_COLUMNS, LESION_COLUMNS, Catalog
from mammo.data.store import store_building as preparing
from mammo.data.store.store import Store, prepare
from mammo.errors import DataError

COUNT = 14
SIZE = {"height": 96, "width": 64}


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)  # type: ignore[arg-type]


def make_catalog(folder: Path, *, suffix: str = ".png") -> Catalog:
    """Half ellipses, alternately left and right, with one or two square lesions, masks and crops."""
    rng = np.random.default_rng(0)
    images, lesions = [], []
    for number in range(COUNT):
        y, x = np.mgrid[:300, :200]
        inside = ((y - 150) / 100) ** 2 + (x / 120) ** 2 < 1
        levels = np.where(inside, 0.3, 0.01) + rng.random((300, 200)) * 0.02
        image_id = f"P_{number}_LEFT_CC"
        for k in range(1 + number % 2):
            mask = np.zeros((300, 200), np.uint8)
            mask[120 + 40 * k : 140 + 40 * k, 30 + 10 * number % 50 : 60 + 10 * number % 50] = 255
            levels[mask > 0] = 0.6
            mask = mask[:, ::-1] if number % 3 == 0 else mask
            paths = [folder / f"{image_id}_{k}_{name}.png" for name in ("crop", "mask")]
            cv2.imwrite(str(paths[0]), rng.integers(0, 255, (20, 30), dtype=np.uint8))
            cv2.imwrite(str(paths[1]), mask)
            lesion_id = f"{image_id}_mass_{k + 1}"
            joined = os.pathsep.join(map(str, paths))
            lesions.append({"image_id": image_id, "lesion_id": lesion_id, "mask_paths": joined})
        levels = levels[:, ::-1] if number % 3 == 0 else levels
        full_scale = 255 if suffix == ".jpg" else 65535
        path = folder / f"{image_id}{suffix}"
        cv2.imwrite(str(path), (levels * full_scale).astype(np.uint8 if suffix == ".jpg" else np.uint16))
        images.append(
            {"image_id": image_id, "patient_id": f"P_{number}", "pathology": "BENIGN", "path": str(path)}
        )
    return Catalog(images=table(images, IMAGE_COLUMNS), lesions=table(lesions, LESION_COLUMNS))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "catalog.pickle").write_bytes(pickle.dumps(make_catalog(folder)))
    return folder


@pytest.fixture
def catalog(files: Path) -> Catalog:
    loaded: Catalog = pickle.loads((files / "catalog.pickle").read_bytes())
    return loaded


@pytest.fixture(scope="module")
def finished(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    whole: Catalog = pickle.loads((files / "catalog.pickle").read_bytes())
    return prepare(whole, store=tmp_path_factory.mktemp("store"), workers=0, **SIZE)


def digest(directory: Path) -> dict[str, str]:
    """SHA-256 of every file of a finished store."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def with_path(catalog: Catalog, row: int, path: Any) -> Catalog:
    images = catalog.images.copy()
    images.loc[row, "path"] = path
    return Catalog(images=images, lesions=catalog.lesions)


def test_lesions_stand_where_boxes_and_masks_say(finished: Store) -> None:
    assert finished.images.shape == (COUNT, 96, 64)
    assert finished.images.dtype == np.uint16
    assert len(finished.lesions) == COUNT + COUNT // 2
    assert set(finished.lesions["mask_status"]) == {"as_is"}
    assert finished.masks is not None
    for lesion in finished.lesions.merge(finished.table[["image_id", "row"]]).itertuples():
        inside = finished.masks[lesion.row] == lesion.mask_value
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        box = (lesion.x_min, lesion.y_min, lesion.x_max, lesion.y_max)
        assert found == pytest.approx(box, abs=1)
        x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
        assert finished.images[lesion.row][y, x] / 65535 == pytest.approx(0.61, abs=0.02)
        x_min, y_min, x_max, y_max = finished.transform(lesion.image_id).invert_box(box)
        assert (x_max - x_min, y_max - y_min) == pytest.approx((30, 20), abs=1e-6)


def test_the_users_own_columns_are_in_the_tables_and_not_in_the_store(
    catalog: Catalog, finished: Store
) -> None:
    images, lesions = catalog.images.assign(site="A"), catalog.lesions.assign(reader="B")
    own = prepare(Catalog(images=images, lesions=lesions), store=finished.directory.parent, workers=0, **SIZE)
    assert own.directory == finished.directory
    for store in (own, pickle.loads(pickle.dumps(own))):
        assert store.own_columns == ["site"]
        assert set(store.table["site"]) == {"A"}
        assert set(store.lesions["reader"]) == {"B"}
        pd.testing.assert_frame_equal(store.lesions.drop(columns="reader"), finished.lesions)


def test_the_chest_wall_is_left_and_the_table_tells_the_way_back(finished: Store) -> None:
    assert finished.table["transform_flip"].tolist() == [number % 3 == 0 for number in range(COUNT)]
    assert (finished.images[:, 30:60, :5] > 10000).all()
    with pytest.raises(KeyError):
        finished.transform("P_99")


def test_several_workers_write_the_same_bytes(catalog: Catalog, finished: Store, tmp_path: Path) -> None:
    store = prepare(catalog, store=tmp_path, workers=2, **SIZE)
    assert store.directory.name == finished.directory.name
    assert digest(store.directory) == digest(finished.directory)
    assert sorted(os.listdir(tmp_path)) == [store.directory.name]


def test_a_finished_store_is_used_again(
    catalog: Catalog, finished: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "prepare_image", lambda *_: pytest.fail("prepared again"))
    again = prepare(catalog, store=finished.directory.parent, workers=0, **SIZE)
    assert again.directory == finished.directory


@given(data=st.data())
def test_windows_are_those_of_the_images(finished: Store, data: st.DataObject) -> None:
    count, height, width = finished.images.shape
    size = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    window = st.tuples(
        st.integers(0, count - 1), st.integers(0, width - size[1]), st.integers(0, height - size[0])
    )
    held = data.draw(st.lists(window, max_size=5))
    rows, x, y = np.array(held, np.int64).reshape(-1, 3).T
    found = finished.read_windows(rows, x, y, size=size)
    assert found.dtype == finished.images.dtype
    for one, (row, left, top) in zip(found, held, strict=True):
        assert np.array_equal(one, finished.images[row, top : top + size[0], left : left + size[1]])
    given_array = np.zeros((len(held), 1, *size), finished.images.dtype)  # B 1 h w, as in a batch
    assert finished.read_windows(rows, x, y, size=size, out=given_array[:, 0]).base is not None
    assert np.array_equal(given_array[:, 0], found)


@pytest.mark.parametrize("place", [(0, -1, 0), (0, 1, 0), (0, 0, 81), (14, 0, 0), (-1, 0, 0)])
def test_a_window_outside_of_its_image_is_refused(finished: Store, place: tuple[int, int, int]) -> None:
    finished.read_windows([13], [0], [80], size=(16, 64))
    with pytest.raises(ValueError, match="a window of 16 x 64 pixels is outside of its image"):
        finished.read_windows(*([value] for value in place), size=(16, 64))


def test_a_store_goes_to_other_processes_as_its_folder(finished: Store) -> None:
    content = pickle.dumps(finished)
    assert len(content) < 1000
    np.testing.assert_array_equal(pickle.loads(content).images[3], finished.images[3])


@pytest.mark.parametrize(
    "change", ["height", "crop", "aspect", "masks", "label", "content", "touch", "lesion"]
)
def test_any_change_gives_another_store(
    catalog: Catalog, finished: Store, tmp_path: Path, change: str
) -> None:
    settings: dict[str, Any] = dict(SIZE)
    others = {"crop": "none", "aspect": "stretch", "masks": False, "height": 95}
    if change in others:
        settings[change] = others[change]
    elif change == "label":
        catalog.images.loc[2, "pathology"] = "MALIGNANT"
    elif change == "lesion":
        catalog.lesions.loc[2, "mass_shape"] = "OVAL"
    else:
        source = Path(catalog.images.loc[2, "path"])
        copy = tmp_path / source.name
        shutil.copy2(source, copy)
        catalog = with_path(catalog, 2, str(copy))
        before = prepare(catalog, store=tmp_path / "store", workers=0, **settings).directory.name
        if change == "touch":
            os.utime(copy, ns=(1, 1))
        else:
            status = copy.stat()
            copy.write_bytes(copy.read_bytes() + b"\0")
            os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert prepare(catalog, store=tmp_path / "store", workers=0, **settings).directory.name != before
        return
    other = prepare(catalog, store=tmp_path / "store", workers=0, **settings)
    assert other.directory.name != finished.directory.name


def test_the_files_may_move_together(catalog: Catalog, finished: Store, files: Path, tmp_path: Path) -> None:
    shutil.copytree(files, tmp_path / "moved")
    images, lesions = catalog.images.copy(), catalog.lesions.copy()
    for column, moved in (("path", images), ("mask_paths", lesions)):
        moved[column] = moved[column].str.replace(str(files), str(tmp_path / "moved"))
    store = prepare(Catalog(images, lesions), store=tmp_path / "store", workers=0, **SIZE)
    assert store.directory.name == finished.directory.name


def test_unreadable_files_are_rejected_and_the_others_stay(
    catalog: Catalog, finished: Store, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"nothing" * 100)
    catalog = with_path(with_path(catalog, 3, str(broken)), 5, pd.NA)
    store = prepare(catalog, store=tmp_path / "store", workers=0, max_rejected=0.2, **SIZE)
    rejected = pd.read_csv(store.directory / "rejected.csv")
    assert rejected["image_id"].tolist() == ["P_3_LEFT_CC", "P_5_LEFT_CC"]
    assert rejected["reason"].tolist() == [
        "is not an image; supported formats: DICOM, PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, PGM",
        "file missing",
    ]
    assert store.table["row"].tolist() == [row for row in range(COUNT) if row not in (3, 5)]
    assert not store.images[[3, 5]].any()
    kept = store.table["row"].to_numpy()
    np.testing.assert_array_equal(store.images[kept], finished.images[kept])
    assert not set(rejected["image_id"]) & set(store.lesions["image_id"])
    assert store.manifest["counts"] == {"images": 12, "rejected": 2, "lesions": 17, "lesions_with_mask": 17}


def test_too_many_rejected_stops_in_one_sentence(catalog: Catalog, tmp_path: Path) -> None:
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(b"nothing" * 100)
    catalog = with_path(catalog, 0, str(broken))
    with pytest.raises(
        DataError, match=r"1 of 14 .*data.max_rejected=0.05.*broken.dcm: is not an image"
    ) as caught:
        prepare(catalog, store=tmp_path / "store", workers=0, **SIZE)
    listed = next((tmp_path / "store").glob("*.partial/rejected.csv"))
    assert str(listed) in str(caught.value)
    assert prepare(catalog, store=tmp_path / "store", workers=0, max_rejected=0.1, **SIZE).images.any()
    with pytest.raises(DataError, match=r"1 of 14 images were rejected, more than data.max_rejected=0.05"):
        prepare(catalog, store=tmp_path / "store", workers=0, max_rejected=0.05, **SIZE)


def test_missing_files_are_told_before_any_work(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "prepare_image", lambda *_: pytest.fail("worked"))
    catalog = with_path(with_path(catalog, 3, pd.NA), 5, pd.NA)
    with pytest.raises(DataError, match=r"2 of them without a file.*data.abnormality=mass"):
        prepare(catalog, store=tmp_path, workers=0, **SIZE)
    none = catalog.images.assign(path=pd.array([pd.NA] * COUNT, dtype="string"))
    with pytest.raises(DataError, match="14 of 14"):
        prepare(Catalog(none, catalog.lesions), store=tmp_path, workers=0, max_rejected=1, **SIZE)


def test_boxes_of_the_catalog_need_no_masks(catalog: Catalog, tmp_path: Path) -> None:
    lesions = catalog.lesions.assign(mask_paths=pd.array([pd.NA] * len(catalog.lesions), dtype="string"))
    lesions.loc[0, ["x_min", "y_min", "x_max", "y_max"]] = [110.0, 120, 140, 150]
    store = prepare(Catalog(catalog.images, lesions), store=tmp_path, workers=0, **SIZE)
    assert store.masks is None
    assert set(store.lesions["mask_status"]) == {"missing"}
    assert store.lesions["x_min"].notna().tolist() == [True] + [False] * (len(lesions) - 1)
    first = store.lesions.iloc[0]
    box = store.transform(first["image_id"]).invert_box(tuple(first[["x_min", "y_min", "x_max", "y_max"]]))
    assert box == pytest.approx((110, 120, 140, 150))


def test_eight_bit_sources_stay_eight_bit(tmp_path: Path) -> None:
    store = prepare(make_catalog(tmp_path, suffix=".jpg"), store=tmp_path / "store", workers=0, **SIZE)
    assert store.images.dtype == np.uint8
    assert store.images.max() > 120


def fill_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    calls = iter(range(10**6))
    sync = os.fsync

    def full(descriptor: int) -> None:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(preparing.os, "fsync", full)


@pytest.mark.parametrize("after", [0, 1, 4, 7, 9, 11, 13])
def test_a_disk_that_fills_up_loses_nothing(
    catalog: Catalog, finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    with monkeypatch.context() as patch:
        fill_disk(patch, after)
        with pytest.raises(DataError, match=r"no space left, the store takes 258,048 bytes"):
            prepare(catalog, store=tmp_path, workers=0, **SIZE)
    assert len(list(tmp_path.glob("*.partial/chunks/*.json"))) == min(4, max(0, after - 1) // 3)
    assert not list(tmp_path.glob("*.partial/**/*.tmp"))
    store = prepare(catalog, store=tmp_path, workers=0, **SIZE)
    assert digest(store.directory) == digest(finished.directory)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if (
        not mounted
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]).returncode
    ):
        pytest.skip("a small disk needs the right to mount one")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk(
    catalog: Catalog, finished: Store, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    with pytest.raises(DataError, match="no space left"):  # reported before the work
        prepare(catalog, store=small_disk / "store", workers=0, **SIZE)
    assert not list(small_disk.glob("store/*.partial/images.npy"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**9))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="no space left"):  # during the work
        prepare(catalog, store=small_disk / "store", workers=2, **SIZE)
    assert list(small_disk.glob("store/*.partial/chunks/*.json"))
    ballast.unlink()
    store = prepare(catalog, store=small_disk / "store", workers=0, **SIZE)
    assert digest(store.directory) == digest(finished.directory)


def test_what_no_worker_has_written_is_prepared_again(
    catalog: Catalog, finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may die after its last result and before it has written that result."""

    chunks = -(-COUNT // preparing.CHUNK)
    writes: list[Callable[[], None]] = []

    def write_in_background(write: Callable[[], None]) -> None:
        writes.append(write)
        if len(writes) > chunks:
            write()

    monkeypatch.setattr(preparing, "write_in_background", write_in_background)
    made = prepare(catalog, store=tmp_path, workers=0, **SIZE)
    assert len(writes) == 2 * chunks
    assert digest(made.directory) == digest(finished.directory)


def test_a_store_that_cannot_be_written(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written.*data.store"):
        prepare(catalog, store=tmp_path / "file", workers=0, **SIZE)
    with pytest.raises(DataError, match="no prepared store"):
        Store.open(tmp_path)


SCRIPT = """
import pickle, sys, time
from pathlib import Path
from mammo.data.store import store_building as preparing
from mammo.data.store.store import prepare
if __name__ == "__main__":
    catalog = pickle.loads(Path(sys.argv[1]).read_bytes())
    wait, workers = float(sys.argv[3]), int(sys.argv[4])
    write_rows = preparing.write_rows
    def slow(path, rows, total):
        for row, pixels in rows.items():
            time.sleep(wait)
            write_rows(path, {row: pixels}, total)
    preparing.write_rows = slow
    print(prepare(catalog, store=Path(sys.argv[2]), workers=workers, height=96, width=64).directory)
"""


def start(files: Path, store: Path, *, wait: float, workers: int = 0) -> "subprocess.Popen[str]":
    script = store.parent / "script.py"
    if not script.exists():  # another process may be reading it
        script.write_text(SCRIPT)
    command = [
        sys.executable,
        str(script),
        str(files / "catalog.pickle"),
        str(store),
        str(wait),
        str(workers),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def markers(store: Path) -> int:
    return len(list(store.glob("*.partial/chunks/*.json")))


def until(condition: Any, seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited too long"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    files: Path, catalog: Catalog, finished: Store, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    store = tmp_path / "store"
    for reached in (0, 1, 2):
        process = start(files, store, wait=0.02)
        until(lambda reached=reached: markers(store) >= reached and list(store.glob("*.partial/*.npy")))
        time.sleep(rng.uniform(0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not list(store.glob("*/manifest.json"))
    assert markers(store) >= 2
    again = prepare(catalog, store=store, workers=0, **SIZE)
    assert digest(again.directory) == digest(finished.directory)


def test_workers_end_with_their_killed_parent(files: Path, tmp_path: Path) -> None:
    process = start(files, tmp_path / "store", wait=0.01, workers=2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.is_file():
        process.kill()
        pytest.skip("needs /proc")
    until(lambda: markers(tmp_path / "store") >= 1)
    pids = [int(pid) for pid in children.read_text().split()]
    assert len(pids) >= 2
    process.kill()
    process.wait()
    until(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
def test_processes_share_one_store(files: Path, finished: Store, tmp_path: Path) -> None:
    processes = [start(files, tmp_path / "store", wait=0.05) for _ in range(3)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    directory = tmp_path / "store" / finished.directory.name
    assert {out.strip() for out, _ in outputs} == {str(directory)}
    assert digest(directory) == digest(finished.directory)
    assert os.listdir(tmp_path / "store") == [directory.name]


def test_draft_of_a_process_that_was_overtaken_does_not_stay(
    files: Path, finished: Store, tmp_path: Path
) -> None:
    partial = tmp_path / "store" / f"{finished.directory.name}.partial"
    partial.mkdir(parents=True)
    (partial / "lesions.parquet.1.tmp").write_bytes(b"half")
    process = start(files, tmp_path / "store", wait=0)
    process.communicate(timeout=60)
    directory = tmp_path / "store" / finished.directory.name
    assert digest(directory) == digest(finished.directory)


def test_progress_is_told_in_lines_where_no_terminal_is(files: Path, tmp_path: Path) -> None:
    process = start(files, tmp_path / "store", wait=0)
    _, errors = process.communicate(timeout=60)
    lines = errors.splitlines()
    assert lines[-1].startswith("preparing: 14 of 14 images")
    assert len(lines) <= 10
    assert (
        json.loads((next((tmp_path / "store").iterdir()) / "manifest.json").read_text())["settings"]["height"]
        == 96
    )
