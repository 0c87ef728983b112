"""Configurations composed in a process that Hydra started, and in one that it did not."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from mammo.config.checks import CONF, check
from mammo.config.choices import Activation
from mammo.config.composition import compose_train, compose_trainings
from mammo.config.schema import CustomCnnConfig, TrainConfig
from mammo.errors import ConfigError


def test_what_is_composed_needs_no_hydra_and_keeps_its_types() -> None:
    cfg = compose_train(["model=custom_cnn", "optim.lr=5e-05"])
    assert not HydraConfig.initialized()
    assert not GlobalHydra.instance().is_initialized()
    assert cfg.name == "phantom-custom_cnn"
    assert "${" not in OmegaConf.to_yaml(cfg)
    assert "hydra" not in cfg
    assert OmegaConf.is_struct(cfg)
    assert OmegaConf.get_type(cfg) is TrainConfig
    assert OmegaConf.get_type(cfg.model) is CustomCnnConfig
    assert cfg.model.activation is Activation.relu


@pytest.mark.slow
def test_many_trainings_are_composed_as_one_by_one() -> None:
    trainings = [
        ["seed=1", "optim.lr=1e-3"],
        ["seed=2", "optim.lr=5e-05", "data.sample=[1,2,3]"],
        ["model=custom_cnn", "seed=3", "optim.lr=1e-3", "model.activation=elu"],
        [
            "model=custom_cnn",
            "seed=4",
            "optim.lr=${optim.weight_decay}",
            "name=${hydra:runtime.choices.model}",
        ],
    ]
    expected = [compose_train(overrides) for overrides in trainings]
    found = compose_trainings(trainings)
    assert found == expected
    assert [OmegaConf.get_type(cfg.model) for cfg in found] == [
        OmegaConf.get_type(cfg.model) for cfg in expected
    ]
    for wrong in (["seed=1", "optim.lrr=1"], ["seed=1", "seed=a"], ["seed=-1"]):
        with pytest.raises(ConfigError) as one:
            compose_train(wrong)
        with pytest.raises(ConfigError) as many:
            compose_trainings([["seed=1"], wrong])
        assert str(many.value) == str(one.value)
    assert not HydraConfig.initialized()


APP = f"""
import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from omegaconf import OmegaConf
from mammo.errors import ConfigError
from mammo.config.composition import compose_train, compose_trainings
import mammo.config.schema

def state():
    job = HydraConfig.instance().cfg
    name = JobRuntime.instance().get("name")
    return id(GlobalHydra.instance().hydra), id(job), name, OmegaConf.to_yaml(job)

@hydra.main(version_base="1.3", config_path={str(CONF)!r}, config_name="train")
def main(cfg):
    before = state()
    own = compose_train(["model=resnet34", "data=phantom_films"])
    try:
        compose_train(["optim.lrr=1"])
    except ConfigError as error:
        print(error)
    assert state() == before
    assert HydraConfig.get().runtime.choices.model == "resnet50"
    print(own.name, cfg.name)
    same = compose_train(["model=resnet50"])
    OmegaConf.resolve(cfg)
    assert same == cfg

main()
"""


@pytest.mark.slow
def test_an_app_of_hydra_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "app.py", "model=resnet50"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert told.stdout.splitlines() == [
        "optim.lrr=1: no such key; did you mean optim.lr?",
        "phantom_films-resnet34 phantom-resnet50",
    ], told.stderr


def test_a_recorded_config_is_checked_like_a_composed_one() -> None:
    """A resumed run has its config as plain values, without the schema."""
    composed = compose_train(["data.views=[CC,ML]", "data.patch.size=64"])
    check(recorded := OmegaConf.create(OmegaConf.to_yaml(composed)))
    assert recorded == composed
    for key, value, sentence in (
        ("patch", {"siz": 3}, "data.patch={'siz': 3}: Key 'siz' not in 'PatchConfig'"),
        ("height", "tall", "data.height=tall: Value 'tall'"),
        ("views", ["AP"], "data.views=[AP]: 'AP' is not one of CC"),
    ):
        wrong = OmegaConf.create(OmegaConf.to_yaml(composed))
        wrong.data[key] = value
        with pytest.raises(ConfigError) as refused:
            check(wrong)
        assert str(refused.value).startswith(sentence)


@pytest.mark.slow
def test_epochs_and_learning_rate_of_the_phantom_are_of_no_other_data(tmp_path: Path) -> None:
    phantom = compose_train([])
    assert (phantom.optim.lr, phantom.trainer.max_epochs) == (0.001, 14)
    assert compose_train(["data=phantom_films"]).trainer.max_epochs == 14
    assert compose_train(["optim=sgd"]).optim.lr == 0.01  # an optimiser's own
    assert compose_train(["experiment=plain", "data=phantom", "model.pretrained=false"]).optim.lr == 0.0003
    real = [f"data.root={tmp_path}", "data=cbis_ddsm"]
    with pytest.raises(ConfigError, match=r"^optim\.lr and trainer\.max_epochs have no value: give"):
        compose_train(real)
    assert compose_train([*real, "experiment=plain"]).trainer.max_epochs == 12
    assert compose_train([*real, "optim.lr=1e-4", "trainer.max_epochs=3"]).optim.lr == 1e-4
