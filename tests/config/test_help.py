"""`--help` of every command: its name, its groups, and every key with type, value and meaning."""

import dataclasses
import re
from pathlib import Path

import pytest
from helpers.commands import COMMANDS, command

from mammo.config.arguments import command_line, groups_of, program_name
from mammo.config.checks import CONF
from mammo.config.help.help_page import help_page
from mammo.config.schema import COMMANDS as SCHEMAS


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which the choices of a group fit on one line."""
    monkeypatch.setenv("COLUMNS", "120")


def page(door: str, *arguments: str) -> str:
    return help_page(door, command_line(door), arguments)


@pytest.mark.slow
@pytest.mark.parametrize("door", COMMANDS)
def test_help_of_every_command(door: str, tmp_path: Path) -> None:
    shown = command(door, "--help", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert not list(tmp_path.iterdir())
    text = shown.stdout
    first, _, rest = text.partition("\n\nUsage:\n")
    assert len(first) > 40
    assert rest.startswith(f"  {command_line(door)} ")
    assert "Hydra is" not in text
    assert "powered by" not in text
    assert not re.search(r"schema/|\b_(backbone|common|search|study2019)\b", text)
    groups = groups_of(door)
    for group in groups:
        assert re.search(rf"^  {group} .*\w", text, re.M), group
    for field in dataclasses.fields(SCHEMAS[door]):
        if field.name not in groups:
            row = rf"^  {field.name}=\S+ +(str|int|bool|float|choice|any|list( of [\w, ]+)?)( or null)?; \w"
            assert re.search(row, text, re.M), field.name
    for line in text.splitlines():  # each key of a group has a meaning
        if match := re.match(r"  (?P<key>(data|trainer|optim|augment|loss)\.\w+)=", line):
            assert "; " in line, match["key"]


def test_the_installed_command_has_its_own_name() -> None:
    assert program_name("train", "/usr/bin/mammo-train") == "mammo-train"
    assert program_name("train", "/home/me/train.py") == "python train.py"
    assert program_name("train", str(CONF.parent / "mammo" / "train.py")) == "python -m mammo.train"
    assert program_name("bench", str(CONF.parent / "mammo/bench/__main__.py")) == "python -m mammo.bench"


def test_the_keys_are_those_of_the_chosen_groups() -> None:
    text = page("train", "--help", "model=timm", "optim=sgd", "optim.lr=0.5", "~schedule")
    assert re.search(r"^  model +custom_cnn, [^:]*\[timm\]$", text, re.M)
    assert re.search(r"^  model\.name=\?\?\? +str; name of the network in timm", text, re.M)
    assert re.search(r"^  optim\.momentum=0\.9 +float; coefficient of the Nesterov", text, re.M)
    assert re.search(r"^  optim\.lr=0\.5 +float; learning rate", text, re.M)
    assert "optim.betas" not in text
    assert "schedule.warmup_epochs" not in text
    assert "hydra.launcher.partition=null" in page("train", "hydra/launcher=slurm")
    assert "data.patients" in page("evaluate", "data=phantom")
    assert "data.patients" not in page("evaluate")
    assert "sweep.searches=" in page("sweep", "sweep=study2019", "model=resnet34")


@pytest.mark.slow
def test_choices_of_the_users_own_are_shown(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# Mine\n_target_: my.Net\nwidth: 3  # number of channels\n"
    )
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "say.yaml").write_text("say: {_target_: my.Say}\n")
    own = ("--config-dir", str(tmp_path))
    text = command("train", *own, "--help", "model=mine", "callbacks=say", folder=tmp_path).stdout
    assert re.search(r"^  model +custom_cnn, [^:]*\[mine\], resnet18", text, re.M)
    assert "\nmodel=mine: Mine\n" in text
    assert re.search(r"^  model\.width=3 +int; number of channels", text, re.M)
    assert "callbacks={say: {_target_: my.Say}}" in text


@pytest.mark.slow
def test_a_mistake_beside_help_is_told(tmp_path: Path) -> None:
    refused = command("train", "--help", "model=nosuch", folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: model=nosuch: no such choice; choose from custom_cnn")


@pytest.mark.slow
def test_the_help_of_hydra_is_its_own(tmp_path: Path) -> None:
    shown = command("train", "--hydra-help", folder=tmp_path)
    assert shown.returncode == 0
    assert "--hydra-help" in shown.stdout
    assert "Hydra" in shown.stdout
