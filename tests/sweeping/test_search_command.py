"""Real `sweep.py` commands on this machine: how searches end, kills, attaching, and refusals."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
import torch
import yaml
from helpers import search_load
from helpers.commands import command, line, next_of, start

from mammo.config.composition import compose_search
from mammo.errors import MammoError
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.trials import Trial
from mammo.sweeping.search.worker_registry import Workers
from mammo.sweeping.search_command import follow
from mammo.sweeping.search_worker import run_trial

SMALL = ("model=custom_cnn", "data.patients=24", "data.height=64", "data.width=48")
NO_PRUNER = "sweep.pruner.name=none"
RANDOM = "sweep.sampler.name=random"
NAPS = "+callbacks.nap={_target_: helpers.napping.Nap, seconds: 0.2}"  # 0.2 s in each epoch
# the training of `bad` fails
WITH_A_BAD_ONE = (
    "+sweep.space={optim.lr: null, rate: {choice: {good: ['optim.lr=1e-4'], bad: ['optim.lr=1e30']}}}",
    "sweep.sampler.name=grid",
    "trainer.gradient_clip_val=null",
    NO_PRUNER,
)


def search(*arguments: str, epochs: int = 9) -> list[str]:
    return ["sweep", "sweep=lr", "sweep_dir=sweep", *SMALL, f"trainer.max_epochs={epochs}", *arguments]


def run(folder: Path, *arguments: str, epochs: int = 9, **options: Any) -> subprocess.CompletedProcess[str]:
    return command(*search(*arguments, epochs=epochs), folder=folder, timeout=300, **options)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def trials_in(folder: Path) -> list[Trial]:
    return Search(folder / "sweep").read_trials() if (folder / "sweep" / "journal.log").exists() else []


def ended(folder: Path) -> int:
    return sum(trial.state != "running" for trial in trials_in(folder))


def reported(folder: Path) -> int:
    """Number of epochs of all trials."""
    return sum(len(trial.curve) for trial in trials_in(folder))


def worker_pids(folder: Path) -> list[int]:
    """Process ids of the running workers of the search, by its registry."""
    facts = [json.loads(file.read_text()) for file in (folder / "sweep" / "workers").glob("*.json")]
    return sorted(fact["pid"] for fact in facts if working_folder(fact["pid"]) == folder)


def working_folder(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


def epochs_of(trial: Trial, part: str = ".") -> list[int]:
    with (trial.folder / part / "metrics.csv").open() as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


def ends_told(folder: Path) -> dict[int, int]:
    """Maps each trial to the number of records that end it."""
    records = [json.loads(line) for line in (folder / "sweep" / "journal.log").read_text().splitlines()]
    ends = [record["trial_id"] for record in records if record.get("state") in (1, 2, 3)]
    return {trial: ends.count(trial) for trial in ends}


def weights(trial: Trial) -> dict[str, torch.Tensor]:
    checkpoint = torch.load(trial.folder / "checkpoints" / "best.ckpt", weights_only=True)
    return dict(checkpoint["state_dict"])


@pytest.fixture
def folder(tmp_path: Path, shared_cache: Path) -> Iterator[Path]:
    """A working folder for a search in `sweep`, whose workers are killed after the test."""
    (tmp_path / "cache").symlink_to(shared_cache)
    yield tmp_path
    for pid in worker_pids(tmp_path):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_search_ends_with_a_leaderboard_and_an_experiment_that_reaches_the_same(folder: Path) -> None:
    # with this seed the first trials are good, so others are pruned
    settings = ("sweep.budget.trials=6", "sweep.sampler.startup_trials=3", "sweep.seed=1")
    # new interpreters, so that the workers import the copy of the code
    whole = line(*search("sweep.workers=2", *settings))
    done = subprocess.run(whole, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    trials = trials_in(folder)
    assert len(trials) == 6
    table = pd.read_csv(folder / "sweep" / "leaderboard.csv")
    best = trials[table["number"][0]]
    count = Counter(trial.state for trial in trials)
    assert f"best of {count['finished']} finished trials, {count['pruned']} pruned\n" in done.stdout
    assert f"best trial   {best.number}, validation AUC {best.value:.3f}" in done.stdout
    assert "optim.lr" in (folder / "sweep" / "leaderboard.html").read_text()
    assert {trial.state for trial in trials} == {"finished", "pruned"}
    for trial in trials:
        facts = json.loads((trial.folder / "run.json").read_text())
        assert facts["status"] == trial.state
        assert facts["part_of"] == str(folder / "sweep")
        assert f"optim.lr={trial.settings['optim.lr']}" in facts["overrides"]
        assert epochs_of(trial) == list(trial.curve)
        assert list((trial.folder / "tensorboard").glob("events.*")), trial
    wait_for(lambda: not worker_pids(folder), 20)
    experiment = (folder / "sweep" / "experiment" / "best.yaml").read_text()
    assert "gradient_clip_val: 1.0" in experiment  # later edits of `conf` do not change it
    best_one = ("--config-dir", str(folder / "sweep"), "experiment=best")
    again = command("train", *best_one, "report=false", "run_dir=again", folder=folder)
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "again" / "run.json").read_text())["score"]["value"] == best.value


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing_of_what_is_found(folder: Path) -> None:
    settings = ("sweep.workers=2", "sweep.budget.trials=4", "sweep.stale_seconds=3", RANDOM, NO_PRUNER)
    (folder / "calm").mkdir()
    (folder / "calm" / "cache").symlink_to(folder / "cache")
    calm = run(folder / "calm", *settings, epochs=8)
    assert calm.returncode == 0, calm.stderr
    rng = random.Random(0)
    kills = 0
    for epochs in sorted(rng.sample(range(3, 24), 3)):  # of 32 epochs in all
        assert run(folder, *settings, NAPS, "detach=true", epochs=8).returncode == 0
        wait_for(lambda epochs=epochs: reported(folder) >= epochs)  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.3))
        if pids := worker_pids(folder):
            os.kill(rng.choice(pids), signal.SIGKILL)
            kills += 1
    end = run(folder, *settings, NAPS, epochs=8)
    assert end.returncode == 0, end.stderr
    assert kills >= 2
    found, expected = trials_in(folder), trials_in(folder / "calm")
    assert ends_told(folder) == dict.fromkeys(range(4), 1)
    for trial, other in zip(found, expected, strict=True):
        assert replace(trial, folder=other.folder, seconds=other.seconds) == other
        assert trial.state == "finished"
        assert epochs_of(trial) == list(range(1, 9))
    resumed = [json.loads((trial.folder / "run.json").read_text()).get("resumed", 0) for trial in found]
    assert sum(resumed) >= 1
    disturbed = resumed.index(max(resumed))
    ours, theirs = weights(found[disturbed]), weights(expected[disturbed])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_a_worker_that_was_only_asleep_leaves_its_trial_to_the_other(folder: Path) -> None:
    settings = ("sweep.workers=2", "sweep.budget.trials=2", "sweep.stale_seconds=2", RANDOM, NO_PRUNER, NAPS)
    assert run(folder, *settings, "detach=true", epochs=16).returncode == 0
    wait_for(lambda: [len(trial.curve) > 2 for trial in trials_in(folder)] == [True, True])
    [sleeper, _] = worker_pids(folder)
    os.kill(sleeper, signal.SIGSTOP)
    wait_for(lambda: ended(folder) == 2)
    os.kill(sleeper, signal.SIGCONT)
    wait_for(lambda: not worker_pids(folder), 30)
    for trial in trials_in(folder):
        assert trial.state == "finished"
        assert epochs_of(trial) == list(range(1, 17))
        assert json.loads((trial.folder / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_search_goes_on_without_its_command_and_is_attached_to_and_stopped(folder: Path) -> None:
    settings = ("sweep.workers=2", "sweep.budget.trials=3", RANDOM, NO_PRUNER, "sweep.stale_seconds=20", NAPS)

    def give(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(folder, *settings, *arguments, epochs=400)

    detached = give("detach=true")
    assert detached.returncode == 0, detached.stderr
    assert "2 workers started" in detached.stderr
    assert "the search continues in the background" in detached.stdout
    again = give("detach=true")  # before the workers have registered
    assert "0 workers started, 2 running or queued" in again.stderr
    pids = worker_pids(folder)
    assert len(pids) == 2
    wait_for(lambda: len([trial for trial in trials_in(folder) if trial.curve]) == 2)
    assert "lr: 0 of 3 trials finished, 2 running" in give("detach=true").stdout

    for sign in (signal.SIGINT, signal.SIGHUP):
        with start(*search(*settings, epochs=400), folder=folder, start_new_session=True) as attached:
            assert attached.stderr
            lines = iter(attached.stderr)
            assert any("running" in line for line in lines)
            os.killpg(attached.pid, sign)  # as the terminal does
            told = "".join(lines)
        if sign == signal.SIGINT:
            assert attached.returncode == 130
            assert "the search continues without this command" in told
            assert "Traceback" not in told
    assert worker_pids(folder) == pids

    os.kill(pids[0], signal.SIGKILL)
    assert "1 workers started, 2 running or queued" in give("detach=true").stderr
    stopped = give("stop=true")
    assert "stop signal sent to 2 workers" in stopped.stdout
    again, runs = next_of(stopped.stdout)
    assert again[1:3] == ["sweep.py", "sweep=lr"]
    assert "stop=true" not in again
    assert runs == ["mammo.runs", f"folder={folder / 'sweep'}"]
    assert not worker_pids(folder)
    assert "2 workers started" in give("detach=true").stderr
    with start(*search(*settings, epochs=400), folder=folder, stdout=subprocess.PIPE) as attached:
        assert attached.stderr
        assert any("running" in line for line in attached.stderr)
        assert "stop signal sent to 2 workers" in give("stop=true").stdout
        printed, _ = attached.communicate(timeout=30)
    assert attached.returncode == 0
    assert "stopped with stop=true; the same command resumes the search" in printed


@pytest.mark.slow
def test_a_trial_that_raises_fails_alone(folder: Path) -> None:
    done = run(folder, *WITH_A_BAD_ONE)
    assert done.returncode == 0, done.stderr
    good, bad = trials_in(folder)
    assert "best of 1 finished trial, 1 failed: the loss is nan in epoch 1, batch 2: check" in done.stdout
    assert good.state == "finished"
    assert bad.state == "failed"
    assert bad.error
    assert "loss" in bad.error or "is not finite" in bad.error
    assert "DataError" in (bad.folder / "traceback.txt").read_text()
    table = pd.read_csv(folder / "sweep" / "leaderboard.csv", index_col="number")
    assert table["error"][bad.number] == bad.error


@pytest.mark.slow
def test_a_search_of_which_every_trial_failed_fails_with_the_commonest_error(folder: Path) -> None:
    rates = "rate: {choice: {a: ['optim.lr=1e30'], b: ['optim.lr=2e30']}}"
    settings = (f"+sweep.space={{optim.lr: null, {rates}}}", "sweep.sampler.name=grid", NO_PRUNER)
    done = run(folder, *settings, "trainer.gradient_clip_val=null", epochs=3)
    assert done.returncode == 1
    told = "2 failed: the loss is nan in epoch 1, batch 2: check the images"
    assert f"error: lr: no trial was finished, {told}" in done.stderr
    again = run(folder, *settings, "trainer.gradient_clip_val=null", "detach=true", epochs=3)
    assert again.returncode == 1
    assert told in again.stdout


@pytest.mark.slow
def test_ctrl_c_ends_the_workers_that_the_command_started_and_the_status_starts_none(folder: Path) -> None:
    settings = ("sweep.workers=2", "sweep.budget.trials=3", RANDOM, NO_PRUNER, "sweep.stale_seconds=20", NAPS)
    early = run(folder, *settings, "status=true")
    assert early.returncode == 1
    assert "no search was begun here" in early.stderr
    for sign, left in ((signal.SIGHUP, 2), (signal.SIGINT, 0)):
        with start(*search(*settings, epochs=400), folder=folder, start_new_session=True) as attached:
            assert attached.stderr
            lines = iter(attached.stderr)
            assert any("2 running" in line for line in lines if line.startswith("lr: "))
            os.killpg(attached.pid, sign)  # as the terminal does
            told = "".join(lines)
        assert len(worker_pids(folder)) == left, told
        status = run(folder, *settings, "status=true", epochs=400)
        assert status.returncode == 0, status.stderr
        assert f"{left} running" in status.stdout
        assert f"\n{left} workers running or queued" in status.stdout
        assert f"logs     {folder / 'sweep' / 'workers'}" in status.stdout
        assert len(worker_pids(folder)) == left
        if left:
            run(folder, *settings, "stop=true")
    assert attached.returncode == 130
    assert "\ninterrupted, 2 workers stopped; to resume the search: " in told
    assert "Traceback" not in told
    assert "2 waiting for a worker" in status.stdout


@pytest.mark.slow
def test_a_search_reopened_without_a_launcher_uses_its_own(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "sweep" / "launcher.json").write_text('["hydra/launcher=slurm"]')
    sweep = line("sweep", "sweep=lr", "sweep_dir=sweep", RANDOM)
    no_slurm = os.environ | {"PATH": str(Path(sys.executable).parent)}
    again = subprocess.run(sweep, cwd=tmp_path, capture_output=True, text=True, timeout=60, env=no_slurm)
    assert again.returncode == 1
    assert "error: hydra/launcher=slurm: there is no sbatch on this machine" in again.stderr
    assert not worker_pids(tmp_path)
    shown = subprocess.run(
        [*sweep, "status=true"], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=no_slurm
    )
    assert shown.returncode == 0, shown.stderr
    assert "lr: 0 of 16 trials finished, 0 running" in shown.stdout
    assert "launcher hydra/launcher=slurm\n" in shown.stdout


@pytest.mark.slow
@pytest.mark.parametrize("over", ["seeds", "folds"])
def test_the_objective_is_a_mean_over_runs(over: str, folder: Path) -> None:
    settings = ("sweep.budget.trials=1", f"sweep.objective.over={over}", "sweep.objective.count=2", NO_PRUNER)
    done = run(folder, *settings, epochs=3)
    assert done.returncode == 0, done.stderr
    [trial] = trials_in(folder)
    parts = [f"{over[:-1]}-{number}" for number in range(2)]
    scores = [json.loads((trial.folder / part / "run.json").read_text())["score"] for part in parts]
    assert trial.value == pytest.approx(sum(score["value"] for score in scores) / 2)
    assert list(trial.curve) == [1, 2, 3, 4, 5, 6]
    assert trial.curve[6] == pytest.approx(trial.value)
    errors = [score["standard_error"] for score in scores]
    error = (errors[0] ** 2 + errors[1] ** 2) ** 0.5 / 2 if over == "folds" else sum(errors) / 2
    assert trial.low == pytest.approx(max(0, trial.value - 1.96 * error), abs=1e-3)
    assert trial.high == pytest.approx(min(1, trial.value + 1.96 * error), abs=1e-3)
    configs = [yaml.safe_load((trial.folder / part / "config.yaml").read_text()) for part in parts]
    if over == "folds":
        assert [(config["data"]["split"], config["data"]["fold"]) for config in configs] == [
            ("kfold", 0),
            ("kfold", 1),
        ]
    else:
        assert [config["seed"] for config in configs] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        (["+sweep.space={optim.lrr: {uniform: [0, 1]}}"], "sweep.space.optim.lrr: no such key"),
        (["+sweep.space={optim.lr: null}"], "sweep.space: is empty"),
        (["trainer.devices=2"], "trainer.devices=2 trainer.num_nodes=1: a worker of a search is one process"),
        (["sweep.budget.trials=null"], "sweep.budget: has no end"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm: there is no sbatch on this machine"),
        (["optim.lr=0.1"], "optim.lr=0.1: sweep.space.optim.lr varies it"),
        (["model=timm"], "model.name has no value: give model.name=..."),
        (
            ["model=timm", "+sweep.space={model.name: {choice: [resnet18d, resnet18dd]}}"],
            "model.name=resnet18dd: timm has no such network; did you mean resnet18d",
        ),
        (["sweep_dir=file/sweep"], "sweep_dir="),
        (["sweep_dir=file"], "sweep_dir="),
    ],
)
def test_a_mistake_is_told_before_anything_begins(mistake: list[str], sentence: str, folder: Path) -> None:
    (folder / "file").write_text("")
    ended = run(folder, *mistake, env=os.environ | {"PATH": str(Path(sys.executable).parent)})
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert [line for line in ended.stderr.splitlines() if line.startswith(f"error: {sentence}")], ended.stderr
    assert not (folder / "sweep").exists()


@pytest.mark.slow
def test_what_a_search_began_with_may_not_change_but_its_budget_grows_while_it_runs(folder: Path) -> None:
    settings = ("sweep.workers=1", RANDOM, NO_PRUNER, "sweep.stale_seconds=60")
    first = run(folder, *settings, "sweep.budget.trials=1", "detach=true")
    assert first.returncode == 0, first.stderr
    [worker] = worker_pids(folder)
    os.kill(worker, signal.SIGSTOP)  # the search must not end before its budget grows
    for change, sentence in {
        "sweep.seed=1": "the search began with sweep.seed 0, now it is 1",
        "sweep.sampler.name=tpe": "the search began with sweep.sampler.name random, now it is tpe",
        "+sweep.space={optim.lr: {log_uniform: [1e-5, 1e-1]}}": "the search began with sweep.space.optim.lr",
        "seed=7": "the search began with overrides",
    }.items():
        refused = run(folder, *settings, "sweep.budget.trials=1", change)
        assert refused.returncode == 1
        assert sentence in refused.stderr
        assert "Traceback" not in refused.stderr
    with start(*search(*settings, "sweep.budget.trials=2"), folder=folder) as growing:
        assert growing.stderr
        assert any("0 workers started, 1 running or queued" in told for told in growing.stderr)
        os.kill(worker, signal.SIGCONT)
        told = growing.stderr.read()
    assert growing.returncode == 0, told
    assert [trial.state for trial in trials_in(folder)] == ["finished", "finished"]
    # what is not given again is as the search began with, or was last changed to
    grown = command("sweep", "sweep_dir=sweep", "sweep.budget.trials=3", folder=folder, timeout=200)
    assert grown.returncode == 0, grown.stderr
    assert "1 workers started" in grown.stderr
    assert len(trials_in(folder)) == 3
    shown = command("sweep", "sweep_dir=sweep", folder=folder, timeout=200)
    assert shown.returncode == 0, shown.stderr
    assert "0 workers started" in shown.stderr
    assert len(trials_in(folder)) == 3


@pytest.mark.slow
def test_a_broken_end_of_the_journal_and_the_loss_of_all_workers_are_survived(folder: Path) -> None:
    settings = ("sweep.workers=1", "sweep.budget.trials=2", RANDOM, NO_PRUNER, "sweep.stale_seconds=2", NAPS)
    with start(*search(*settings, epochs=12), folder=folder) as attached:
        wait_for(lambda: ended(folder) == 1)
        [worker] = worker_pids(folder)
        os.kill(worker, signal.SIGKILL)
        _, told = attached.communicate(timeout=30)
    assert attached.returncode == 1
    assert "error: no worker is left and the search is not over" in told
    with (folder / "sweep" / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":8,"wor')
    end = run(folder, *settings, epochs=12)
    assert end.returncode == 0, end.stderr
    assert [trial.state for trial in trials_in(folder)] == ["finished", "finished"]


@pytest.mark.slow
def test_no_trial_is_begun_when_the_hours_are_over(folder: Path) -> None:
    settings = ("sweep.budget.trials=null", f"sweep.budget.hours={15 / 3600}", RANDOM, NO_PRUNER, NAPS)
    ended = run(folder, *settings)
    assert ended.returncode == 0, ended.stderr
    search = Search(folder / "sweep")
    assert {trial.state for trial in search.read_trials()} == {"finished"}
    begun = [trial.datetime_start for trial in search.study.get_trials()]
    assert all(start and start.timestamp() < search.begun.timestamp() + 16 for start in begun)


def test_a_trial_over_which_every_worker_dies_fails(tmp_path: Path) -> None:
    search = begun(tmp_path)
    workers = FakeWorkers()
    for name in "abcd":
        workers.now = {name}
        assert search.take(workers, name) == 0  # type: ignore[arg-type]
    workers.now = {"e"}
    assert search.take(workers, "e") == 1  # type: ignore[arg-type]
    failed, other = search.read_trials()
    assert (failed.state, other.state) == ("failed", "running")
    assert failed.error
    assert failed.error.startswith("4 workers in a row ended while training it")


def test_a_trial_with_a_checkpoint_between_the_deaths_of_its_workers_goes_on(tmp_path: Path) -> None:
    search = begun(tmp_path)
    workers = FakeWorkers()
    checkpoint = search.folder_of(0) / "checkpoints" / "last.ckpt"
    for number, name in enumerate("abcdefgh"):
        workers.now = {name}
        assert search.take(workers, name) == 0  # type: ignore[arg-type]
        checkpoint.parent.mkdir(exist_ok=True)
        checkpoint.touch()
        os.utime(checkpoint, (number, number))


def test_a_trial_whose_worker_died_before_it_had_settings_gets_its_own(
    tmp_path: Path,
) -> None:
    expected = begun(tmp_path / "calm")
    expected.take(FakeWorkers(), "a")  # type: ignore[arg-type]
    search = begun(tmp_path / "killed")
    search._set_sampler(0)
    search.study.ask()
    assert search.take(FakeWorkers(), "b") == 0  # type: ignore[arg-type]
    assert search.read_trials()[0].settings == expected.read_trials()[0].settings


class FakeWorkers:
    """Workers, of which those in `now` are alive."""

    def __init__(self) -> None:
        self.now: set[str] = set()
        self.trials: dict[str, Path] = {}

    def assign(self, name: str, trial: Path) -> None:
        self.trials[name] = trial

    def works_on(self, name: str, trial: Path) -> bool:
        return name in self.now and self.trials[name] == trial


def test_a_trial_whose_owner_works_on_another_one_is_taken_by_a_free_worker(tmp_path: Path) -> None:
    search = begun(tmp_path)
    workers = FakeWorkers()
    workers.now = {"a", "b", "c", "d"}
    assert [search.take(workers, name) for name in "abcd"] == [0, 1, 2, 3]  # type: ignore[arg-type]
    workers.now = {"b", "c"}  # Slurm ended the jobs a and d, and starts d again under its name
    assert search.running(workers) == 2  # type: ignore[arg-type]
    workers.now = {"b", "c", "d"}
    assert search.take(workers, "d") == 0  # type: ignore[arg-type]
    assert search.running(workers) == 3  # type: ignore[arg-type]
    search.tell(1, "finished", 0.7)
    assert search.take(workers, "b") == 3  # type: ignore[arg-type]
    assert search.running(workers) == 3  # type: ignore[arg-type]


def begun(folder: Path) -> Search:
    settings = compose_search("lr")
    settings["sampler"]["name"] = "random"
    return Search.begin(folder / "sweep", settings=settings, overrides=["model=custom_cnn"], max_epochs=9)


@pytest.mark.slow
def test_many_workers_share_the_trials_of_a_search(tmp_path: Path) -> None:
    search_load.begin(tmp_path / "sweep", trials=30, sampler="random", epochs=2)
    timed = search_load.run(tmp_path / "sweep", workers=6, epochs=2, seconds=0.01)
    assert [trial["number"] for trial in timed] == list(range(30))
    assert ends_told(tmp_path) == dict.fromkeys(range(30), 1)
    assert {trial.state for trial in trials_in(tmp_path)} == {"finished", "pruned"}


def test_an_ended_trial_is_told_once(tmp_path: Path) -> None:
    search = begun(tmp_path)
    search.take(FakeWorkers(), "a")  # type: ignore[arg-type]
    search.tell(0, "finished", 0.7, low=0.6, high=0.8, seconds=1.0)
    search.tell(0, "failed", error="told by a worker that was taken for dead")
    [trial] = search.read_trials()
    assert (trial.state, trial.value, trial.error) == ("finished", 0.7, None)


def test_a_failure_of_a_worker_that_has_lost_the_trial_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = begun(tmp_path)
    search.take(FakeWorkers(), "a")  # type: ignore[arg-type]

    def lose(*_: object) -> None:
        search.take(FakeWorkers(), "b")  # type: ignore[arg-type]
        raise FileNotFoundError("last.partial")  # the other worker has renamed it

    monkeypatch.setattr("mammo.sweeping.search_worker._train_trial", lose)
    run_trial(search, 0, "a")
    assert search.read_trials()[0].state == "running"


class TestWorkers:
    def test_a_worker_lives_until_it_ends(self, tmp_path: Path) -> None:
        workers = Workers(tmp_path, stale_seconds=60)
        with workers.heartbeat("me", slot=1):
            assert workers.is_alive("me")
            assert workers.count() == 1
            assert workers.free_slots(3) == [0, 2]
        assert not workers.is_alive("me")
        assert not workers.is_alive("unknown")
        assert workers.count() == 0

    def test_the_worker_s_trial_is_the_last_one_it_was_assigned(self, tmp_path: Path) -> None:
        workers = Workers(tmp_path, stale_seconds=60)
        with workers.heartbeat("me", slot=1):
            assert not workers.works_on("me", tmp_path / "0")
            for number in "01":
                workers.assign("me", tmp_path / number)
                assert workers.works_on("me", tmp_path / number)
            assert not workers.works_on("me", tmp_path / "0")
            assert workers.free_slots(2) == [0]
        assert not workers.works_on("me", tmp_path / "1")

    def test_a_worker_that_runs_before_it_is_recorded_as_submitted_stays_alive(self, tmp_path: Path) -> None:
        workers = Workers(tmp_path, stale_seconds=60)
        with workers.heartbeat("12_0", slot=None):
            workers.add_submitted("12_0")
            assert workers.is_alive("12_0")

    def test_squeue_is_asked_once_in_a_while_and_again_after_a_submission(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        squeue = tmp_path / "squeue"
        squeue.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/log\necho 7_0 7_1\n")
        squeue.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        workers = Workers(tmp_path / "workers", stale_seconds=60)
        workers.add_submitted("7_0")
        assert [workers.count() for _ in range(5)] == [1] * 5
        workers.add_submitted("7_1")
        assert [workers.count() for _ in range(5)] == [2] * 5
        assert (tmp_path / "log").read_text() == "asked\n" * 2

    def test_silence_is_death_by_the_disk_s_own_clock(self, tmp_path: Path) -> None:
        workers = Workers(tmp_path, stale_seconds=5)
        workers.add_started(os.getpid(), slot=0)
        [file] = tmp_path.glob("*.json")
        assert workers.is_alive(file.stem)
        os.utime(file, (time.time() - 6, time.time() - 6))
        assert not workers.is_alive(file.stem)

    def test_it_beats_and_goes_on_when_the_disk_was_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        workers = Workers(tmp_path, stale_seconds=0.3)
        touch, failures = os.utime, []

        def fail_at_first(path: Path) -> None:
            if not failures:
                failures.append(path)
                raise OSError("stale file handle")
            touch(path)

        monkeypatch.setattr(os, "utime", fail_at_first)
        with workers.heartbeat("me", slot=0):
            time.sleep(0.6)
            assert failures
            assert workers.is_alive("me")

    @pytest.mark.parametrize("reaped", [True, False])
    def test_a_process_of_this_host_that_is_gone_or_a_zombie_is_dead_at_once(
        self, reaped: bool, tmp_path: Path
    ) -> None:
        workers = Workers(tmp_path, stale_seconds=60)
        with subprocess.Popen(["sleep", "60"]) as process:
            workers.add_started(process.pid, slot=0)
            [file] = tmp_path.glob("*.json")
            assert workers.is_alive(file.stem)
            process.kill()
            if reaped:
                process.wait()
            else:
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert not workers.is_alive(file.stem)

    def test_a_worker_of_another_host_lives_by_its_file_alone(self, tmp_path: Path) -> None:
        workers = Workers(tmp_path, stale_seconds=60)
        facts = {"state": "running", "host": "elsewhere", "pid": 2**22 + 1, "slot": 0, "slurm": False}
        (tmp_path / "other.json").write_text(json.dumps(facts))
        assert workers.is_alive("other")
        assert workers.free_slots(1) == [0]
        assert workers.stop() == 0

    def test_one_waits_until_it_works_or_dies(self, tmp_path: Path) -> None:
        workers = Workers(tmp_path, stale_seconds=60)
        with workers.heartbeat("a", slot=0), workers.heartbeat("b", slot=1):
            assert workers.claim_waiting("a")
            assert workers.claim_waiting("a")
            assert not workers.claim_waiting("b")
            workers.release_waiting("b")  # b did not wait
            assert not workers.claim_waiting("b")
            workers.release_waiting("a")
            assert workers.claim_waiting("b")
        with workers.heartbeat("c", slot=0):
            assert workers.claim_waiting("c")  # b has ended


def test_following_a_search_ends_when_its_workers_were_stopped(tmp_path: Path) -> None:
    plan = cast(Search, SimpleNamespace(is_over=lambda: False, searches=list))
    workers = Workers(tmp_path / "workers", stale_seconds=0.5)
    workers.mark_stopped()
    assert not follow(plan, workers)
    workers.mark_stopped(False)
    with pytest.raises(MammoError, match="no worker is left"):
        follow(plan, workers)
