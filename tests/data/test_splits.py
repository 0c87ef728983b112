"""Splits keep patients apart and proportions similar, and depend only on the seed."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.data.catalog import IMAGE_COLUMNS
from mammo.data.sources.cbis_ddsm import read_cbis_ddsm
from mammo.data.splits import Split, left_out, make_split
from mammo.errors import ConfigError, DataError, MammoError


def _images(
    patients: int, *, seed: int = 0, official: bool = True, leaks: int = 0, types: bool = True
) -> pd.DataFrame:
    """Patients with one to four images each; the first `leaks` have images in both official splits."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        side = "test" if rng.random() < 0.25 else "train"
        kind = str(rng.choice(["mass", "calcification", "both"]))
        for view in range(2 if patient < leaks else rng.integers(1, 5)):
            split = ("train", "test")[view] if patient < leaks else side
            rows.append(
                {
                    "image_id": f"I{patient:04d}_{view}",
                    "patient_id": f"P{patient:04d}",
                    "pathology": "MALIGNANT" if rng.random() < 0.4 else "BENIGN",
                    "abnormality_type": kind if types else pd.NA,
                    "official_split": split if official else pd.NA,
                    "path": f"/root/images/I{patient:04d}/{view}.png",
                }
            )
    return pd.DataFrame(rows).reindex(columns=list(IMAGE_COLUMNS)).astype(IMAGE_COLUMNS)


def _check_patients_apart(images: pd.DataFrame, split: Split) -> None:
    patient_of = images.set_index("image_id")["patient_id"]
    train, val, test = ({patient_of[image] for image in ids} for ids in asdict(split).values())
    assert not train & val
    assert not (train | val) & test
    everything = split.train + split.val + split.test
    assert len(everything) == len(set(everything))


def _malignant(images: pd.DataFrame, ids: list[str]) -> int:
    return int((images.set_index("image_id")["pathology"][ids] == "MALIGNANT").sum())


@settings(max_examples=60, deadline=None)
@given(
    patients=st.integers(3, 60),
    leaks=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
    split=st.sampled_from(["official", "clean", "random", "kfold"]),
    types=st.booleans(),
)
def test_no_patient_on_two_sides_and_no_order_dependence(
    patients: int, leaks: int, seed: int, split: str, types: bool
) -> None:
    images = _images(patients, seed=seed % 1000, leaks=leaks, types=types)
    try:
        made = make_split(images, split=split, seed=seed, folds=2)
    except MammoError:  # too few patients
        assert patients < 15
        return
    _check_patients_apart(images, made)
    assert made.train
    assert made.val
    assert made == make_split(images.sample(frac=1, random_state=seed), split=split, seed=seed, folds=2)


def test_the_seed_chooses_the_patients() -> None:
    images = _images(100)
    first, again, other = (make_split(images, split="official", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.val != other.val
    assert first.test == other.test
    sampled = [make_split(images, split="official", seed=seed, sample=[50, 10, 10]).test for seed in (1, 2)]
    assert sampled[0] != sampled[1]


def test_the_only_patient_of_a_kind_may_come_to_either_side() -> None:
    images = _images(50, types=False)
    images.loc[images["patient_id"] == "P0003", "abnormality_type"] = "both"
    sides = [make_split(images, split="random", seed=seed) for seed in range(40)]
    assert 0 < sum("I0003_0" in made.val for made in sides) < 20


def test_official_keeps_the_test_set_and_clean_the_training_set() -> None:
    images = _images(80, leaks=5).set_index("image_id", drop=False)
    of_test = set(images["image_id"][images["official_split"] == "test"])
    leaked = set(images["image_id"][images["patient_id"] < "P0005"])
    official, clean = (make_split(images, split=split, seed=0) for split in ("official", "clean"))
    assert set(official.test) == of_test
    assert set(official.train + official.val) == set(images["image_id"]) - of_test - leaked
    assert set(clean.test) == of_test - leaked
    assert set(clean.train + clean.val) == set(images["image_id"]) - of_test


def test_random_is_70_20_10_of_the_patients() -> None:
    images = _images(200)
    patient_of = images.set_index("image_id")["patient_id"]
    made = make_split(images, split="random", seed=3)
    assert [patient_of[ids].nunique() for ids in asdict(made).values()] == [140, 40, 20]
    assert sum(map(len, asdict(made).values())) == len(images)


@pytest.mark.parametrize("split", ["official", "random", "kfold"])
def test_every_kind_of_patient_is_on_every_side_in_proportion(split: str) -> None:
    images = _images(300)
    made = make_split(images, split=split, seed=5)
    malignant = images.groupby("patient_id")["pathology"].agg(lambda column: (column == "MALIGNANT").any())
    kinds = images.drop_duplicates("patient_id").set_index("patient_id")["abnormality_type"]
    of_side = {
        side: images[images["image_id"].isin(ids)]["patient_id"].unique()
        for side, ids in asdict(made).items()
    }
    development = len(of_side["train"]) + len(of_side["val"])
    for kind in ("mass", "calcification", "both"):
        for label in (True, False):
            both = [
                sum(kinds[patient] == kind and malignant[patient] == label for patient in of_side[side])
                for side in ("train", "val")
            ]
            expected = sum(both) * len(of_side["val"]) / development
            assert abs(both[1] - expected) < 2


@pytest.mark.parametrize("official", [True, False])
def test_folds_share_out_the_patients(official: bool) -> None:
    images = _images(53, official=official, leaks=2 if official else 0)
    folds = [make_split(images, split="kfold", seed=0, fold=fold, folds=4) for fold in range(4)]
    validation = [image for made in folds for image in made.val]
    assert len(validation) == len(set(validation))
    for made in folds:
        _check_patients_apart(images, made)
        assert set(made.train + made.val) == set(validation)
        assert made.test == folds[0].test
    assert set(folds[0].test) == set(images["image_id"][(images["official_split"] == "test").fillna(False)])


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=st.integers(0, 100))
def test_a_sample_has_the_number_and_balance_asked_for(data: st.DataObject, seed: int) -> None:
    images = _images(40, seed=seed)
    whole = make_split(images, split="random", seed=seed)
    sample = [data.draw(st.integers(0, len(ids))) for ids in asdict(whole).values()]
    made = make_split(images, split="random", seed=seed, sample=sample)
    shuffled = images.sample(frac=1, random_state=seed)
    assert made == make_split(shuffled, split="random", seed=seed, sample=sample)
    for number, ids, drawn in zip(sample, asdict(whole).values(), asdict(made).values(), strict=True):
        assert len(drawn) == number
        assert set(drawn) <= set(ids)
        if drawn:
            assert abs(_malignant(images, drawn) - number * _malignant(images, ids) / len(ids)) <= 0.5


def test_a_sample_takes_whole_patients() -> None:
    images = _images(400)
    patient_of = images.set_index("image_id")["patient_id"]
    made = make_split(images, split="official", seed=0, sample=[200, 50, 50])
    images_of = patient_of.value_counts()
    cut = patient_of[made.train].value_counts()
    assert (cut < images_of[cut.index]).mean() < 0.15  # only patients drawn after one class was complete


IMAGES = _images(20, leaks=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "offical"}, "data.split=offical: no such split; choose from official, clean"),
        ({"split": "kfold", "folds": 1}, "data.folds=1"),
        ({"split": "kfold", "folds": 21}, "data.folds=21: must be between 2 and the number of patients"),
        ({"split": "kfold", "fold": 5}, "data.fold=5: must be between 0 and data.folds - 1 = 4"),
        ({"split": "kfold", "fold": -1}, "data.fold=-1"),
        ({"split": "official", "val_fraction": 0.0}, "data.val_fraction=0.0"),
        ({"split": "official", "val_fraction": 1.0}, "data.val_fraction=1.0"),
        (
            {"split": "random", "sample": [1000, 1, 1]},
            r"data.sample=\[1000, 1, 1\]: train has only \d+ images",
        ),
        ({"split": "random", "sample": [10, 1]}, r"data.sample=\[10, 1\]: give three numbers"),
        ({"split": "random", "sample": [10, -1, 1]}, "give three numbers"),
        ({"split": "file"}, "data.split=file: name the file by data.split_file=PATH"),
    ],
)
def test_a_wrong_value_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_split(IMAGES, seed=0, **arguments)  # type: ignore[arg-type]


def test_images_that_cannot_be_split_are_refused() -> None:
    with pytest.raises(DataError, match=r"no official split; choose data\.split=random"):
        make_split(_images(20, official=False), split="official", seed=0)
    with pytest.raises(DataError, match="no image to split"):
        make_split(IMAGES.iloc[:0], split="random", seed=0)
    for split in ("official", "random"):
        two = _images(2)
        two["official_split"] = "train" if split == "random" else "test"
        with pytest.raises(DataError, match=f"data.split={split}: too few patients"):
            make_split(two, split=split, seed=0)


def test_one_class_only_is_split_all_the_same() -> None:
    images = IMAGES.assign(pathology="BENIGN")
    assert len(make_split(images, split="random", seed=0, sample=[5, 1, 1]).train) == 5


# split files

APART = _images(30)


@pytest.fixture
def made() -> Split:
    return make_split(APART, split="random", seed=7)


def _rows(split: Split) -> pd.DataFrame:
    rows = [(image, side) for side, ids in asdict(split).items() for image in ids]
    return pd.DataFrame(rows, columns=["image_id", "split"])


def test_a_file_with_a_split_column(tmp_path: Path, made: Split) -> None:
    _rows(made).replace({"val": "Validation"}).to_csv(tmp_path / "split.csv", index=False)
    assert make_split(APART, split="file", seed=0, split_file=tmp_path / "split.csv") == made


@pytest.mark.parametrize("manner", ["absolute", "relative", "relative to elsewhere", "without suffix"])
def test_a_file_of_paths(tmp_path: Path, made: Split, manner: str) -> None:
    rows = _rows(made)
    path = rows["image_id"].map(APART.set_index("image_id")["path"])
    images = APART
    if manner == "relative":
        path = path.str.removeprefix("/root/")
    elif manner == "relative to elsewhere":
        path = ".\\" + path.str.removeprefix("/root/images/").str.replace("/", "\\")
    elif manner == "without suffix":  # the id of a table without ids
        images = APART.assign(image_id=APART["path"].str.removeprefix("/root/").str.removesuffix(".png"))
        images["path"] = pd.Series(pd.NA, index=images.index, dtype="string")
        path = path.str.removeprefix("/root/")
    rows.assign(image_path=path).drop(columns="image_id").to_csv(tmp_path / "split.csv", index=False)
    found = make_split(images, split="file", seed=0, split_file=tmp_path / "split.csv")
    if manner == "without suffix":
        back = dict(zip(images["image_id"], APART["image_id"], strict=True))
        found = Split(*(sorted(back[image] for image in ids) for ids in asdict(found).values()))
    assert found == made


def test_a_folder_of_lists(tmp_path: Path, made: Split) -> None:
    for side, ids in asdict(made).items():
        (tmp_path / f"{side}.txt").write_text("\n".join(ids) + "\n")
    assert make_split(APART, split="file", seed=0, split_file=tmp_path) == made
    (tmp_path / "test.txt").unlink()
    assert make_split(APART, split="file", seed=0, split_file=tmp_path).test == []
    (tmp_path / "val.txt").unlink()
    with pytest.raises(DataError, match=r"contains neither val.csv nor val.txt"):
        make_split(APART, split="file", seed=0, split_file=tmp_path)


def test_the_form_of_the_2019_study(tmp_path: Path) -> None:
    ids = [
        "P_00001_LEFT_CC",
        "P_00002_RIGHT_MLO",
        "P_00003_LEFT_CC",
        "P_00003_LEFT_CC_TEST",
        "P_00004_LEFT_CC",
    ]
    images = pd.DataFrame(
        {"image_id": ids, "patient_id": [name[:7] for name in ids], "pathology": "BENIGN", "path": pd.NA}
    )
    images = images[images["image_id"] != "P_00003_LEFT_CC"].reindex(columns=list(IMAGE_COLUMNS))
    names = {
        "train": ["Mass-Training_P_00001_LEFT_CC", "Calc-Training_P_00001_LEFT_CC"],
        "val": ["Calc-Training_P_00002_RIGHT_MLO"],
        "test": ["Mass-Test_P_00003_LEFT_CC", "Calc-Test_P_00004_LEFT_CC"],
    }
    for side, cases in names.items():
        lines = [f"{case}/1.3.6.1/1.3.6.2/000000.dcm,1" for case in cases]
        (tmp_path / f"{side}.csv").write_text("\n".join(["image file path,class", *lines]))
    assert make_split(images.astype(IMAGE_COLUMNS), split="file", seed=0, split_file=tmp_path) == Split(
        train=["P_00001_LEFT_CC"],
        val=["P_00002_RIGHT_MLO"],
        test=["P_00003_LEFT_CC_TEST", "P_00004_LEFT_CC"],
    )


def test_a_file_that_is_wrong_is_refused(
    tmp_path: Path, made: Split, caplog: pytest.LogCaptureFixture
) -> None:
    def split(rows: pd.DataFrame) -> Split:
        rows.to_csv(tmp_path / "split.csv", index=False)
        return make_split(APART, split="file", seed=0, split_file=tmp_path / "split.csv")

    rows = _rows(made)
    patients = APART.set_index("image_id").loc[made.test, "patient_id"].unique()[:2]
    leaking = APART.groupby("patient_id")["image_id"].first()[patients]
    with pytest.raises(DataError, match=r"2 patients are in two sets \(P\d+, P\d+\); keep each in one"):
        split(pd.concat([rows, pd.DataFrame({"image_id": leaking, "split": "train"})]))
    with pytest.raises(DataError, match=r"row 2: split 'learn' is not one of TRAIN"):
        split(rows.replace({"train": "learn"}))
    with pytest.raises(DataError, match=r"no column 'split'"):
        split(rows.rename(columns={"split": "set"}))
    with pytest.raises(DataError, match=r"no column 'image_id'"):
        split(rows.rename(columns={"image_id": "name"}))
    with pytest.raises(DataError, match=r"names no image for val"):
        split(rows[rows["split"] != "val"])
    with pytest.raises(DataError, match=r"\d+ of its \d+ images are unknown, the first is 'xI\d+_\d'"):
        split(rows.assign(image_id="x" + rows["image_id"]))
    with pytest.raises(DataError, match=r"nothing.csv: no such file"):
        make_split(APART, split="file", seed=0, split_file=tmp_path / "nothing.csv")
    with pytest.raises(DataError, match=r"are unknown, the first is '\d.png'"):  # many paths end with it
        split(rows.assign(image_id=rows["image_id"].str[-1] + ".png"))
    one_unknown = pd.concat([rows, pd.DataFrame({"image_id": ["rejected"], "split": ["train"]})])
    assert split(one_unknown) == made
    assert "1 of its" in caplog.text


# the official release


def test_official_and_clean_test_sets(cbis_ddsm_files: Path) -> None:
    images = read_cbis_ddsm(root=cbis_ddsm_files).images
    official, clean = (make_split(images, split=split, seed=0) for split in ("official", "clean"))
    for made, count, malignant in ((official, 641, 262), (clean, 591, 244)):
        _check_patients_apart(images, made)
        assert (len(made.test), _malignant(images, made.test)) == (count, malignant)
    assert len(clean.train) + len(clean.val) == 2420
    leaked = set(images.loc[images["image_id"].isin(set(official.test) - set(clean.test)), "patient_id"])
    assert len(leaked) == 31
    kept = images.loc[images["image_id"].isin(official.train + official.val), "patient_id"]
    assert not leaked & set(kept)


def test_sampled_sets_of_the_2019_study(cbis_ddsm_files: Path) -> None:
    images = read_cbis_ddsm(root=cbis_ddsm_files).images
    made = make_split(images, split="official", seed=0, sample=[500, 100, 100])
    assert [len(ids) for ids in asdict(made).values()] == [500, 100, 100]
    assert _malignant(images, made.test) == round(100 * 262 / 641)


def test_an_image_with_another_view_is_left_out_for_it() -> None:
    images = _images(8, official=False)
    images["view"] = pd.array((["CC", "ML", None] * len(images))[: len(images)], dtype="string")
    among = set(images["image_id"][(images["view"] == "CC").fillna(value=False)]) - {"I0000_0"}
    settings = {"split": "random", "seed": 0, "among": among}
    rest = left_out(images, make_split(images, **settings), views=["CC"], **settings)
    assert list(rest) == ["image_id", "patient_id", "reason"]
    assert set(rest["image_id"]) == set(images["image_id"]) - among
    reasons = rest.set_index("image_id")["reason"]
    assert reasons.pop("I0000_0") == "in no class of the task"
    assert set(reasons) == {"its view is not in data.views"}
