"""The settings that a search keeps."""

from pathlib import Path

import pytest

from mammo.errors import ConfigError
from mammo.sweeping.search_settings import SearchSettings


def begun_with(folder: Path, *overrides: str) -> None:
    SearchSettings(folder, overrides).record()


def test_settings_that_are_not_given_again_are_kept(tmp_path: Path) -> None:
    begun_with(tmp_path, "sweep=resnet18", "sweep.workers=40", "sweep.budget.trials=7")
    again = SearchSettings(tmp_path, [])
    assert again.values["name"] == "resnet18"
    assert (again.values["workers"], again.values["budget"]["trials"]) == (40, 7)


def test_a_setting_that_is_given_adds_to_the_recorded_ones(tmp_path: Path) -> None:
    begun_with(
        tmp_path, "sweep.workers=40", "+sweep.space={optim.lr: null, model.dropout: {uniform: [0, 1]}}"
    )
    begun_with(tmp_path, "sweep=lr", "sweep.workers=2")
    again = SearchSettings(tmp_path, ["sweep.budget.trials=9"])
    assert (again.values["workers"], again.values["budget"]["trials"]) == (2, 9)
    assert again.values["space"] == {"optim.lr": None, "model.dropout": {"uniform": [0, 1]}}


def test_another_search_does_not_get_the_recorded_settings(tmp_path: Path) -> None:
    begun_with(tmp_path, "sweep=lr", "sweep.workers=40")
    other = SearchSettings(tmp_path, ["sweep=seeds"])
    assert (other.values["name"], other.values["workers"]) == ("seeds", 1)


def test_a_wrong_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.worker=2: no such key"):
        SearchSettings(tmp_path, ["sweep.worker=2"])
