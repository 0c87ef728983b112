"""Overrides of several values that `train.py` and `sweep.py` do not take, and what they propose instead."""

import re
import shlex
from pathlib import Path

import pytest
from helpers.commands import command
from omegaconf import OmegaConf

from mammo.config.composition import compose_with_choices, extra_config_dirs
from mammo.config.sweep_overrides import refuse_sweeps
from mammo.errors import ConfigError
from mammo.sweeping.search.search_space import Space

RANGE = "optim.lr=interval(1e-5,1e-2)"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "train -m 'model=glob(nosuch*)'",
            "model=glob(nosuch*): no choice matches; choose from custom_cnn",
        ),
        ("train -m 'optim.lr=glob(*)'", "optim.lr=glob(*): no choice matches, for it is no group"),
        ("train -m 'hydra.sweeper.params={seed: \"1,2\"}'", "give the values themselves: -m seed=1,2"),
        ("train -m +hydra.sweeper.params.seed=", "give the values themselves: -m seed=VALUE,VALUE"),
        ("train -m +hydra.sweeper.params.seed=1,2", "give the values themselves: -m seed=1,2\n"),
        ("train -m hydra/sweeper=optuna", "a search is a command of its own, python sweep.py "),
        ("train seed=1,2", "seed=1,2: several values; give -m to train with each of them"),
        ("sweep -m", "-m: sweep.py runs several trials by itself; leave it out"),
    ],
)
def test_one_sentence_and_no_folder(line: str, sentence: str, tmp_path: Path) -> None:
    door, *arguments = shlex.split(line)
    refused = command(door, *arguments, folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert sentence in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("door", "arguments", "domains"),
    [
        ("train", [RANGE], {"optim.lr": "uniform: [1e-05, 0.01]"}),
        ("train", ["-m", "seed=tag(log, interval(1.0, 9.0))"], {"seed": "log_uniform: [1.0, 9.0]"}),
        ("train", ["model.dropout=interval(0, 0.5)"], {"model.dropout": "uniform: [0.0, 0.5]"}),
        ("sweep", ["sweep=lr", RANGE], {"optim.lr": "uniform: [1e-05, 0.01]"}),
        ("sweep", ["model=resnet18,resnet34"], {"model": "choice: [resnet18, resnet34]", "optim.lr": ""}),
        ("sweep", ["sweep=resnet18", "data.batch_size=1,2"], {"data.batch_size": "choice: [1, 2]"}),
    ],
)  # fmt: skip
def test_the_proposed_space_is_the_one_that_was_meant(
    door: str, arguments: list[str], domains: dict[str, str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_sweeps(door, arguments)
    proposed = re.search(r"'(\+sweep.space=.*)'", str(refused.value))
    assert proposed
    search = [argument for argument in arguments if argument.startswith("sweep=")]
    cfg, _ = compose_with_choices("sweep", [*search, proposed[1]])
    space = Space.from_config(OmegaConf.to_container(cfg.sweep.space))
    assert set(domains) <= set(space.domains)
    assert all(text in proposed[1] for text in domains.values())
    assert door == "sweep" or list(space.domains) == list(domains)


@pytest.mark.parametrize(
    "line",
    [
        "train -m seed=1,2 'model=glob(resnet*)' 'optim.lr=choice(1e-3,1e-4)'",
        "train --config-dir={folder} -m 'model=glob(mine*)'",
        "train -m --config-dir {folder} 'model=glob(mine*)'",
        "train 'name=\"a,b\"' data.sample=[1,2,3]",
        "sweep 'sweep.space={optim.lr: null}' sweep.searches=[lr,seeds]",
        "evaluate -m run=a,b",
    ],
)
def test_what_hydra_takes_is_left_to_it(line: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("")
    door, *arguments = shlex.split(line.replace("{folder}", str(tmp_path)))
    with extra_config_dirs([tmp_path]):
        refuse_sweeps(door, arguments)
