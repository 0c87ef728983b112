"""Every search of `conf/sweep`."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mammo.config.checks import CONF
from mammo.config.composition import compose_search, compose_with_choices
from mammo.config.instantiation import part_name
from mammo.errors import ConfigError
from mammo.sweeping.search.optuna_samplers import check_search, trials_of
from mammo.sweeping.search.search_space import Space

FILES = sorted((CONF / "sweep").glob("[!_]*.yaml"))
# a study consists of several searches and is not one itself
SEARCHES = [file.stem for file in FILES if "/schema/sweep/study" not in file.read_text()]
OF_2019 = ["resnet18", "resnet34", "resnet50", "inception_resnet_v2", "custom_cnn"]


def test_the_searches_of_the_study_and_those_of_any_data_are_there() -> None:
    assert {*OF_2019, "backbones", "lr", "seeds"} <= set(SEARCHES)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_is_well_formed(name: str, tmp_path: Path) -> None:
    settings = compose_search(name)
    overrides = settings["overrides"]
    if any(override.startswith("experiment=") for override in overrides):
        overrides = [*overrides, f"data.root={tmp_path}"]
    if name == "lesions":  # starts from a run of patches
        (tmp_path / "weights.pt").touch()
        overrides = [*overrides, f"model.weights={tmp_path / 'weights.pt'}"]
    space = Space.from_config(settings["space"])
    trainings, fixed = space.check(overrides), space.fixed(overrides)
    check_search(settings, space=space, fixed=fixed, training=trainings[0])
    assert settings["name"] == name
    count = trials_of(settings, space=space, fixed=fixed)
    assert count is not None
    text = (CONF / "sweep" / f"{name}.yaml").read_text()
    assert text.startswith(f"# python sweep.py sweep={name} ")
    assert f"\n# Cost: {count} trials" in text


@pytest.mark.parametrize("name", OF_2019)
def test_the_study_is_tuned_as_it_was(name: str, tmp_path: Path) -> None:
    settings = compose_search(name)
    trainings = Space.from_config(settings["space"]).check([*settings["overrides"], f"data.root={tmp_path}"])
    assert {part_name(training.model) for training in trainings} == {
        "CustomCNN" if name == "custom_cnn" else name
    }
    assert {part_name(training.optim) for training in trainings} == {"Adam", "sgd", "RMSprop"}
    assert {part_name(training.schedule) for training in trainings} == {"step", "cosine", "ReduceLROnPlateau"}
    assert {training.optim.lr for training in trainings} == {5e-5, 1e-3}
    assert {training.data.batch_size for training in trainings} == {1, 4}
    assert {(training.data.height, training.data.width) for training in trainings} == {
        (1024, 1024), (2048, 2048),
    }  # fmt: skip
    assert {tuple(training.data.sample) for training in trainings} == {(500, 100, 100)}
    activations = {training.model.get("activation") for training in trainings}
    assert activations == ({"relu", "elu", "leaky_relu", "prelu"} if name == "custom_cnn" else {None})


def test_a_search_that_is_not_there_is_told() -> None:
    with pytest.raises(
        ConfigError, match=r"sweep=resnet19: no such choice; choose from .*resnet18"
    ) as refused:
        compose_search("resnet19")
    assert "_study2019" not in str(refused.value)


def test_a_space_is_changed_on_the_command_line() -> None:
    space = "sweep.space={optim.lr: null, model.dropout: {uniform: [0, 0.5]}}"
    cfg, _ = compose_with_choices("sweep", ["sweep=lr", f"+{space}"])
    assert list(Space.from_config(OmegaConf.to_container(cfg.sweep.space)).domains) == ["model.dropout"]
    with pytest.raises(ConfigError, match=r"sweep.space has no such key; give .sweep.space=.* to add it"):
        compose_with_choices("sweep", ["sweep=lr", space])
