"""Several data sets as one."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.public_sets import inbreast, mini_mias
from helpers.trees import LESIONS, write_cases

from mammo.config.arguments import check_arguments
from mammo.config.checks import CONF
from mammo.config.data.combined_sets import TARGETS
from mammo.data.catalog import LESION_COLUMNS
from mammo.data.sources.combined import read_combined
from mammo.data.splits import make_split
from mammo.errors import ConfigError


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, Any]:
    for name, write in (("inbreast", inbreast), ("mini_mias", mini_mias)):
        write(tmp_path / name)
    write_cases(tmp_path / "cbis_ddsm", LESIONS)
    return {name: str(tmp_path / name) for name in ("cbis_ddsm", "inbreast", "mini_mias")} | {"rsna": None}


def test_the_targets_are_those_of_the_choices() -> None:
    for name, target in TARGETS.items():
        assert yaml.safe_load((CONF / "data" / f"{name}.yaml").read_text())["_target_"] == target


def test_each_image_has_its_set(sets: dict[str, Any]) -> None:
    catalog = read_combined(sets=sets, split="random")
    images = catalog.images
    assert images["dataset"].value_counts().to_dict() == {"cbis_ddsm": 7, "mini_mias": 7, "inbreast": 5}
    for name in ("image_id", "patient_id"):
        assert (images[name].str.partition("/")[0] == images["dataset"]).all()
    assert set(catalog.lesions["lesion_id"].str.partition("/")[0]) == {"cbis_ddsm", "mini_mias", "inbreast"}
    assert list(catalog.lesions) == list(LESION_COLUMNS)
    own = images.groupby("dataset")["official_split"].agg(lambda split: split.dropna().nunique()).to_dict()
    assert own == {"cbis_ddsm": 2, "mini_mias": 0, "inbreast": 0}
    assert catalog.left_out == {"inbreast: BI-RADS 3": 1, "inbreast: not in the table": 1}


def test_external_validation(sets: dict[str, Any]) -> None:
    catalog = read_combined(sets=sets, split="official", train_on=["cbis_ddsm"], test_on=["inbreast"])
    images = catalog.images
    assert catalog.left_out["mini_mias: in neither data.train_on nor data.test_on"] == 7
    split = make_split(images, split="official", seed=0, val_fraction=0.4)
    assert {name.partition("/")[0] for name in (*split.train, *split.val)} == {"cbis_ddsm"}
    assert len(split.train) + len(split.val) == 7  # also of its own test set
    assert split.test == [
        f"inbreast/{n}" for n in ("20586908", "20586934", "20586960", "20587054", "20587148")
    ]
    both = read_combined(
        sets=sets, split="official", train_on=["cbis_ddsm"], test_on=["inbreast", "cbis_ddsm"]
    ).images
    assert set(both.loc[both["dataset"] == "cbis_ddsm", "official_split"]) == {"train", "test"}


def test_a_set_may_have_keys_of_its_own(sets: dict[str, Any]) -> None:
    sets |= {"inbreast": {"root": sets["inbreast"], "birads_3": "benign"}, "mini_mias": None}
    assert read_combined(sets=sets, split="random").left_out == {"inbreast: not in the table": 1}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"sets": {"rsna": "/nowhere"}},
            r"data.sets.rsna: root=/nowhere is no folder; give data.sets.rsna=DIR",
        ),
        ({"sets": {"inbreast": {"birads_3": "benign"}}}, r"data.sets.inbreast: root=None is no folder"),
        ({"train_on": ["inbreast"]}, r"data.train_on and data.test_on belong together"),
        (
            {"train_on": ["cmmd"], "test_on": ["inbreast"]},
            r"data.train_on: 'cmmd' is not one of the sets, cbis",
        ),
        (
            {"train_on": ["mini_mias"], "test_on": ["inbreast"], "split": "random"},
            r"data.split=random: does not use data.train_on and data.test_on; give data.split=official",
        ),
    ],
)
def test_a_mistake_is_told(sets: dict[str, Any], keys: dict[str, Any], message: str) -> None:
    given = {"split": "official"} | keys | {"sets": sets | keys.get("sets", {})}
    with pytest.raises(ConfigError, match=message):
        read_combined(**given)
    with pytest.raises(
        ConfigError, match=r"data=combined: combines two or more sets; give data.sets.NAME=DIR"
    ):
        read_combined(sets={"inbreast": sets["inbreast"]}, split="random")


def test_a_list_of_choices_is_refused() -> None:
    """Hydra would merge their keys and read the last one only."""
    with pytest.raises(ConfigError, match=r"data=\[cmmd,rsna\]: is one choice; for several .* data=combined"):
        check_arguments("train", ["data=[cmmd,rsna]"])
