"""The commands that a command prints at its end can be pasted into a shell, and mean the same to Hydra."""

import shlex
import sys
from pathlib import Path

import pytest

from mammo.config.calls import next_steps
from mammo.config.calls.next_steps import call, ending, remember_call, tensorboard, this_call
from mammo.config.calls.override_values import parser


def value_of(override: str) -> object:
    return parser().parse_override(override).value()


@pytest.mark.parametrize(
    "name", ["runs/a", "my runs/it's $HOME", "runs/lr=0.1,x", "runs/[a]", "null", "1e-3"]
)
def test_a_path_comes_back_through_the_shell_and_hydra(name: str) -> None:
    *_, run, split = shlex.split(call("evaluate", run=Path(name), split="test"))
    assert value_of(run) == name
    assert split == "split=test"
    *_, listed = shlex.split(call("compare", runs=[name, "runs/b"]))
    assert value_of(listed) == [name, "runs/b"]


def test_overrides_stay_as_they_were_typed() -> None:
    typed = ["optim.lr=1e-3", "data.root=/data/my images", "+callbacks.x={_target_: a.B}"]
    assert shlex.split(call("train", *typed))[-3:] == typed


def test_the_command_has_the_name_under_which_this_one_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(next_steps, "_python", lambda: "python")
    assert call("train") == "python -m mammo.train"
    (tmp_path / "train.py").write_text("")
    assert call("train") == "python train.py"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/mammo-train"])
    assert call("evaluate", run="latest") == "mammo-evaluate run=latest"


def test_the_command_of_tensorboard_can_be_pasted(tmp_path: Path) -> None:
    program, *arguments = shlex.split(tensorboard(tmp_path / "my runs; $HOME"))
    assert Path(program).name == "tensorboard"
    assert arguments == ["--logdir", str(tmp_path / "my runs; $HOME")]


def test_the_call_of_this_process_with_other_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_steps, "_given", [])
    monkeypatch.setattr(next_steps, "_python", lambda: "python")
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    remember_call("sweep", ["sweep=lr", "detach=true", "data.root=my data"])
    assert this_call() == "python sweep.py sweep=lr detach=true 'data.root=my data'"
    assert this_call({"status": True}, without=["detach"]) == (
        "python sweep.py sweep=lr 'data.root=my data' status=true"
    )


def test_paths_and_commands_are_aligned() -> None:
    assert ending({"summary": "s", "leaderboard": "l"}, "a", "b").splitlines() == [
        "summary     s", "leaderboard l", "next        a", "            b",
    ]  # fmt: skip
