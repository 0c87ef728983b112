"""Names of other training programs, and the keys that an error message names for them."""

from pathlib import Path

import pytest
from helpers.commands import command

from mammo.config.checks import nearest
from mammo.config.composition import compose_with_groups, keys_of
from mammo.config.help.conf_comments import choice_files, resolved_keys
from mammo.config.usual_names import USUAL_NAMES, keys_in, usual_name


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every key and group of train.py, with any choice of its groups."""
    cfg, _, groups = compose_with_groups("train", [])
    files = [(group, file) for group in groups for file in choice_files(group) if group != "experiment"]
    of_groups = {f"{group.replace('/', '.')}.{key}" for group, file in files for key in resolved_keys(file)}
    return {*keys_of(cfg), *groups} | of_groups


def test_every_key_that_is_named_exists(known: set[str]) -> None:
    named = {key for meant in USUAL_NAMES.values() for key in keys_in(meant)}
    assert named - known == set()


def test_no_name_is_a_key_itself(known: set[str]) -> None:
    assert {*USUAL_NAMES} & known == set()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", "optim.lr"),
        ("optimizer.lr", "optim.lr"),
        ("trainer.gpus", "trainer.devices"),
        ("model.net.dropout", "model.dropout"),
        ("optim.name", "optim"),
        ("no.such.thing", None),
    ],
)
def test_a_name_is_known_with_any_node_before_it(key: str, meant: str | None, known: set[str]) -> None:
    assert usual_name(key, known) == meant


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optim.learning_rte", "optim.lr"),
        ("optim.weight_dcay", "optim.weight_decay"),
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("data.batchsize", "data.batch_size"),
        ("seeed", "seed"),
    ],
)
def test_a_mistyped_name_is_known_unless_a_key_is_as_near(key: str, meant: str, known: set[str]) -> None:
    assert nearest(key, sorted(known)) == f"; did you mean {meant}?"


def test_nothing_is_named_that_the_command_does_not_have() -> None:
    assert usual_name("lr", ["run", "split", "data.height"]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("optim.learning_rate=1", "optim.lr"),
        ("lr=1", "optim.lr"),
        ("+learning_rate=1", "optim.lr"),
        ("data.image_size=64", "data.height and data.width"),
        ("img_size=64", "data.height and data.width"),
        ("epochs=2", "trainer.max_epochs"),
        ("max_epochs=2", "trainer.max_epochs"),
        ("batch_size=2", "data.batch_size"),
        ("++trainer.gpus=1", "trainer.devices"),
        ("backbone=resnet18", "model"),
        ("ckpt_path=x", "resume"),
    ],
)
def test_the_sentence_names_the_key(given: str, meant: str, tmp_path: Path) -> None:
    refused = command("train", given, folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {given.replace('++', '+').partition('=')[0]}")
    assert refused.stderr.endswith(f"no such key; did you mean {meant}?\n")
