"""The inventory counts images, lesions and files, leaked patients and duplicate files."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.trees import LAYOUTS, LESIONS, files, write_cases, write_tree

from mammo.data.catalog import Catalog, validate
from mammo.data.inventory import inventory
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.sources.csv_dataset import read_csv


@pytest.fixture
def release(tmp_path: Path) -> Path:
    write_cases(tmp_path, LESIONS)
    write_tree(tmp_path, files(LESIONS), LAYOUTS["nbia_uid"])
    return tmp_path


def test_counts_of_a_small_release(release: Path) -> None:
    counts = inventory(read_cbis_ddsm(root=release), masks=False, duplicates=False)
    expected = {
        "images": 7,
        "malignant_images": 4,
        "patients": 5,
        "lesions": 9,
        "malignant_lesions": 4,
        "train_images": 4,
        "test_images": 3,
        "train_malignant_images": 2,
        "train_patients": 3,
        "test_lesions": 3,
        "mass_images": 4,
        "both_images": 1,
        "train_calcification_images": 1,
        "train_calcification_lesions": 2,
        "train_calcification_malignant_lesions": 1,
        "images_with_benign_and_malignant_lesions": 2,
        "images_with_several_lesions": 2,
        "images_without_density": 1,
        "images_without_assessment": 0,
        "files_found": 7,
        "files_missing": 0,
        "leak_patients": 1,
        "leak_views": 1,
        "leak_test_images": 1,
        "clean_test_images": 2,
        "clean_test_malignant_images": 1,
    }
    assert {name: counts[name] for name in expected} == expected
    assert counts["leak_patient_ids"] == ["P_00003"]


def test_parts_add_up(release: Path) -> None:
    counts = inventory(read_cbis_ddsm(root=release), masks=False, duplicates=False)
    for what in ("images", "malignant_images", "lesions"):
        assert counts[what] == counts[f"train_{what}"] + counts[f"test_{what}"]
    for what in ("images", "malignant_images"):
        assert counts[what] == sum(counts[f"{kind}_{what}"] for kind in ("mass", "calcification", "both"))


def test_masks_by_status(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 30), np.uint8)
    mask[5:9, 5:9] = 255
    pictures = {
        "image.png": rng.integers(0, 256, (40, 30), dtype=np.uint8),
        "as_is.png": mask,
        "rescaled.png": cv2.resize(mask, (60, 80), interpolation=cv2.INTER_NEAREST),
        "aspect.png": mask[:20],
        "empty.png": mask * 0,
        "crop.png": rng.integers(0, 256, (8, 8), dtype=np.uint8),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(tmp_path / name), picture)
    (tmp_path / "broken.png").write_bytes(b"broken")
    names = ["as_is", "rescaled", "aspect", "empty", "crop", "broken", "not_there"]
    boxes = "".join(f"image.png,{name}.png,0,0,1,1\n" for name in names) + "gone.png,as_is.png,0,0,1,1\n"
    (tmp_path / "images.csv").write_text("image_path,patient_id,label\nimage.png,p1,0\ngone.png,p1,0\n")
    (tmp_path / "lesions.csv").write_text("image_path,mask_path,x_min,y_min,x_max,y_max\n" + boxes)
    catalog = read_csv(table=tmp_path / "images.csv", root=tmp_path, lesions=tmp_path / "lesions.csv")
    counts = inventory(catalog, workers=2)
    found = {name: count for name, count in counts.items() if name.startswith("lesion_masks_")}
    assert found == {
        f"lesion_masks_{status}": 1
        for status in (
            *("as_is", "rescaled", "aspect_differs", "empty", "missing", "unreadable"),
            *("no_mask_among_files", "no_image"),
        )
    }
    assert (counts["lesions_with_usable_mask"], counts["lesions_without_usable_mask"]) == (2, 6)
    assert counts["lesions_with_box"] == 8


def test_the_shape_of_a_dicom_is_read_from_its_header(real_dicoms: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = next(real_dicoms.rglob("1-280.dcm"))
    import pydicom

    header = pydicom.dcmread(path, stop_before_pixels=True)
    mask = np.zeros((header.Rows, header.Columns), np.uint8)
    mask[100:200, 100:200] = 255
    (tmp_path / "image.dcm").symlink_to(path)
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    (tmp_path / "images.csv").write_text("image_path,patient_id,label\nimage.dcm,p1,0\n")
    (tmp_path / "lesions.csv").write_text(
        "image_path,mask_path,x_min,y_min,x_max,y_max\nimage.dcm,mask.png,0,0,1,1\n"
    )
    catalog = read_csv(table=tmp_path / "images.csv", root=tmp_path, lesions=tmp_path / "lesions.csv")
    assert inventory(catalog)["lesion_masks_as_is"] == 1


def test_files_that_stand_twice(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1024
    contents = {
        "a": content,
        "b": content,
        "c": content,
        "start differs": b"x" + content[1:],
        "end differs": content[:-1] + b"x",
        "middle differs": content[:131072] + b"x" + content[131073:],
        "longer": content + b"x",
        "d": b"other",
        "e": b"other",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    images = pd.DataFrame({"path": [str(tmp_path / name) for name in contents]}, dtype="string")
    images["image_id"] = images["patient_id"] = list(contents)
    images["pathology"] = "BENIGN"
    for name in (
        "official_split",
        "abnormality_type",
        "laterality",
        "view",
        "density",
        "subtlety",
        "assessment",
    ):
        images[name] = pd.Series(pd.NA, index=images.index, dtype="string")
    lesions = pd.DataFrame(
        {"image_id": [], "pathology": [], "abnormality_type": [], "x_min": [], "mask_paths": []}
    )
    counts = inventory(Catalog(images=images, lesions=lesions))
    assert counts["duplicate_files"] == 3
    groups = [[Path(path).name for path in group] for group in counts["duplicate_groups"]]
    assert sorted(groups) == [["a", "b", "c"], ["d", "e"]]
    assert "leak_patients" not in counts


def test_every_count_is_a_plain_number(release: Path) -> None:
    counts = inventory(read_cbis_ddsm(root=release))
    lists = {name for name, value in counts.items() if type(value) is not int}
    assert lists == {"leak_patient_ids", "duplicate_groups"}


def test_official_counts(cbis_ddsm_files: Path) -> None:
    counts = inventory(read_cbis_ddsm(root=cbis_ddsm_files))
    expected = {
        "patients": 1566,
        "lesions": 3568,
        "train_mass_lesions": 1318,
        "test_mass_lesions": 378,
        "train_calcification_lesions": 1546,
        "test_calcification_lesions": 326,
        "train_images": 2420,
        "train_malignant_images": 1097,
        "test_images": 641,
        "test_malignant_images": 262,
        "images_with_benign_and_malignant_lesions": 26,
        "images_without_density": 2,
        "leak_patients": 31,
        "leak_views": 29,
        "leak_test_images": 50,
        "clean_test_images": 591,
        "clean_test_malignant_images": 244,
        "files_found": 0,
        "files_missing": 3061,
        "lesions_with_usable_mask": 0,
        "lesion_masks_missing": 3568,
        "duplicate_files": 0,
    }
    assert {name: counts[name] for name in expected} == expected
    for kind in ("mass", "calc"):
        alone = inventory(read_cbis_ddsm(root=cbis_ddsm_files, abnormality=kind))
        assert alone["leak_patients"] == 0


def test_what_is_left_out_and_the_cohorts_are_counted() -> None:
    images = pd.DataFrame({"image_id": list("abc"), "patient_id": "p", "cohort": ["D1", "D1", "D2"]})
    images["pathology"] = ["BENIGN", "MALIGNANT", "MALIGNANT"]
    catalog = validate(Catalog(images=images, lesions=pd.DataFrame(), left_out={"no label": 2}))
    counts = inventory(catalog)
    assert counts["left out: no label"] == 2
    assert [counts[f"cohort: {name}, images"] for name in ("D1", "D2")] == [2, 1]
    assert [counts[f"cohort: {name}, malignant images"] for name in ("D1", "D2")] == [1, 1]
