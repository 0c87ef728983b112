"""What samplers draw, which trials pruners stop, and which settings are incompatible."""

import itertools
import json
import os
import re
import subprocess
import sys
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo.config.composition import compose_search, compose_train
from mammo.errors import ConfigError
from mammo.sweeping.search.optuna_samplers import build_pruner, build_sampler, check_search, trials_of
from mammo.sweeping.search.search_space import Space
from mammo.sweeping.search.trials import Value

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPACE: dict[str, Any] = {
    "optim": {"choice": ["adam", "sgd"]},
    "optim.lr": {"log_uniform": [1e-5, 1e-1]},
    "optim.momentum": {"uniform": [0.0, 0.99], "when": {"optim": "sgd"}},
    "data.batch_size": {"int": [4, 32], "step": 4},
}
NUMBERS: dict[str, Any] = {
    "optim.lr": {"log_uniform": [1e-5, 1e-1]},
    "model.dropout": {"uniform": [0.0, 0.5]},
}


def sampler(name: str, space: Space, number: int, *, seed: int = 0, startup: int = 5) -> Any:
    return build_sampler(name=name, startup_trials=startup, seed=seed, number=number, space=space, fixed={})


def draw(
    study: optuna.Study, name: str, space: Space, *, seed: int = 0
) -> tuple[optuna.Trial, dict[str, Value]]:
    study.sampler = sampler(name, space, len(study.trials), seed=seed)
    trial = study.ask()
    return trial, space.suggest(trial, {})


def search(name: str, node: dict[str, Any], *, trials: int, seed: int = 0) -> list[dict[str, Value]]:
    """The settings of consecutive trials; the score is better near a learning rate of 1e-3."""
    study, space = optuna.create_study(direction="maximize"), Space.from_config(node)
    found = []
    for _ in range(trials):
        trial, drawn = draw(study, name, space, seed=seed)
        lr = drawn["optim.lr"]
        assert isinstance(lr, float)
        study.tell(trial, -abs(lr - 1e-3))
        found.append(drawn)
    return found


@pytest.mark.parametrize(("name", "node"), [("random", SPACE), ("tpe", SPACE), ("cmaes", NUMBERS)])
def test_the_same_seed_and_trials_before_draw_the_same(name: str, node: dict[str, Any]) -> None:
    first = search(name, node, trials=14)
    assert first == search(name, node, trials=14)
    assert first != search(name, node, trials=14, seed=1)
    assert len({json.dumps(drawn) for drawn in first}) == 14


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_draws_the_same(hash_seed: str) -> None:
    code = "import json, test_optuna_samplers as t; print(json.dumps(t.search('tpe', t.SPACE, trials=12)))"
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.path.dirname(__file__)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert json.loads(told.stdout) == search("tpe", SPACE, trials=12), told.stderr


@given(seed=st.integers(0, 2**32), number=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_random_draws_depend_on_seed_and_number_alone(seed: int, number: int) -> None:
    space = Space.from_config(SPACE)

    def drawn(*, scored: bool, known: int) -> dict[str, Value]:
        study = optuna.create_study()
        for k in range(number):
            trial, _ = draw(study, "random", space, seed=seed)
            if scored:
                study.tell(trial, float(k))
        study.sampler = sampler("random", space, number, seed=seed)
        trial = study.ask()
        for domain_key in list(space.domains)[:known]:  # drawn by a worker that was then killed
            if domain_key != "optim.momentum":
                space.domains[domain_key].suggest(trial, domain_key)
        study.sampler = sampler("random", space, number, seed=seed)
        return space.suggest(optuna.Trial(study, trial._trial_id), {})

    assert drawn(scored=True, known=0) == drawn(scored=False, known=0) == drawn(scored=False, known=3)


def test_workers_that_ask_at_the_same_time_do_not_try_the_same() -> None:
    study, space = optuna.create_study(direction="maximize"), Space.from_config(SPACE)
    for _ in range(10):
        trial, drawn = draw(study, "tpe", space)
        study.tell(trial, float(drawn["optim"] == "sgd"))
    asked = [draw(study, "tpe", space)[1] for _ in range(6)]
    assert len({drawn["optim.lr"] for drawn in asked}) == 6


def test_tpe_learns() -> None:
    """TPE also learns a key that only some trials have."""
    study, space = optuna.create_study(direction="maximize"), Space.from_config(SPACE)
    scores = []
    for _ in range(60):
        trial, drawn = draw(study, "tpe", space)
        score = float(drawn.get("optim.momentum", -1.0))  # type: ignore[arg-type]
        study.tell(trial, score)
        scores.append(score)
    assert sum(scores[30:]) / 30 > 0.4  # a random search has -0.25


keys = ["a", "b", "c", "d"]
choices = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)


@st.composite
def grids(draw: st.DrawFn) -> dict[str, Any]:
    """Choices, each of which may depend on an earlier one."""
    grid: dict[str, Any] = {}
    for key in keys[: draw(st.integers(1, 4))]:
        node: dict[str, Any] = {"choice": draw(choices)}
        if grid and draw(st.booleans()):
            other = draw(st.sampled_from(sorted(grid)))
            node["when"] = {other: draw(st.sampled_from(grid[other]["choice"]))}
        grid[key] = node
    return grid


@given(node=grids())
@settings(deadline=None)
def test_a_grid_has_each_configuration_once(node: dict[str, Any]) -> None:
    wanted = set()
    for values in itertools.product(*(node[key]["choice"] for key in node)):
        point = {}
        for key, value in zip(node, values, strict=True):
            when = node[key].get("when", {})
            if all(point.get(name) == needed for name, needed in when.items()):
                point[key] = value
        wanted.add(tuple(point.items()))
    space, study = Space.from_config(node), optuna.create_study()
    order = {key: i for i, key in enumerate(node)}
    found = []
    for _ in wanted:
        drawn = draw(study, "grid", space)[1]
        found.append(tuple(sorted(drawn.items(), key=lambda item: order[item[0]])))
    assert set(found) == wanted
    with pytest.raises(ConfigError, match=re.escape(f"has {len(wanted)} points, and none for trial")):
        draw(study, "grid", space)


def test_a_grid_ends_by_itself_or_earlier() -> None:
    space = Space.from_config({"seed": {"int": [0, 9], "step": 2}, "optim": {"choice": ["adam", "sgd"]}})
    settings: dict[str, Any] = {"sampler": {"name": "grid"}, "budget": {"trials": None}}
    assert trials_of(settings, space=space, fixed={}) == 10
    assert trials_of(settings | {"budget": {"trials": 3}}, space=space, fixed={}) == 3
    assert trials_of(settings | {"budget": {"trials": 30}}, space=space, fixed={}) == 10
    free = {"sampler": {"name": "tpe"}, "budget": {"trials": None}}
    assert trials_of(free, space=space, fixed={}) is None


def ended(name: str, *, scores: list[float], epochs: int = 9, before: int = 0) -> list[int | None]:
    """The epoch in which each trial is pruned; a trial has the same score in every epoch."""
    pruner = build_pruner(
        name=name, min_epochs=2, reduction_factor=2, startup_trials=before, max_epochs=epochs
    )
    study = optuna.create_study(direction="maximize", pruner=pruner)
    ends: list[int | None] = []
    for score in scores:
        trial, end = study.ask(), None
        for epoch in range(1, epochs + 1):
            trial.report(score, epoch)
            if trial.should_prune():
                end = epoch
                break
        study.tell(trial, None if end else score, state=optuna.trial.TrialState(2 if end else 1))
        ends.append(end)
    return ends


def test_pruners_end_the_worse_after_the_first_epochs() -> None:
    falling = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert ended("none", scores=falling) == [None] * 5
    assert ended("asha", scores=falling) == [None, 2, 2, 2, 2]
    assert ended("asha", scores=[0.5, 0.6, 0.7, 0.8, 0.9]) == [None] * 5
    assert ended("median", scores=falling, before=2) == [None, None, 2, 2, 2]
    ends = ended("hyperband", scores=falling * 8)
    assert {2, 4, 8, None} >= set(ends) >= {2, 4, None}


def test_asha_ends_a_trial_at_each_of_its_epochs() -> None:
    pruner = build_pruner(name="asha", min_epochs=2, reduction_factor=2, startup_trials=1, max_epochs=9)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    good = study.ask()
    for epoch in range(1, 10):
        good.report(0.8, epoch)
        assert not good.should_prune()
    fading = study.ask()
    for epoch, score in enumerate([0.9, 0.9, 0.1], start=1):
        fading.report(score, epoch)
        assert not fading.should_prune()
    fading.report(0.1, 4)
    assert fading.should_prune()


@pytest.mark.parametrize(
    ("changes", "overrides", "sentence"),
    [
        ({"sampler.startup_trials": 0}, [], "sweep.sampler.startup_trials=0: must be at least 1"),
        ({"pruner.reduction_factor": 1}, [], "sweep.pruner.reduction_factor=1: must be at least 2"),
        ({"budget.hours": -1.0}, [], "sweep.budget.hours=-1.0: must be at least 0"),
        ({"workers": 0}, [], "sweep.workers=0: must be at least 1"),
        ({"seed": -1}, [], "sweep.seed=-1: must be at least 0"),
        (
            {"budget.trials": None},
            [],
            "sweep.budget: has no end; give sweep.budget.trials=N or sweep.budget.hours=N",
        ),
        (
            {"sampler.name": "grid"},
            [],
            "sweep.space.optim.lr: a grid is of choices and of whole numbers; give it a choice",
        ),
        (
            {"sampler.name": "cmaes", "space": SPACE},
            [],
            "draws numbers only, and sweep.space.optim is a choice; give sweep.sampler.name=tpe",
        ),
        (
            {
                "sampler.name": "cmaes",
                "space": {"seed": {"int": [0, 1]}, "optim.lr": {"uniform": [0, 1], "when": {"seed": 1}}},
            },
            [],
            "draws the same keys in every trial, and sweep.space.optim.lr has a when",
        ),
        (
            {},
            ["trainer.max_epochs=3"],
            "sweep.pruner.min_epochs=3: with trainer.max_epochs=3 no trial can end early; give fewer",
        ),
        (
            {"objective.over": "seeds", "objective.count": 1},
            [],
            "sweep.objective.count=1: a mean over seeds is of",
        ),
        (
            {"objective.over": "folds", "objective.count": 6},
            [],
            "sweep.objective.count=6: there are data.folds=5; give fewer",
        ),
        (
            {"objective.over": "seeds", "space": {"seed": {"int": [0, 9]}}},
            [],
            "sweep.space.seed: sweep.objective.over=seeds sets seed itself; leave one out",
        ),
        (
            {"objective.over": "folds", "space": {"how": {"choice": {"a": ["data.split=random"]}}}},
            [],
            "sweep.space.how: sweep.objective.over=folds sets data.split itself; leave one out",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, Any], overrides: list[str], sentence: str
) -> None:
    node = compose_search("lr")
    for key, value in changes.items():
        place, _, name = key.rpartition(".")
        (node[place] if place else node)[name] = value
    space = Space.from_config(node["space"])
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        check_search(node, space=space, fixed={}, training=compose_train(overrides))


def test_pruning_is_not_asked_for_epochs_where_there_is_none() -> None:
    node = compose_search("seeds")
    space = Space.from_config(node["space"])
    check_search(node, space=space, fixed={}, training=compose_train(["trainer.max_epochs=1"]))
