"""RSNA 2023 on a made tree."""

from pathlib import Path

from helpers.public_sets import rsna

from mammo.data.sources.public.rsna import read_rsna


def test_images(tmp_path: Path) -> None:
    rsna(tmp_path / "rsna-breast-cancer-detection")
    catalog = read_rsna(root=tmp_path)
    images = catalog.images
    assert (len(images), images["patient_id"].nunique(), images["path"].notna().all()) == (18, 3, True)
    positive = images[images["pathology"] == "MALIGNANT"]
    assert set(zip(positive["patient_id"], positive["laterality"], strict=True)) == {("10006", "LEFT")}
    assert (len(positive), (images["pathology"] == "BENIGN").sum()) == (3, 15)
    assert set(images["view"]) == {"CC", "MLO", "AT"}
    assert images.groupby("site_id")["density"].apply(lambda grade: grade.isna().all()).to_dict() == {
        "1": False,
        "2": True,
    }
    # 0 wherever a cancer's is known
    assert images["assessment"].isna().all()
    assert "birads" not in images
    assert {"machine_id", "age", "implant", "invasive"} <= set(images)


def test_images_converted_to_png(tmp_path: Path) -> None:
    rsna(tmp_path)
    for file in sorted(tmp_path.glob("train_images/*/*.dcm")):
        file.rename(tmp_path / f"{file.parent.name}_{file.stem}.png")
    images = read_rsna(root=tmp_path).images
    assert [Path(path).stem for path in images["path"]] == [
        f"{patient}_{image}" for patient, image in zip(images["patient_id"], images["image_id"], strict=True)
    ]
