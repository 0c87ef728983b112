"""The launcher that a search keeps."""

from pathlib import Path

import pytest

from mammo.errors import ConfigError
from mammo.sweeping.search_launcher import SearchLauncher


def begun_with(folder: Path, *overrides: str) -> None:
    SearchLauncher(folder, overrides).record()


def test_the_first_launcher_is_recorded_with_its_keys(tmp_path: Path) -> None:
    begun_with(tmp_path, "hydra/launcher=slurm", "hydra.launcher.partition=gpu")
    again = SearchLauncher(tmp_path, [])
    assert again.is_slurm()
    assert (again.keys["partition"], again.keys["nodes"]) == ("gpu", 1)
    assert again.change() is None


def test_the_default_is_recorded_as_well(tmp_path: Path) -> None:
    begun_with(tmp_path)
    assert SearchLauncher(tmp_path, []).overrides == ["hydra/launcher=local"]


@pytest.mark.parametrize("again", [[], ["hydra/launcher=slurm"]])
def test_a_further_key_adds_to_the_recorded_ones(again: list[str], tmp_path: Path) -> None:
    begun_with(tmp_path, "hydra/launcher=slurm", "hydra.launcher.partition=gpu", "hydra.launcher.mem_gb=8")
    changed = SearchLauncher(tmp_path, [*again, "hydra.launcher.mem_gb=16"])
    assert (changed.keys["partition"], changed.keys["mem_gb"]) == ("gpu", 16)
    assert changed.change() == (
        "the launcher of the search changes from "
        "hydra/launcher=slurm hydra.launcher.partition=gpu hydra.launcher.mem_gb=8 to "
        "hydra/launcher=slurm hydra.launcher.partition=gpu hydra.launcher.mem_gb=16"
    )


def test_another_launcher_replaces_the_recorded_one_and_its_keys(tmp_path: Path) -> None:
    begun_with(tmp_path, "hydra/launcher=slurm", "hydra.launcher.partition=gpu")
    local = SearchLauncher(tmp_path, ["hydra/launcher=local"])
    assert not local.is_slurm()
    assert local.overrides == ["hydra/launcher=local"]


def test_a_launcher_of_the_user_s_own_folder_is_found(tmp_path: Path) -> None:
    own = tmp_path / "conf" / "hydra" / "launcher" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("defaults: [slurm]\npartition: mine\n")
    launcher = SearchLauncher(tmp_path / "sweep", ["hydra/launcher=mine"], config_dirs=[tmp_path / "conf"])
    assert (launcher.is_slurm(), launcher.keys["partition"]) == (True, "mine")


@pytest.mark.parametrize("wrong", ["hydra/launcher=slrum", "hydra.launcher.partition=gpu"])
def test_a_wrong_launcher_is_refused(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=wrong):
        SearchLauncher(tmp_path, [wrong])
