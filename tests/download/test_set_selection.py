"""The choice of patients: whole, of both classes and splits, and the same in a larger choice."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.trees import LESIONS, write_cases
from hypothesis import given
from hypothesis import strategies as st

from mammo.download.set_selection import choose_patients, select_cbis_ddsm


@given(
    labels=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60),
    count=st.integers(2, 60),
    seed=st.integers(0, 9),
)
def test_a_choice_has_both_classes_and_is_part_of_a_larger_one(
    labels: list[tuple[bool, bool]], count: int, seed: int
) -> None:
    names = [f"P_{number:05d}" for number in range(len(labels))]
    malignant, test = (pd.Series([pair[k] for pair in labels], names) for k in (0, 1))
    chosen = choose_patients(malignant, test, count, seed=seed)
    assert len(set(chosen)) == len(chosen) == min(count, len(labels))
    assert set(chosen) <= set(choose_patients(malignant, test, count + 1, seed=seed))
    parts = pd.DataFrame({"malignant": malignant, "test": test})
    if count >= len(parts.drop_duplicates()):
        assert len(parts.loc[chosen].drop_duplicates()) == len(parts.drop_duplicates())


def test_two_patients_are_of_two_classes_though_one_is_rare() -> None:
    names = [f"P_{number}" for number in range(100)]
    malignant = pd.Series([number < 3 for number in range(100)], names)
    test = pd.Series([number % 5 == 0 for number in range(100)], names)
    for seed in range(20):
        assert malignant[choose_patients(malignant, test, 2, seed=seed)].sum() == 1
        # and twenty have the shares of the data set, but for one patient of each small part
        twenty = choose_patients(malignant, test, 20, seed=seed)
        assert malignant[twenty].sum() in (1, 2)
        assert test[twenty].sum() in (4, 5)


@pytest.mark.parametrize(
    ("given", "count"),
    [({}, 8), ({"masks": True}, 17), ({"crops": True}, 17), ({"masks": True, "crops": True}, 19)],
)
def test_series_of_images_masks_and_crops(tmp_path: Path, given: dict[str, bool], count: int) -> None:
    """Nine lesions in eight series of images; seven share the series of crop and mask."""
    write_cases(tmp_path, LESIONS)
    options = {"masks": False, "crops": False} | given
    wanted = select_cbis_ddsm(tmp_path, abnormality="all", patients=None, seed=0, **options)
    assert wanted["uid"].nunique() == count
    of_image = wanted[wanted["image_id"] == "P_00002_RIGHT_CC"]
    assert {LESIONS[3].image.series, LESIONS[4].image.series} <= set(of_image["uid"])
    assert (LESIONS[4].mask.series in set(of_image["uid"])) == options["masks"]
    assert (LESIONS[4].crop.series in set(of_image["uid"])) == options["crops"]


def test_patients_are_chosen_of_the_lesion_type(tmp_path: Path) -> None:
    write_cases(tmp_path, LESIONS)
    wanted = select_cbis_ddsm(
        tmp_path, abnormality="calc", patients=2, seed=0, masks=False, crops=False
    ).drop_duplicates("image_id")
    assert len(wanted["patient_id"].unique()) == 2
    assert set(wanted["image_id"]) < {"P_00002_RIGHT_CC", "P_00003_LEFT_CC", "P_00004_LEFT_MLO"}
