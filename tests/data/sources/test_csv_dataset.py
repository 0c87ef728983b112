"""Tables of the user's own images: what is accepted, and how mistakes are reported."""

from pathlib import Path
from typing import Any

import pytest

from mammo.data.catalog import Catalog
from mammo.data.sources.csv_dataset import read_csv
from mammo.errors import ConfigError, DataError, MammoError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.dcm", "mask.png"):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).touch()
    return tmp_path / "root"


def _read(root: Path, text: str, lesions: str | None = None) -> Catalog:
    (root.parent / "table.csv").write_text(text)
    if lesions is not None:
        (root.parent / "lesions.csv").write_text(lesions)
    return read_csv(
        table=root.parent / "table.csv", root=root, lesions=root.parent / "lesions.csv" if lesions else None
    )


SMALL = "image_path,patient_id,pathology\na/1.png,p1,benign\na/2.png,p1,MALIGNANT\n"


def test_words_in_any_manner(root: Path) -> None:
    text = (
        "Image Path;Patient-ID;PATHOLOGY;laterality;view;density;assessment;abnormality type;split\n"
        "a/1.png;p1;benign without callback;l;cc;B;0;Calc;training\n"
        "\n"
        "./a\\2.png ;p1; Malignant;Right;MLO;4;5;both;TEST\n"
        f"{root}/b/1.png;p2;Benign;;;N/A;;;\n"
    )
    images = _read(root, "\ufeff" + text).images
    assert list(images["image_id"]) == ["a/1", "a/2", "b/1"]
    assert list(images["pathology"]) == ["BENIGN", "MALIGNANT", "BENIGN"]
    assert images["laterality"].fillna("").tolist() == ["LEFT", "RIGHT", ""]
    assert images["view"].fillna("").tolist() == ["CC", "MLO", ""]
    assert images["density"].fillna(-1).tolist() == [2, 4, -1]
    assert images["assessment"].fillna(-1).tolist() == [-1, 5, -1]
    assert images["abnormality_type"].fillna("").tolist() == ["calcification", "both", ""]
    assert images["official_split"].fillna("").tolist() == ["train", "test", ""]
    assert images["path"].tolist() == [str(root / name) for name in ("a/1.png", "a/2.png", "b/1.png")]


def test_columns_of_the_user_s_own_are_kept_as_text(root: Path) -> None:
    text = (
        SMALL.replace("pathology", "Tumour grade,,label")
        .replace("benign", "1,x,0")
        .replace("MALIGNANT", ",,1")
    )
    images = _read(root, text).images
    assert images["tumour_grade"].fillna("none").tolist() == ["1", "none"]
    assert images["pathology"].tolist() == ["BENIGN", "MALIGNANT"]
    assert not {"", "image_path", "file"} & set(images.columns)
    alone = _read(root, SMALL.replace("pathology", "outcome")).images
    assert alone["outcome"].tolist() == ["benign", "MALIGNANT"]
    assert alone["pathology"].isna().all()


def test_other_views_and_study_dates_are_kept(root: Path) -> None:
    text = "image_path,patient_id,label,view,Study date\na/1.png,p1,0,xccl, 2020-01-31 \na/2.png,p1,1,AT,\n"
    images = _read(root, text).images
    assert images["view"].tolist() == ["XCCL", "AT"]
    assert images["study_date"].fillna("none").tolist() == ["2020-01-31", "none"]


def test_label_instead_of_pathology(root: Path) -> None:
    images = _read(root, "image_path,patient_id,label\na/1.png,p1,0\na/2.png,p1,1.0\n").images
    assert list(images["pathology"]) == ["BENIGN", "MALIGNANT"]


def test_columns_of_labels_that_differ_are_refused(root: Path) -> None:
    text = "image_path,patient_id,pathology,cancer\na/1.png,p1,benign,0\na/2.png,p1,benign,1\n"
    with pytest.raises(
        DataError, match=r"row 3: pathology 'benign' and cancer '1' are different labels; delete"
    ):
        _read(root, text)
    assert len(_read(root, text.replace("benign,1", "malignant,1")).images) == 2
    assert len(_read(root, text.replace(",1", ",invasive")).images) == 2  # of another meaning
    (root / "t.csv").write_text(text)
    chosen = read_csv(table=root / "t.csv", root=root, columns={"pathology": "cancer"})
    assert chosen.images["pathology"].tolist() == ["BENIGN", "MALIGNANT"]


def test_a_split_with_validation_rows_is_no_official_one(root: Path) -> None:
    images = _read(root, "image_path,patient_id,label,split\na/1.png,p1,0,train\na/2.png,p2,1,val\n").images
    assert images["official_split"].isna().all()


def test_a_missing_file_is_kept_without_path(root: Path) -> None:
    images = _read(root, SMALL + "a/3.png,p2,benign\n").images.set_index("image_id")
    assert images["path"].isna().to_dict() == {"a/1": False, "a/2": False, "a/3": True}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SMALL.replace("patient_id", "patientid"),
            r"no column 'patient_id'.*rename 'patientid' to 'patient_id'",
        ),
        (SMALL.replace("pathology", "image path"), r"column 'image_path' occurs twice"),
        (
            SMALL.replace("MALIGNANT", "tumour"),
            r"row 3: pathology 'tumour' is not one of BENIGN, MALIGNANT, .*delete the row, or .* data.labels",
        ),
        (
            SMALL.replace("pathology", "label").replace("benign", "2"),
            r"row 2: label '2' is not one of BENIGN",
        ),
        (SMALL.replace("MALIGNANT", ""), r"row 3: no pathology"),
        (SMALL.replace("p1,benign", ",benign"), r"row 2: no patient_id"),
        (
            SMALL + "\na/1.png,p1,benign\n",
            r"row 5: image_path 'a/1.png' is already in row 2; keep one row",
        ),
        (
            SMALL + "a/1.png,p2,benign\n",
            r"row 4: image_path 'a/1.png' is already in row 2, of patient 'p1' there and of 'p2' here; keep",
        ),
        (
            SMALL + "a/1.dcm,p2,benign\n",
            r"row 4: image_id 'a/1' is already in row 2, of patient 'p1' there and of 'p2' here; add",
        ),
        (SMALL + "a/./1.png,p1,benign\n", r"row 4: image_path 'a/./1.png' is already in row 2"),
        (
            SMALL + "a/1.dcm,p1,benign\n",
            r"row 4: image_id 'a/1' is already in row 2; add a column 'image_id'",
        ),
        (SMALL.replace("a/2", "../a/2"), r"row 3: image_path '../a/2.png' is outside data.root"),
        (SMALL.replace("a/2", "../root2/a"), r"row 3: image_path '../root2/a.png' is outside data.root"),
        (SMALL.replace("a/2", "/etc/a"), r"row 3: image_path '/etc/a.png' is outside data.root"),
        (SMALL.replace("a/", "c/"), r"contains no image of the table \(first: .*c/1.png\); correct data"),
        (SMALL.splitlines()[0], r"table.csv: has names of columns, but no rows; add one"),
        ("", r"table.csv: is empty"),
        (
            SMALL + "b/1.png,p1,benign,3\n",
            r"row 4: has more cells than there are names of columns; name every",
        ),
        (
            SMALL.replace(",patient_id", ",view,patient_id").replace(",p1", ",AP,p1"),
            r"row 2: view 'AP' is not one of CC, MLO, ML",
        ),
    ],
)
def test_a_mistake_is_told_with_its_row(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(root, text)


def test_missing_files_are_told(root: Path) -> None:
    with pytest.raises(DataError, match=r"nothing.csv: no such file"):
        read_csv(table=root / "nothing.csv", root=root)
    with pytest.raises(DataError, match=r"data\.root=.*nowhere: no such folder"):
        read_csv(table=root / "nothing.csv", root=root / "nowhere")


BOXES = "image_path,x_min,y_min,x_max,y_max,pathology\na/1.png,1,2,3.5,4,\na/2.png,0,0,9,9,malignant\n"


def test_lesions(root: Path) -> None:
    lesions = _read(root, SMALL, BOXES + "a/1.png,5,5,6,6,benign\n").lesions
    assert list(lesions["lesion_id"]) == ["a/1_lesion_1", "a/1_lesion_2", "a/2_lesion_1"]
    assert lesions["pathology"].fillna("").tolist() == ["", "BENIGN", "MALIGNANT"]
    assert lesions.loc[0, ["x_min", "y_min", "x_max", "y_max"]].tolist() == [1, 2, 3.5, 4]


def test_lesions_by_id_with_type_and_mask(root: Path) -> None:
    table = "image_id,image_path,patient_id,label,abnormality_type\nA,a/1.png,p,0,mass\nB,a/2.png,p,0,both\n"
    lesions = "image_id,mask_path,x_min,y_min,x_max,y_max\nA,mask.png,0,0,1,1\nB,none.png,0,0,1,1\n"
    found = _read(root, table, lesions).lesions
    assert list(found["lesion_id"]) == ["A_mass_1", "B_lesion_1"]
    assert found["abnormality_type"].fillna("").tolist() == ["mass", ""]
    assert found["mask_paths"].fillna("").tolist() == [str(root / "mask.png"), ""]


def test_columns_of_lesions_of_the_user_s_own_are_kept_as_text(root: Path) -> None:
    header, *rows = BOXES.splitlines()
    names = f"{header},Mass margins,Reader 2,patient_id"
    text = "\n".join([names, f"{rows[0]},SPICULATED,,p1", f"{rows[1]},,2,p1"])
    lesions = _read(root, SMALL, text).lesions
    assert lesions["mass_margins"].fillna("none").tolist() == ["SPICULATED", "none"]
    assert lesions["reader_2"].fillna("none").tolist() == ["none", "2"]
    assert not {"image_path", "patient_id"} & {*lesions}  # the table of images has them


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOXES.replace("a/2.png", "b/1.png"), r"row 3: image_path 'b/1.png' is not in the table of images"),
        (BOXES.replace("3.5", "wide"), r"row 2: x_max 'wide' is not a number"),
        (BOXES.replace("3.5", "inf"), r"row 2: x_max 'inf' is not a number"),
        (BOXES.replace("3.5", ""), r"row 2: no x_max"),
        (BOXES.replace("3.5", "1"), r"row 2: x_min 1, y_min 2, x_max 1, y_max 4 is not a box"),
        (BOXES.replace("0,0,9", "-1,0,9"), r"row 3: x_min -1, .* is not a box"),
        (BOXES.replace("x_min", "xmin"), r"no column 'x_min'.*rename 'xmin' to 'x_min'"),
        (BOXES.replace("image_path", "image"), r"no column 'image_path'"),
        (BOXES.replace(",malignant", ",2"), r"row 3: pathology '2' is not one of"),
    ],
)
def test_a_mistake_in_the_lesions_is_told(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(root, SMALL, text)


def test_mass800(cbis_ddsm_files: Path) -> None:
    folder = cbis_ddsm_files / "mass800"
    if not folder.is_dir():
        pytest.skip(f"no mass800 in {cbis_ddsm_files}")
    catalog = read_csv(table=folder / "images.csv", root=folder, lesions=folder / "lesions.csv")
    images, lesions = catalog.images, catalog.lesions
    assert (len(images), (images["pathology"] == "MALIGNANT").sum()) == (1231, 602)
    assert images["patient_id"].nunique() == 691
    assert images["path"].notna().all()
    assert (len(lesions), lesions["pathology"].isna().sum()) == (1318, 14)
    assert lesions[["x_min", "y_min", "x_max", "y_max"]].notna().all(axis=None)


def test_usual_words_of_labels_views_and_grades(root: Path) -> None:
    text = (
        "image_path,patient_id,cancer,view,density,assessment\n"
        "a/1.png,p1,False,LCC,DENSITY C,BI-RADS 4a\n"
        "a/2.png,p1,1,r_mlo,ACR 3,\n"
        "b/1.png,p2,0.0,Medio-lateral oblique,unknown,2.0\n"
    )
    images = _read(root, text).images
    assert images["pathology"].tolist() == ["BENIGN", "MALIGNANT", "BENIGN"]
    assert images["laterality"].fillna("").tolist() == ["LEFT", "RIGHT", ""]
    assert images["view"].tolist() == ["CC", "MLO", "MLO"]
    assert images["density"].fillna(-1).tolist() == [3, 3, -1]
    assert images["assessment"].fillna(-1).tolist() == [4, -1, 2]
    assert "cancer" not in images
    assert "diagnosis" not in images


def test_a_normal_image_is_negative_and_stays_apart(root: Path) -> None:
    images = _read(root, SMALL.replace("benign", "Normal") + "b/1.png,p2,benign\n").images
    assert images["pathology"].tolist() == ["BENIGN", "MALIGNANT", "BENIGN"]
    assert images["diagnosis"].tolist() == ["NORMAL", "MALIGNANT", "BENIGN"]


def test_columns_and_labels_of_the_user(root: Path) -> None:
    (root.parent / "t.csv").write_text(
        "File,Subject,BI-RADS,Vendor,path\na/1.png,p1,2,X,w\na/2.png,p1,4B,Y,w\nb/1.png,p2,1,Y,w\n"
    )
    (root.parent / "l.csv").write_text("File,x0,y_min,x_max,y_max,pathology\na/2.png,1,1,2,2,malignant\n")
    catalog = read_csv(
        table=root.parent / "t.csv",
        lesions=root.parent / "l.csv",
        root=root,
        columns={
            **{"image_path": "File", "patient_id": "subject", "pathology": "bi rads", "view": None},
            **{"assessment": "BI-RADS", "manufacturer": "Vendor", "x_min": "x0"},
        },
        labels={"MALIGNANT": ["4b", 5], "BENIGN": 2, "NORMAL": [1]},
    )
    images = catalog.images
    assert images["pathology"].tolist() == ["BENIGN", "MALIGNANT", "BENIGN"]
    assert images["diagnosis"].tolist() == ["BENIGN", "MALIGNANT", "NORMAL"]
    assert images["assessment"].tolist() == [2, 4, 1]
    assert images["manufacturer"].tolist() == ["X", "Y", "Y"]
    assert {"file", "subject", "vendor", "bi_rads"}.isdisjoint(images.columns)
    assert catalog.lesions[["x_min", "pathology"]].values.tolist() == [[1.0, "MALIGNANT"]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"columns": {"image_path": "image_pat"}},
            r"data.columns.image_path=image_pat: .*t.csv has no such column; did you mean 'image_path'\?",
        ),
        (
            {"columns": {"view": "zzz"}},
            r"data.columns.view=zzz: .* choose from image_path, patient_id, grade",
        ),
        (
            {"labels": {"MALIGNANT": ["1"]}},
            r"data.labels: .*t.csv has none of pathology, label, cancer; give data.columns.pathology=NAME",
        ),
        (
            {"labels": {"MALIGNANT": "1", "BENIGN": [1, 2]}},
            r"data.labels: '1' is in MALIGNANT and in BENIGN; leave it in one",
        ),
        (
            {"labels": {"MALIGNANT": [4], "BENIGN": "1"}, "columns": {"pathology": "grade"}},
            r"row 3: pathology '2' is not one of .*1 \(nor are '3'\); correct it or delete the row",
        ),
        ({"sheet": "A"}, r"t.csv: is not an Excel file, so it has no sheet 'A'; leave it out"),
    ],
)
def test_a_mistake_in_the_keys_is_told(root: Path, keys: dict[str, Any], message: str) -> None:
    (root.parent / "t.csv").write_text(
        "image_path,patient_id,grade\na/1.png,p,1\na/2.png,p,2\nb/1.png,p,3\nb/2.dcm,p,4\n"
    )
    with pytest.raises(MammoError, match=message) as refused:
        read_csv(table=root.parent / "t.csv", root=root, **keys)
    assert isinstance(refused.value, ConfigError | DataError)


def test_a_message_shows_little_of_a_long_cell(root: Path) -> None:
    long = "x" * 5000
    for text in (
        SMALL.replace("benign", long),
        SMALL.replace("patient_id", long),
        SMALL.replace("a/2", "../" + long),
        SMALL + f"{long},p,benign\n{long},p,benign\n",
        SMALL.replace("image_path", ",".join(f"{long}{i}" for i in range(99))),
    ):
        with pytest.raises(DataError) as refused:
            _read(root, text)
        assert len(str(refused.value)) < 600
