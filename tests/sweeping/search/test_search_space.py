"""The space of a search: its draws, its overrides on the command line, and every mistake."""

import contextlib
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from mammo.config import composition
from mammo.config.calls.override_values import quoted
from mammo.config.composition import extra_config_dirs
from mammo.config.instantiation import part_name
from mammo.errors import ConfigError
from mammo.sweeping.search.search_space import Space
from mammo.sweeping.search.trials import Value

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE: dict[str, Any] = {
    "optim.momentum": {"uniform": [0.0, 0.99], "when": {"optim": ["sgd", "rmsprop"], "model": "resnet18"}},
    "optim": {"choice": ["adam", "sgd", "rmsprop"]},
    "optim.lr": {"log_uniform": [5e-5, 1e-3]},
    "data.batch_size": {"int": [4, 32], "step": 4},
    "trainer.max_epochs": {"int": [1, 64], "log": True},
    "image_size": {"choice": {"small": ["data.height=64", "data.width=48"], "large": ["data.height=128"]}},
    "schedule.step_epochs": {"int": [1, 5], "when": {"schedule": "step", "optim": "adam"}},
    "schedule": {"choice": ["step", "cosine"], "when": {"image_size": "small"}},
}
FIXED: dict[str, Value] = {"model": "resnet18"}

values = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


def ask(seed: int) -> tuple[optuna.Study, optuna.Trial]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return study, study.ask()


@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_drawn_is_of_its_domain_and_applies(seed: int) -> None:
    drawn = Space.from_config(SPACE).suggest(ask(seed)[1], FIXED)
    assert drawn["optim"] in ("adam", "sgd", "rmsprop")
    assert 5e-5 <= drawn["optim.lr"] <= 1e-3
    assert drawn["data.batch_size"] in range(4, 33, 4)
    assert drawn["trainer.max_epochs"] in range(1, 65)
    assert ("optim.momentum" in drawn) == (drawn["optim"] != "adam")
    assert ("schedule" in drawn) == (drawn["image_size"] == "small")
    assert ("schedule.step_epochs" in drawn) == (drawn.get("schedule") == "step" and drawn["optim"] == "adam")


def test_what_is_fixed_otherwise_is_not_drawn() -> None:
    space = Space.from_config(SPACE)
    assert all("optim.momentum" not in space.suggest(ask(seed)[1], {"model": "vit"}) for seed in range(10))


class _KilledError(Exception):
    pass


@given(seed=st.integers(0, 1000), before=st.integers(0, 8))
@settings(deadline=None)
def test_a_trial_keeps_what_it_drew_before_its_worker_was_killed(seed: int, before: int) -> None:
    class Mortal(optuna.Trial):
        def _suggest(self, name: str, distribution: Any) -> Any:
            if len(self.params) == before:
                raise _KilledError
            return super()._suggest(name, distribution)

    space = Space.from_config(SPACE)
    study, trial = ask(seed)
    with contextlib.suppress(_KilledError):
        space.suggest(Mortal(study, trial._trial_id), FIXED)
    drawn = trial.params
    study.sampler = optuna.samplers.RandomSampler(seed=seed + 1)
    full = space.suggest(optuna.Trial(study, trial._trial_id), FIXED)
    assert len(drawn) == min(before, len(full))
    assert full == full | drawn
    assert space.suggest(optuna.Trial(study, trial._trial_id), FIXED) == full


@given(value=values)
def test_a_value_is_read_back_by_hydra(value: Value) -> None:
    read = OverridesParser.create().parse_override(f"key={quoted(value)}")
    assert not read.is_sweep_override()
    assert read.value() == value
    assert type(read.value()) is type(value)


@given(seed=st.integers(0, 1000))
def test_settings_are_read_back_by_hydra_groups_first(seed: int) -> None:
    space = Space.from_config(SPACE)
    drawn = space.suggest(ask(seed)[1], FIXED)
    read = OverridesParser.create().parse_overrides(space.overrides(drawn))
    names = [override.key_or_group for override in read]
    groups = [name in ("optim", "schedule") for name in names]
    assert groups == sorted(groups, reverse=True)
    found = {override.key_or_group: override.value() for override in read}
    assert found.pop("data.height") == (64 if drawn["image_size"] == "small" else 128)
    assert ("data.width" in found) == (drawn["image_size"] == "small")
    found.pop("data.width", None)
    assert found == {key: value for key, value in drawn.items() if key != "image_size"}


def test_a_space_may_be_narrowed_and_shortened() -> None:
    """'+sweep.space={optim.lr: null}' on the command line removes a key."""
    assert list(Space.from_config(SPACE | {"optim.lr": None}).domains) == [
        "optim", "optim.momentum", "data.batch_size", "trainer.max_epochs", "image_size", "schedule",
        "schedule.step_epochs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ({}, "sweep.space: is empty; give it a key with a domain"),
        ({"optim.lr": None}, "sweep.space: is empty"),
        (
            {"optim.lr": 0.1},
            "sweep.space.optim.lr=0.1: give a domain, {choice: [...]}, {uniform: [low, high]}",
        ),
        (
            {"optim.lr": {"log_unifrom": [1, 2]}},
            "sweep.space.optim.lr.log_unifrom: no such domain; give {choice: [...]}",
        ),
        (
            {"optim.lr": {"values": [1, 2]}},
            "sweep.space.optim.lr.values: no such domain; give {choice: [...]}",
        ),
        ({"optim.lr": {}}, "sweep.space.optim.lr: no domain given; give one of"),
        (
            {"optim.lr": {"uniform": [1, 2], "log_uniform": [1, 2]}},
            "sweep.space.optim.lr: uniform and log_uniform given; remove one with uniform: null",
        ),
        (
            {"optim.lr": {"uniform": [1, 1]}},
            "optim.lr.uniform=[1, 1]: the first must be less than the second",
        ),
        ({"optim.lr": {"uniform": [1]}}, "optim.lr.uniform=[1]: give two numbers, [low, high]"),
        ({"optim.lr": {"uniform": ["a", 2]}}, "optim.lr.uniform=['a', 2]: give two numbers"),
        ({"optim.lr": {"uniform": [0, float("inf")]}}, "optim.lr.uniform=[0, inf]: give two numbers"),
        ({"seed": {"int": [0, 1.5]}}, "sweep.space.seed.int=[0, 1.5]: give two whole numbers"),
        ({"seed": {"int": [False, True]}}, "sweep.space.seed.int=[False, True]: give two whole numbers"),
        (
            {"optim.lr": {"log_uniform": [0, 1]}},
            "optim.lr.log_uniform=[0, 1]: on a logarithmic scale the first must be more than 0",
        ),
        ({"seed": {"int": [0, 4], "log": True}}, "seed.int=[0, 4]: on a logarithmic scale"),
        ({"seed": {"int": [1, 4], "log": "yes"}}, "sweep.space.seed.log=yes: must be true or false"),
        ({"seed": {"int": [1, 4], "step": 0}}, "sweep.space.seed.step=0: must be a whole number from 1 to 3"),
        (
            {"seed": {"int": [1, 9], "step": 2, "log": True}},
            "sweep.space.seed: step and log exclude each other",
        ),
        (
            {"optim.lr": {"uniform": [0, 1], "step": 1}},
            "sweep.space.optim.lr.step: goes with int only, not with uniform",
        ),
        ({"model": {"choice": []}}, "sweep.space.model.choice=[]: give at least one value"),
        (
            {"model": {"choice": "resnet18"}},
            "sweep.space.model.choice=resnet18: give at least one value, in a list",
        ),
        ({"model": {"choice": ["a", "b", "a"]}}, "sweep.space.model.choice: a is there twice"),
        ({"seed": {"choice": [float("nan")]}}, "sweep.space.seed.choice: nan is no number"),
        (
            {"data.sample": {"choice": [[1, 2, 3]]}},
            "sweep.space.data.sample.choice: [1, 2, 3] is no single value; give {name: [overrides], ...}",
        ),
        (
            {"size": {"choice": {"a": "seed=1"}}},
            "sweep.space.size.choice.a=seed=1: give a list of train.py's",
        ),
        *(
            ({"size": {"choice": {"a": [override]}}}, f"sweep.space.size.choice.a: {override} is no override")
            for override in ("seed", "+seed=1", "~seed", "seed=1,2", "seed=[1")
        ),
        ({"seed": {"choice": [1], "when": "optim"}}, "sweep.space.seed.when=optim: give {KEY: VALUE}"),
        (
            {"optim": {"choice": ["adam", "sgd"]}, "seed": {"choice": [1], "when": {"optim": "sdg"}}},
            "sweep.space.seed.when.optim=sdg: no such choice; choose from adam, sgd",
        ),
        (
            {"optim.lr": {"uniform": [0, 1]}, "seed": {"choice": [1], "when": {"optim.lr": 0.5}}},
            "sweep.space.seed.when.optim.lr: is a range of numbers; a condition needs a choice",
        ),
        (
            {"a": {"choice": [1], "when": {"b": 1}}, "b": {"choice": [1], "when": {"a": 1}}},
            "sweep.space: the conditions of a and b name each other",
        ),
        ({"a": {"choice": [1], "when": {"a": 1}}}, "sweep.space: the conditions of a name each other"),
    ],
)
def test_a_space_that_is_not_well_formed_is_refused(space: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)) as refused:
        Space.from_config(space)
    assert "\n" not in str(refused.value)


LR = {"optim.lr": {"log_uniform": [1e-5, 1e-2]}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("space", "overrides", "sentence"),
    [
        (
            LR | {"optim.lrr": {"uniform": [0, 1]}},
            [],
            "sweep.space.optim.lrr: no such key; did you mean optim.lr?",
        ),
        (LR | {"modle": {"choice": ["resnet18"]}}, [], "sweep.space.modle: no such key; did you mean model?"),
        (
            LR | {"model": {"choice": ["resnet18", "resnet19"]}},
            [],
            "sweep.space.model=resnet19: no such choice; choose from custom_cnn",
        ),
        (
            LR | {"model.dropout": {"uniform": [0, 2]}},
            [],
            "sweep.space.model.dropout=2.0: must be between 0 and 1",
        ),
        (
            LR | {"data.batch_size": {"int": [3, 8]}},
            ["data.micro_batches=4"],
            "sweep.space.data.batch_size: data.micro_batches=4: does not divide data.batch_size=3",
        ),
        (
            {"trainer.max_epochs": {"choice": [1, "two"]}},
            [],
            "sweep.space.trainer.max_epochs=two: Value 'two' of type 'str' could not be converted to Integer",
        ),
        (
            {"size": {"choice": {"a": ["data.height=64"], "b": ["data.hieght=64"]}}},
            [],
            "sweep.space.size: data.hieght=64: no such key; did you mean data.height?",
        ),
        (
            {"optim": {"choice": ["adam", "sgd", "rmsprop"]}, "optim.momentum": {"uniform": [0, 0.9]}},
            [],
            "optim.momentum: is there only with optim=sgd, rmsprop; give it when: {optim: [sgd, rmsprop]}",
        ),
        (
            {"optim": {"choice": ["sgd", "adam"]}, "optim.momentum": {"uniform": [0, 0.9]}},
            ["optim=sgd"],
            "optim=sgd: sweep.space.optim varies it; leave one out, that with '+sweep.space={optim: null}'",
        ),
        (
            {"size": {"choice": {"a": ["data.height=64"], "b": []}}},
            ["data.height=32"],
            "data.height=32: sweep.space.size varies it; leave one out",
        ),
        (
            {"data.micro_batches": {"choice": [1, 5]}, "data.batch_size": {"choice": [5, 7]}},
            [],
            "sweep.space.data.micro_batches=5: does not divide data.batch_size=16",
        ),
        (
            {
                "model.pretrained": {"choice": [False, True]},
                "data.normalisation": {"choice": ["weights", "train"]},
            },
            [],
            "sweep.space.data.normalisation=weights: needs model.pretrained=true",
        ),
        (
            {"data.split": {"choice": ["random", "kfold"]}, "data.fold": {"choice": [0, 7]}},
            [],
            "sweep.space: with data.split=kfold data.fold=7, data.fold=7: with data.folds=5 folds",
        ),
        (
            LR | {"seed": {"choice": [1], "when": {"optm": "sgd"}}},
            [],
            "seed.when.optm: no such key; did you mean optim?",
        ),
        (
            LR | {"seed": {"choice": [1], "when": {"optim": "sdg"}}},
            [],
            "sweep.space.seed.when.optim=sdg: no such choice; did you mean sgd?",
        ),
        (
            {"optim.momentum": {"uniform": [0, 0.9], "when": {"optim": "sgd"}}},
            [],
            "sweep.space: no key of it applies, for no condition holds",
        ),
        (LR, ["sead=3"], "sead=3: no such key; did you mean seed?"),
        (LR, ["data=cbis_ddsm"], "data.root and trainer.max_epochs have no value: give data.root=..."),
    ],
)
def test_a_key_or_value_that_does_not_compose_is_refused(
    space: dict[str, Any], overrides: list[str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)) as refused:
        Space.from_config(space).check(overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_trainings_that_are_checked_have_every_value() -> None:
    trainings = Space.from_config(SPACE).check(["model=resnet18"])
    assert {part_name(training.optim) for training in trainings} == {"Adam", "sgd", "RMSprop"}
    assert {training.optim.lr for training in trainings} == {5e-5, 1e-3}
    of_sgd = [training.optim for training in trainings if part_name(training.optim) == "sgd"]
    assert {optim.momentum for optim in of_sgd} >= {0.0, 0.99}
    assert {training.data.height for training in trainings} == {64, 128}
    assert {training.schedule.get("step_epochs") for training in trainings} >= {1, 5}


def test_what_conditions_name_outside_the_space_is_looked_up() -> None:
    when = {"model": "resnet18", "data.height": 64, "data.split": "random"}
    space = Space.from_config({"seed": {"choice": [1], "when": when}})
    overrides = ["data.height=64", "data.split=random"]
    fixed = space.fixed(overrides)
    assert fixed == {"model": "resnet18", "data.height": 64, "data.split": "random"}
    assert type(fixed["data.split"]) is str
    assert space.check(overrides)


def test_a_mandatory_value_comes_from_the_space() -> None:
    space = Space.from_config({"model.name": {"choice": ["convnext_tiny", "resnet18d"]}})
    trainings = space.check(["model=timm"])
    assert [training.model.name for training in trainings] == ["convnext_tiny", "resnet18d"]
    with pytest.raises(
        ConfigError, match=r"^data.root, optim.lr and trainer.max_epochs have no value: give "
    ):
        space.check(["model=timm", "data=cbis_ddsm"])
    wrong = {"model.name": {"choice": ["resnet18d"]}, "optim.lr": {"uniform": [-1, 1]}}
    with pytest.raises(ConfigError, match=r"^sweep.space.optim.lr=-1.0: must be at least 0"):
        Space.from_config(wrong).check(["model=timm"])


def test_trainings_that_choose_the_same_groups_are_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    compose = composition._compose

    def count(name: str, overrides: list[str]) -> DictConfig:
        composed.append(overrides)
        return compose(name, overrides)

    monkeypatch.setattr(composition, "_compose", count)
    space = Space.from_config({"optim.lr": {"uniform": [1e-4, 1e-2]}, "seed": {"choice": [1, 2, 3]}})
    assert len(space.check(["model=custom_cnn", "data.height=64"])) == 3
    assert composed == [["model=custom_cnn"]]


def test_a_condition_may_name_a_choice_of_the_users_config_folder(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("_target_: torch.optim.RAdam\n")
    space = Space.from_config({"seed": {"choice": [1, 2], "when": {"optim": ["mine", "sgd"]}}})
    with extra_config_dirs([tmp_path]):
        assert space.fixed([]) == {"optim": "adamw"}
    with pytest.raises(ConfigError, match=r"when\.optim=mine: no such choice"):
        space.fixed([])
