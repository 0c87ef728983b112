"""Every layout of the release leads to the right files."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from helpers.trees import (
    LAYOUTS,
    LESIONS,
    File,
    Lesion,
    as_named,
    descriptive,
    files,
    older,
    write_cases,
    write_tree,
)
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian

from mammo.data.catalog import Catalog
from mammo.data.sources import cbis_layouts
from mammo.data.sources import cbis_layouts as layouts
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.sources.cbis_layouts import index_files, is_secondary


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_header_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: str) -> str:
        raise AssertionError(f"{file} was opened")

    monkeypatch.setattr(layouts, "_read_series_uid", refuse)


def _named(path: str) -> str:
    """The name in the case file of a file that `write_tree` or `_write_dicoms` has written."""
    data = Path(path).read_bytes()
    if data[128:132] != b"DICM":
        return data.decode()
    return str(pydicom.dcmread(path).ImageComments)


def _check_all_found(catalog: Catalog) -> None:
    """Checks that every image and lesion has its own file, and the merged view its mass file."""
    images = catalog.images.set_index("image_id")["path"]
    assert images.notna().all()
    by_case = {row.case: row.image.named for row in LESIONS}
    assert {image: _named(path) for image, path in images.items()} == {
        "P_00001_LEFT_CC": by_case["Mass-Training_P_00001_LEFT_CC"],
        "P_00001_LEFT_MLO": by_case["Mass-Training_P_00001_LEFT_MLO"],
        "P_00002_RIGHT_CC": by_case["Mass-Training_P_00002_RIGHT_CC"],
        "P_00003_LEFT_CC": by_case["Calc-Training_P_00003_LEFT_CC"],
        "P_00003_LEFT_CC_TEST": by_case["Mass-Test_P_00003_LEFT_CC"],
        "P_00004_LEFT_MLO": by_case["Calc-Test_P_00004_LEFT_MLO"],
        "P_00005_RIGHT_MLO": by_case["Mass-Test_P_00005_RIGHT_MLO"],
    }
    masks = catalog.lesions.set_index("lesion_id")["mask_paths"]
    for row in LESIONS:
        suffix = "_TEST" if (row.patient, row.split) == ("P_00003", "test") else ""
        found = masks[f"{row.patient}_{row.side}_{row.view}{suffix}_{row.kind}_{row.number}"]
        assert {_named(path) for path in found.split(os.pathsep)} == {row.crop.named, row.mask.named}


@pytest.mark.usefixtures("no_header_is_read")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_found(tmp_path: Path, layout: str) -> None:
    write_cases(tmp_path / "release" / "csv", LESIONS)
    write_tree(tmp_path / "release", files(LESIONS), LAYOUTS[layout])
    _check_all_found(read_cbis_ddsm(root=tmp_path / "release"))


@pytest.mark.usefixtures("no_header_is_read")
@pytest.mark.parametrize("root", ["release", "release/cbis_ddsm"])
def test_copies_of_the_imaging_data_commons_without_masks_need_no_header(tmp_path: Path, root: str) -> None:
    """The patient IDs of test images with calcifications are those of their files, such as `P_1_LEFT.dcm`."""

    def folder_of(file: File) -> str:
        patient = f"{file.case.partition('_')[2]}.dcm" if file.case.startswith("Calc-Test") else file.case
        return f"cbis_ddsm/{patient}/{file.study}/MG_{file.series}/3f0a.dcm"

    write_cases(tmp_path / "release", LESIONS)
    images = list(dict.fromkeys(row.image for row in LESIONS))
    write_tree(tmp_path / "release", images, folder_of)
    catalog = read_cbis_ddsm(root=tmp_path / root)
    assert catalog.images["path"].notna().all()
    assert catalog.lesions["mask_paths"].isna().all()


def test_hidden_folders_are_not_searched(tmp_path: Path) -> None:
    """A killed download leaves parts of files in one."""
    write_cases(tmp_path, LESIONS)
    write_tree(tmp_path / ".download-1", files(LESIONS), LAYOUTS["imaging_data_commons"])
    assert read_cbis_ddsm(root=tmp_path).images["path"].isna().all()


@pytest.mark.usefixtures("no_header_is_read")
@pytest.mark.parametrize("on_disk", [older, descriptive, LAYOUTS["nbia_uid"]])
def test_older_case_files_are_read(tmp_path: Path, on_disk: object) -> None:
    write_cases(tmp_path, LESIONS, path=lambda file: older(file).removeprefix("CBIS-DDSM/"))
    write_tree(tmp_path, files(LESIONS), on_disk)  # type: ignore[arg-type]
    _check_all_found(read_cbis_ddsm(root=tmp_path))


@pytest.mark.usefixtures("no_header_is_read")
@pytest.mark.parametrize("folder", ["", "png/"])
def test_case_files_may_name_converted_images(tmp_path: Path, folder: str) -> None:
    lesion = LESIONS[3]
    write_cases(tmp_path, [lesion], path=lambda file: f"{folder}{file.case}{file.number}.png")
    write_tree(tmp_path, [lesion.image], lambda file: f"{folder}{file.case}{file.number}.png")
    (path,) = read_cbis_ddsm(root=tmp_path).images["path"]
    assert path == str(tmp_path / f"{folder}{lesion.case}1.png")


@pytest.mark.parametrize("layout", ["nbia_uid", "nbia_descriptive", "older_nbia"])
def test_root_may_be_the_collection_or_a_folder_in_it(tmp_path: Path, layout: str) -> None:
    write_cases(tmp_path, LESIONS)
    write_tree(tmp_path, files(LESIONS), LAYOUTS[layout])
    _check_all_found(read_cbis_ddsm(root=tmp_path / "CBIS-DDSM"))
    case = tmp_path / "CBIS-DDSM" / "Mass-Training_P_00002_RIGHT_CC"
    images = read_cbis_ddsm(root=case, cases=tmp_path).images
    assert list(images["image_id"][images["path"].notna()]) == ["P_00002_RIGHT_CC"]


def test_relative_root_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cases(tmp_path, LESIONS)
    write_tree(tmp_path, files(LESIONS), LAYOUTS["nbia_uid"])
    monkeypatch.chdir(tmp_path)
    _check_all_found(read_cbis_ddsm(root=Path(".")))
    assert read_cbis_ddsm(root=Path(".")).images["path"].str.startswith(str(tmp_path)).all()


@pytest.mark.usefixtures("no_header_is_read")
@pytest.mark.parametrize(("root", "separator"), [(".", "\\"), ("CBIS-DDSM", "/")])
def test_metadata_tells_the_series_of_any_folder(tmp_path: Path, root: str, separator: str) -> None:
    def renamed(file: File) -> str:
        return f"CBIS-DDSM/{file.case[-8:]}-{file.series[-12:]}/1-{file.number}.dcm"

    listed = files(LESIONS)
    write_tree(tmp_path, listed, renamed)
    rows = [(f.series, separator.join([".", *renamed(f).split("/")[:-1]])) for f in listed]
    pd.DataFrame(rows, columns=["Series UID", "File Location"]).to_csv(tmp_path / "metadata.csv", index=False)
    write_cases(tmp_path, LESIONS)
    _check_all_found(read_cbis_ddsm(root=tmp_path / root))


def test_a_broken_metadata_file_is_passed_over(tmp_path: Path) -> None:
    write_cases(tmp_path, LESIONS)
    write_tree(tmp_path, files(LESIONS), descriptive)
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "CBIS-DDSM" / "metadata.csv").write_text("Something,Else\n1,2\n")
    _check_all_found(read_cbis_ddsm(root=tmp_path))


def _write_dicoms(folder: Path) -> None:
    """Writes all files to two folders, with names that do not describe them."""
    for number, file in enumerate(files(LESIONS)):
        header = pydicom.Dataset()
        header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", f"1.2.3.{number}"
        header.SeriesInstanceUID, header.ImageComments = file.series, file.named
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"part {number % 2}" / ["a{}.dcm", "b{}", "1.2.{}"][number % 3].format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        header.save_as(path, enforce_file_format=True)


def test_any_tree_is_read_by_headers_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    _write_dicoms(tree)
    (tree / "part 0" / "notes.dcm").write_text("no DICOM")
    (tree / "part 0" / "._a0.dcm").write_text("what macOS leaves")
    write_cases(tmp_path / "cases", LESIONS)
    _check_all_found(read_cbis_ddsm(root=tree, cases=tmp_path / "cases"))

    opened: list[str] = []
    read = layouts._read_series_uid
    monkeypatch.setattr(layouts, "_read_series_uid", lambda file: opened.append(file) or read(file))
    _check_all_found(read_cbis_ddsm(root=tree, cases=tmp_path / "cases"))
    assert opened == []

    moved = next(file for file in (tree / "part 1").iterdir())
    shutil.copyfile(moved, tree / "part 0" / "new.dcm")
    os.utime(moved, ns=(1, 1))
    _check_all_found(read_cbis_ddsm(root=tree, cases=tmp_path / "cases"))
    assert sorted(opened) == sorted([str(tree / "part 0" / "new.dcm"), str(moved)])


@pytest.mark.parametrize("damage", ["not json", "a folder"])
def test_a_damaged_cache_does_no_harm(tmp_path: Path, cache: Path, damage: str) -> None:
    tree = tmp_path / "tree"
    _write_dicoms(tree)
    write_cases(tmp_path, LESIONS)
    read_cbis_ddsm(root=tree, cases=tmp_path)
    (stored,) = (cache / "mammo").iterdir()
    stored.unlink()
    if damage == "a folder":
        stored.mkdir()
    else:
        stored.write_text("{")
    _check_all_found(read_cbis_ddsm(root=tree, cases=tmp_path))


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    write_tree(tmp_path / "disk", files(LESIONS), LAYOUTS["nbia_uid"])
    root = tmp_path / "root"
    write_cases(root, LESIONS)
    (root / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk")
    _check_all_found(read_cbis_ddsm(root=root))
    assert len(index_files(root).files(LESIONS[0].image.named)) == 1


def test_what_macos_leaves_beside_a_file_is_no_image(tmp_path: Path) -> None:
    write_cases(tmp_path, LESIONS)
    write_tree(tmp_path, files(LESIONS), LAYOUTS["nbia_uid"])
    for path in list(tmp_path.rglob("1-*.dcm")):
        path.with_name(f"._{path.name}").write_text("no image")
    _check_all_found(read_cbis_ddsm(root=tmp_path))


@pytest.mark.usefixtures("no_header_is_read")
@pytest.mark.parametrize("layout", ["as_named", "nbia_uid", "nbia_descriptive", "older_nbia", "kaggle_jpeg"])
def test_part_of_a_release_is_read_without_opening_files(tmp_path: Path, layout: str) -> None:
    write_cases(tmp_path, LESIONS)
    write_tree(tmp_path, files(LESIONS[:3]), LAYOUTS[layout])
    images = read_cbis_ddsm(root=tmp_path).images
    assert list(images["image_id"][images["path"].notna()]) == ["P_00001_LEFT_CC", "P_00001_LEFT_MLO"]


def test_other_series_are_not_mistaken(tmp_path: Path) -> None:
    lesion = Lesion("mass", "train", "P_00009", "LEFT", "CC", 1, "BENIGN")
    write_tree(tmp_path, [lesion.image], descriptive)
    index = index_files(tmp_path)
    assert len(index.files(lesion.image.named)) == 1
    assert (
        index.files(lesion.image.named.replace("P_00009_LEFT_CC", "P_00009_LEFT_MLO")[:-16] + "99/0.dcm")
        == []
    )
    assert index.files(lesion.crop.named) == []


_uid = st.lists(st.integers(0, 10**12), min_size=5, max_size=9).map(
    lambda parts: "1." + ".".join(map(str, parts))
)
_patient = st.integers(0, 99999).map(lambda number: f"P_{number:05d}")


@given(patient=_patient, study=_uid, series=_uid, layout=st.sampled_from([*LAYOUTS.values()]))
def test_a_series_is_told_from_its_folder(patient: str, study: str, series: str, layout: object) -> None:
    file = File(
        f"Calc-Test_{patient}_RIGHT_MLO_2", study, series + "12345", "000001.dcm", "cropped images", 2
    )
    folder = ("/data/" + layout(file)).split("/")[:-1]  # type: ignore[operator]
    uid, key = layouts._series(as_named(file).split("/")[:-1])
    found_uid, found_key = layouts._series(folder)
    assert key == (file.case, "12345")
    assert uid == found_uid or key == found_key


def test_the_official_test_set_is_found(tmp_path: Path, cbis_ddsm_files: Path) -> None:
    names: set[str] = set()
    for path in cbis_ddsm_files.glob("*_case_description_test_set.csv"):
        table = pd.read_csv(path)
        for column in ("image file path", "cropped image file path", "ROI mask file path"):
            names |= set(table[column].str.strip())
    for named in names:
        case, study, series, _ = named.split("/")
        folder = tmp_path / case / f"08-29-2017-DDSM-NA-{study[-5:]}" / f"1.000000-full images-{series[-5:]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "1-1.dcm").touch()
    catalog = read_cbis_ddsm(root=tmp_path, cases=cbis_ddsm_files)
    found = catalog.images[catalog.images["path"].notna()]
    assert (len(found), found["path"].nunique()) == (641, 641)
    assert set(found["official_split"]) == {"test"}
    assert catalog.lesions["mask_paths"].nunique() == 704


@pytest.mark.parametrize(
    ("file", "patient", "series", "secondary"),
    [
        ("Calc-Test_P_00038_LEFT_CC_1/1.2/1.3/1-1.dcm", "", "", True),
        ("Calc-Test_P_00038_LEFT_CC/1.2/1.3/1-1.dcm", "", "full mammogram images", False),
        ("a.dcm", "Mass-Training_P_01265_RIGHT_MLO_2", "", True),
        ("a.dcm", "Mass-Training_P_01265_RIGHT_MLO_2.dcm", "", True),
        ("a.dcm", "Mass-Training_P_01265_RIGHT_MLO", "", False),
        ("a.dcm", "P1", "ROI mask images", True),
        ("a.dcm", "P1", "cropped images", True),
        ("Calc-Test_P_00038_LEFT_CC_1.png", "", "", False),
        ("a.dcm", "", "", False),
    ],
)  # fmt: skip
def test_crops_and_masks_are_known_by_folder_patient_and_series(
    file: str, patient: str, series: str, secondary: bool
) -> None:
    assert is_secondary(Path(file), patient=patient, series=series) is secondary


@pytest.mark.parametrize("layout", [as_named, descriptive, older])
def test_the_folders_of_a_release_tell_crops_and_masks(layout: Callable[[File], str]) -> None:
    for file in files(LESIONS):
        secondary = file.description != "full mammogram images"
        assert is_secondary(Path(layout(file)), patient="", series="") is secondary


def test_the_table_of_kaggles_copy_tells_crops_and_masks(tmp_path: Path) -> None:
    """Its pictures have no header, and their folders have the UID of the series only."""
    rows = ["file_path,image_path,PatientID,SeriesDescription"]
    wanted = {}
    for number, kind in enumerate(["full mammogram images", "cropped images", "ROI mask images", ""]):
        uid = f"1.3.6.1.4.1.9590.100.1.2.{number}"
        rows.append(f"x.dcm,CBIS-DDSM/jpeg/{uid}/1-00{number}.jpg,P,{kind}")
        wanted[tmp_path / "jpeg" / uid / f"1-00{number}.jpg"] = kind in ("cropped images", "ROI mask images")
    assert not any(is_secondary(file, patient="", series="") for file in wanted)  # without the table
    cbis_layouts._secondary_series.cache_clear()
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "dicom_info.csv").write_text("\n".join(rows))
    for file, secondary in wanted.items():
        assert is_secondary(file, patient="", series="") is secondary
    assert not is_secondary(tmp_path / "jpeg" / "a" / "1.jpg", patient="", series="")
