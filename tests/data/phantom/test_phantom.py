"""The synthetic mammograms: physics, files, and that the same seed gives the same bytes."""

import csv
import hashlib
import os
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from numpy.typing import NDArray

from mammo.data.catalog import Catalog
from mammo.data.images.dicom import read_mammogram
from mammo.data.images.masks import find_mask
from mammo.data.phantom.anatomy import GRID_MM, outline, place_lesions, power_law_noise, sample_anatomy
from mammo.data.phantom.film import Film, expose
from mammo.data.phantom.generator import draw_patients, generate
from mammo.data.phantom.lesions import Lesion, mass_outline, sample_lesion, specks
from mammo.data.phantom.release import COLUMNS
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.errors import ConfigError, DataError

SMALL = {"patients": 40, "height": 256, "width": 192, "difficulty": 0.0, "seed": 5}
CASES = [(kind, side) for kind in ("mass", "calc") for side in ("train", "test")]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(root=tmp_path_factory.mktemp("phantom"), workers=1, **SMALL)


@pytest.fixture(scope="module")
def cases(release: Path) -> dict[tuple[str, str], pd.DataFrame]:
    return {
        (kind, side): pd.read_csv(release / f"{kind}_case_description_{side}_set.csv", keep_default_na=False)
        for kind, side in CASES
    }


@pytest.fixture(scope="module")
def every_row(cases: dict[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    frames = [frame.rename(columns={"breast density": "breast_density"}) for frame in cases.values()]
    return pd.concat([frame.assign(case=f"{k}-{s}") for frame, (k, s) in zip(frames, CASES, strict=True)])


@pytest.fixture(scope="module")
def catalog(release: Path) -> Catalog:
    return read_cbis_ddsm(root=release)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def film(*, lesions: tuple[Lesion, ...] = (), seed: int = 0, density: int = 2, **changes: object) -> Film:
    rng = np.random.default_rng(seed)
    settings = {"laterality": "LEFT", "view": "CC", "height": 256, "width": 192, "opposite": False} | changes
    anatomy = sample_anatomy(density=density, width_mm=180, rng=rng)
    return expose(anatomy=anatomy, lesions=lesions, rng=rng, **settings)


def spectrum_slope(image: NDArray[np.floating], *, step_mm: float, band: tuple[float, float]) -> float:
    """Exponent of the radially averaged 2-D power spectrum over a band of cycles per mm."""
    rows, columns = image.shape
    window = np.outer(np.hanning(rows), np.hanning(columns))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    f = np.hypot(*np.meshgrid(np.fft.fftfreq(rows, step_mm), np.fft.fftfreq(columns, step_mm), indexing="ij"))
    edges = np.geomspace(*band, 11)
    rings = [(f >= low) & (f < high) for low, high in pairwise(edges)]
    points = [(np.log(f[ring]).mean(), np.log(power[ring].mean())) for ring in rings]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


# --- physics


@pytest.mark.parametrize("step_mm", [0.5, 0.05])
def test_noise_has_the_power_law_of_parenchyma(step_mm: float) -> None:
    noise = power_law_noise(shape=(512, 512), step_mm=step_mm, rng=np.random.default_rng(1))
    assert spectrum_slope(
        noise, step_mm=step_mm, band=(0.1 / step_mm / 2, 0.8 / step_mm / 2)
    ) == pytest.approx(-3, abs=0.15)


def test_noise_of_two_steps_has_one_spectrum() -> None:
    rng = np.random.default_rng(2)
    coarse, fine = (power_law_noise(shape=(n, n), step_mm=128 / n, rng=rng) for n in (256, 1024))
    densities = []
    for noise in (coarse, fine):
        step = 128 / len(noise)
        f = np.hypot(*np.meshgrid(np.fft.fftfreq(len(noise), step), np.fft.fftfreq(len(noise), step)))
        power = np.abs(np.fft.fft2(noise)) ** 2 * step**2 / noise.size
        densities.append(power[(f > 0.3) & (f < 0.6)].mean())
    assert densities[0] == pytest.approx(densities[1], rel=0.1)


def test_tissue_of_a_film_has_the_power_law() -> None:
    slopes = []
    for seed in range(4):
        pixels = film(seed=seed, density=3, height=1024, width=768).pixels
        step = 240 / 1024
        rows = slice(512 - 128, 512 + 128)
        slopes.append(spectrum_slope(pixels[rows, 20:276].astype(float), step_mm=step, band=(0.15, 1.0)))
    assert np.mean(slopes) == pytest.approx(-3, abs=0.5)


def test_denser_breasts_are_brighter() -> None:
    means = []
    for density in (1, 2, 3, 4):
        pixels = film(seed=3, density=density).pixels
        means.append(pixels[pixels > 8000].mean())
    assert means == sorted(means)


@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_only_mlo_shows_the_pectoral_muscle(view: str) -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        anatomy = sample_anatomy(density=2, width_mm=180, rng=rng)
        breast = outline(anatomy=anatomy, view=view, width_mm=180, rng=rng)
        muscle = breast.pectoral_distance_mm > 0
        assert muscle.any() == (view == "MLO")
        corner = film(seed=seed, view=view).pixels[8:24, 8:20].mean()
        assert (corner > 30000) == (view == "MLO")
        if view == "MLO":
            assert muscle[:20].sum() > muscle[-20:].sum()  # in the upper corner


@pytest.mark.parametrize("laterality", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("opposite", [False, True])
def test_a_left_breast_hangs_on_the_left(laterality: str, opposite: bool) -> None:
    pixels = film(laterality=laterality, opposite=opposite).pixels[96:160]
    brighter_left = pixels[:, 8:40].mean() > pixels[:, -40:-8].mean()
    assert brighter_left == ((laterality == "LEFT") != opposite)


def test_left_hangs_left_in_most_real_films(cbis_ddsm_files: Path) -> None:
    table = cbis_ddsm_files / "mass800" / "images.csv"
    if not table.is_file():
        pytest.skip(f"no {table}: the reduced real images are not here")
    sides = []
    for row in pd.read_csv(table).iloc[::20].itertuples():
        pixels = cv2.imread(str(table.parent / row.image_path), cv2.IMREAD_GRAYSCALE)[250:650]
        sides.append(
            (np.median(pixels[:, 40:160]) > np.median(pixels[:, 640:760])) == (row.laterality == "LEFT")
        )
    assert 0.6 < np.mean(sides) < 0.9


def test_film_is_dark_around_the_breast_and_uses_the_range() -> None:
    pixels = film(height=512, width=384).pixels
    assert np.median(pixels) < 3000
    assert np.percentile(pixels, 99) > 30000


def test_a_patient_looks_alike_at_every_size() -> None:
    lesion = sample_lesion(kind="mass", malignant=True, difficulty=0.3, rng=np.random.default_rng(0))
    small, large = (film(lesions=(lesion,), height=h, width=h * 3 // 4) for h in (256, 1024))
    reduced = cv2.resize(large.pixels, (192, 256), interpolation=cv2.INTER_AREA)
    inner = np.s_[20:-20, 12:-12]
    assert np.corrcoef(small.pixels[inner].ravel(), reduced[inner].ravel())[0, 1] > 0.98
    assert small.masks[0].mean() == pytest.approx(large.masks[0].mean(), rel=0.1)


# --- lesions


def draw(*, kind: str, malignant: bool, difficulty: float = 0.0, seed: int = 0) -> Lesion:
    return sample_lesion(
        kind=kind, malignant=malignant, difficulty=difficulty, rng=np.random.default_rng(seed)
    )


def test_malignant_masses_are_less_compact() -> None:
    def roundness(malignant: bool, seed: int) -> float:
        rng = np.random.default_rng(seed)
        radius = mass_outline(lesion=draw(kind="mass", malignant=malignant, seed=seed), rng=rng)
        theta = np.arange(360) * np.pi / 180
        outline = np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=1).astype(np.float32)
        return float(cv2.arcLength(outline, True) ** 2 / cv2.contourArea(outline))

    benign, malignant = ([roundness(label, seed) for seed in range(20)] for label in (False, True))
    assert max(benign) < min(malignant)
    assert min(benign) >= 4 * np.pi * 0.99  # a circle has 4 pi


def test_malignant_calcifications_are_many_and_fine() -> None:
    for seed in range(10):
        benign, malignant = (
            specks(
                lesion=draw(kind="calcification", malignant=label, seed=seed), rng=np.random.default_rng(seed)
            )
            for label in (False, True)
        )
        assert len(malignant) > 3 * len(benign)
        areas = [
            np.median([cv2.contourArea(o.astype(np.float32)) for o, b in found if b >= 0.7])
            for found in (benign, malignant)
        ]
        assert areas[0] > 1.5 * areas[1]


@pytest.mark.parametrize("kind", ["mass", "calcification"])
def test_difficulty_makes_lesions_smaller_and_fainter(kind: str) -> None:
    easy, hard = (
        [draw(kind=kind, malignant=True, difficulty=d, seed=seed) for seed in range(40)] for d in (0.0, 1.0)
    )
    assert min(lesion.diameter_mm for lesion in easy) > np.median([lesion.diameter_mm for lesion in hard])
    assert min(lesion.contrast for lesion in easy) > max(lesion.contrast for lesion in hard)
    assert all(lesion.malignant == lesion.suspicious for lesion in easy)
    assert any(lesion.malignant != lesion.suspicious for lesion in hard)
    assert np.mean([lesion.subtlety for lesion in easy]) > np.mean([lesion.subtlety for lesion in hard]) + 2


@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_lesions_lie_in_the_breast_off_the_muscle(view: str) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        anatomy = sample_anatomy(density=2, width_mm=150, rng=rng)
        breast = outline(anatomy=anatomy, view=view, width_mm=150, rng=rng)
        lesions = tuple(
            draw(kind="mass", malignant=False, difficulty=0.8, seed=10 * seed + k) for k in range(3)
        )
        places = place_lesions(lesions=lesions, view=view, breast=breast)
        for x, y in places:
            row, column = int(y / GRID_MM), int(x / GRID_MM)
            assert breast.inside[row, column]
            assert breast.pectoral_distance_mm[row, column] < 0
        assert len(set(places)) == 3


def test_masks_lie_where_the_lesion_is() -> None:
    for kind in ("mass", "calcification"):
        for malignant in (False, True):
            lesion = draw(kind=kind, malignant=malignant)
            with_lesion, without = film(lesions=(lesion,), seed=4), film(seed=4)
            added = np.clip(with_lesion.pixels.astype(float) - without.pixels, 1500, None) - 1500
            near = cv2.dilate(with_lesion.masks[0].astype(np.uint8), np.ones((5, 5))) > 0
            share = 0.99 if kind == "calcification" or not malignant else 0.6  # spicules leave the body
            assert added[near].sum() > share * added.sum()
            assert added[near].sum() > 0


# --- files


@pytest.mark.slow
def test_same_seed_same_bytes_whatever_the_workers(release: Path, tmp_path: Path) -> None:
    again = generate(root=tmp_path, workers=2, **SMALL)
    assert again.name == release.name
    assert digests(again) == digests(release)
    assert [path.name for path in tmp_path.iterdir()] == [release.name]  # no partial files are left


@pytest.mark.slow
def test_other_settings_give_other_folders_and_pixels(release: Path, tmp_path: Path) -> None:
    other = generate(root=tmp_path, workers=1, **(SMALL | {"patients": 20, "seed": 6}))
    assert other.name != release.name
    assert not set(digests(other).values()) & set(digests(release).values())


@pytest.mark.slow
def test_a_finished_set_is_not_written_again(release: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in release.rglob("*")}
    assert generate(root=release.parent, workers=1, **SMALL) == release
    assert {path: path.stat().st_mtime_ns for path in release.rglob("*")} == before


@pytest.mark.slow
def test_the_slower_of_two_processes_leaves_the_faster_ones_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def beaten(self: Path, target: Path) -> Path:
        target.mkdir()
        (target / "winner").touch()
        raise OSError(39, "Directory not empty")

    monkeypatch.setattr(Path, "rename", beaten)
    folder = generate(root=tmp_path, workers=1, **(SMALL | {"patients": 20}))
    assert [path.name for path in folder.iterdir()] == ["winner"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/.*cannot write"):
        generate(root=tmp_path / "file", workers=1, **SMALL)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"patients": 3}, "data.patients=3"),
        ({"height": 64, "width": 48}, "data.height"),
        ({"width": 100}, "data.width"),
        ({"width": 400}, "data.width"),
        ({"difficulty": 1.5}, "data.difficulty=1.5"),
        ({"difficulty": float("nan")}, "data.difficulty=nan"),
        ({"obscured": 1.5}, "data.obscured=1.5"),
        ({"obscured": float("nan")}, "data.obscured=nan"),
        ({"seed": -1}, "data.seed=-1"),
    ],
)
def test_impossible_settings_are_refused(tmp_path: Path, change: dict[str, float], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        generate(root=tmp_path, workers=1, **(SMALL | change))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_case_files_have_the_official_columns(release: Path) -> None:
    official = {
        "mass": "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,"
        "mass shape,mass margins,assessment,pathology,subtlety,image file path,cropped image file path,"
        "ROI mask file path",
        "calc": "patient_id,breast density,left or right breast,image view,abnormality id,abnormality type,"
        "calc type,calc distribution,assessment,pathology,subtlety,image file path,cropped image file path,"
        "ROI mask file path",
    }
    for kind, side in CASES:
        text = (release / f"{kind}_case_description_{side}_set.csv").read_text()
        assert text.splitlines()[0] == official[kind]
        ends = '.dcm\n"\n' if kind == "mass" else '.dcm\n",'
        assert text.count(ends) == len(list(csv.reader(text.splitlines(keepends=True)))) - 1


def test_columns_are_those_of_the_real_case_files(cbis_ddsm_files: Path) -> None:
    for kind, side in CASES:
        real = pd.read_csv(cbis_ddsm_files / f"{kind}_case_description_{side}_set.csv", nrows=0)
        assert list(real.columns) == COLUMNS["mass" if kind == "mass" else "calcification"]


@pytest.mark.slow
def test_files_are_like_the_real_ones(release: Path) -> None:
    for path in sorted(release.rglob("*.dcm"))[::7]:
        header = pydicom.dcmread(path)
        assert header.file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian
        assert (header.SOPClassUID.name, header.Modality) == ("Secondary Capture Image Storage", "MG")
        assert header.PhotometricInterpretation == "MONOCHROME2"
        _, study, series, _ = path.relative_to(release / "CBIS-DDSM").parts
        assert (header.StudyInstanceUID, header.SeriesInstanceUID) == (study, series)
        assert all(uid.is_valid for uid in (header.SOPInstanceUID, header.SeriesInstanceUID))
        folder = path.relative_to(release / "CBIS-DDSM").parts[0]
        assert header.PatientID == folder or folder.startswith("Calc-Test")
        assert header.BitsStored == (16 if not folder[-1].isdigit() else header.BitsStored)


@pytest.mark.slow
def test_oddities_are_present(release: Path, every_row: pd.DataFrame, catalog: Catalog) -> None:
    rows = every_row
    assert set(rows["pathology"]) == {"BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK"}
    assert "N/A" in set(rows["calc distribution"])
    assert 0 in set(rows["assessment"])
    assert set(rows["left or right breast"]) == {"LEFT", "RIGHT"}
    assert set(rows["image view"]) == {"CC", "MLO"}
    assert rows["abnormality id"].max() >= 2
    views = rows.groupby("patient_id").apply(lambda r: len(set(r["left or right breast"] + r["image view"])))
    assert set(views) >= {1, 2, 4}
    labels = rows.groupby("patient_id")["pathology"].agg(lambda r: r.str.startswith("BENIGN").nunique())
    assert 2 in set(labels)
    sides = rows.groupby("patient_id")["case"].agg(lambda r: {case.split("-")[1] for case in r})
    assert {"train", "test"} in list(sides)
    headers = [
        pydicom.dcmread(path, stop_before_pixels=True) for path in release.rglob("Calc-Test_*/*/*/*.dcm")
    ]
    assert any("SeriesDescription" not in header for header in headers)
    assert any(header.PatientID.endswith(".dcm") for header in headers)
    names = {path.name for path in release.rglob("*.dcm")}
    assert names == {"1-1.dcm", "1-01.dcm", "1-2.dcm"}


def test_both_classes_are_in_every_official_set() -> None:
    for seed in range(20):
        drawn = draw_patients(patients=20, seed=seed)
        for kind in ("mass", "calcification"):
            for side in ("train", "test"):
                assert {p.malignant for p in drawn if p.sets.get(kind) == side} == {True, False}


# --- read back


@pytest.mark.slow
def test_catalog_finds_every_image_and_lesion(catalog: Catalog, every_row: pd.DataFrame) -> None:
    assert catalog.images["path"].notna().all()
    assert len(catalog.lesions) == len(every_row)
    assert 0.35 < (catalog.images["pathology"] == "MALIGNANT").mean() < 0.6
    pixels = read_mammogram(Path(catalog.images["path"].iloc[0])).pixels
    assert pixels.shape == (256, 192)
    assert pixels.dtype == np.uint16


@pytest.mark.slow
def test_masks_are_found_among_crops_and_lie_on_brighter_tissue(catalog: Catalog) -> None:
    paths = catalog.images.set_index("image_id")["path"]
    found, brighter = [], []
    for lesion in catalog.lesions.itertuples():
        candidates = [Path(path) for path in lesion.mask_paths.split(os.pathsep)]
        mask = find_mask(candidates, image_shape=(256, 192))
        found.append(mask.status)
        if mask.pixels is not None:
            pixels = read_mammogram(Path(paths[lesion.image_id])).pixels
            ring = cv2.dilate(mask.pixels.astype(np.uint8), np.ones((15, 15))).astype(bool) & ~mask.pixels
            brighter.append(pixels[mask.pixels].mean() > pixels[ring].mean())
    counts = pd.Series(found).value_counts()
    assert set(counts.index) == {"as_is", "rescaled", "aspect_differs"}
    assert counts["as_is"] > 0.75 * len(found)
    assert np.mean(brighter) > 0.9
