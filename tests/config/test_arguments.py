"""What hands expect of a Hydra command: each line works, or is refused in one sentence."""

import re
import shlex
import shutil
import stat
from pathlib import Path

import pytest
from helpers.commands import command

from mammo.config import arguments
from mammo.config.arguments import may_set_mode, split_options
from mammo.config.checks import CONF

RESNETS = "-m experiment=study2019_resnet18,study2019_resnet34 data.root=. "

# command line -> a regular expression that the output contains
WORKS = {
    "train +experiment=study2019_resnet18 --cfg job": r"(?m)^  max_epochs: 30$",
    "train experiment=study2019_resnet18 --cfg job": r"(?m)^  max_epochs: 30$",
    "train +model=resnet34 --cfg job --resolve": r"(?m)^name: phantom-resnet34$",
    "train experiment=null schedule=null --cfg job": r"schedule: null",
    "train ~schedule --cfg job": r"schedule: null",
    "train --cfg job": r"name: \$\{hydra:runtime.choices.data\}",
    "train --cfg hydra": r"(?m)^hydra:",
    "train --cfg job --package optim": r"(?m)^lr: 0.001$",
    "train --info": r"search path",
    "train --info all": r"search path",
    "train --info defaults-tree": r"model: resnet18",
    "train --info defaults seed=1": r"model/resnet18",
    "train seed=1 --cfg job optim.lr=0.5": r"(?s)seed: 1.*lr: 0.5",
    "train --cfg job -- seed=1": r"seed: 1",
    "train --config-name=train --cfg job": r"seed: 0",
    "train --config-dir . --cfg job": r"seed: 0",
    "train ++seed=2 --cfg job": r"seed: 2",
    "train 'name=\"a, b\"' --cfg job": r"name: a, b",
    "train data.sample=null resume=null --cfg job": r"sample: null",
    "train hydra.verbose=true --cfg job": r"seed: 0",
    "train -sc install=bash": r"complete ",
    "train --version": r"mammo \d",
    "sweep --cfg job --resolve": r"sweep_dir: runs/sweeps/lr",
    "sweep model=resnet34 --cfg job trainer.max_epochs=2 sweep=seeds": r"name: \$\{hydra",
    "evaluate data=null --cfg job": r"data: null",
}  # fmt: skip

# command line -> what the one sentence contains
REFUSED = {
    "train experiment=nosuch": "experiment=nosuch: no such choice; choose from full_size, mil, patches",
    "train experiment=a,b": "experiment=a,b: several values; give -m to train with each of them",
    f"train {RESNETS}optim.lr=-1": "optim.lr=-1.0: must be at least 0",
    "train -m 'model=glob(*)'": "timm needs model.name; give it, or model=glob(*,exclude=timm)",
    "train -m 'model=glob(resnet*)' optim.lr=-1": "optim.lr=-1.0: must be at least 0",
    "train -m 'seed=range(0,2)' optim.lr=-1": "optim.lr=-1.0: must be at least 0",
    "train -m seed=1,2 --cfg job": "-m and --cfg exclude each other: give one of them",
    "train ~optim": "optim has no value: give optim=...",
    "train optim=null": "optim has no value: give optim=...",
    "train ~optim.lr": "~optim.lr: only a group can be removed; give optim.lr=VALUE",
    "train ~nosuch": "~nosuch: no such key",
    "train seed=null": "seed=null: must have a value",
    "train +seed=2": "+seed=2: there is such a key; give seed=2",
    "train +key=1": "+key: no such key",
    "train ++key=1": "+key: no such key",
    "train key=1": "key=1: no such key",
    "train optim.lr": "optim.lr: is no option and no override; give KEY=VALUE",
    "train =1": "=1: has no key; give KEY=VALUE",
    "train 'data.root=a(b'": "quote what has special characters: 'data.root=\"VALUE\"'",
    "train -z": "unrecognized arguments: -z; --help lists the options",
    "train --cfg nosuch": "argument --cfg/-c: invalid choice: 'nosuch'",
    "train --resolve": "--resolve: is for --cfg; give --cfg job --resolve",
    "train -sc nosuch=1": "-sc: give install=SHELL or uninstall=SHELL",
    "train --experimental-rerun x": "--experimental-rerun: is not supported; give resume=RUN",
    "train --config-name=sweep": "python train.py composes train.yaml; give python sweep.py",
    "sweep -cn train": "python sweep.py composes sweep.yaml; give python train.py",
    "train --config-name my.yaml": "experiment=my, with your keys in FOLDER/experiment/my.yaml",
    "train --config-path=/tmp": "--config-path=/tmp: replaces the configuration of the package",
    "train --config-dir=/nowhere": "--config-dir=/nowhere: no such folder",
    "train --config-dir . -cd=/tmp": "--config-dir: is given twice; give one folder, and the others as",
    "train logger=[csv,nosuch]": "logger=nosuch: no such choice; choose from csv, mlflow, none, tensorboard",
    "train model=[resnet18]": "model=[resnet18]: a group takes one choice; give model=resnet18, or model=A,B",
    "train experiment=[plain,patches]": "a group takes one choice; give experiment=plain, or experiment=A,B",
    "train --config-dir": "argument --config-dir/-cd: expected one argument",
    "train hydra.job.name=x": "hydra.job.name=x: is not used; give name=NAME",
    "train hydra.run.dir=x": "hydra.run.dir=x: is not used; give run_dir=PATH",
    "sweep hydra.run.dir=x": "hydra.run.dir=x: is not used; give sweep_dir=PATH",
    "evaluate hydra.run.dir=x": "hydra.run.dir=x: is not used; give output=PATH",
    "prepare hydra.run.dir=x": "hydra.run.dir=x: is not used; leave it out",
    "train hydra.sweep.dir=x": "hydra.sweep.dir=x: is for several jobs; give it with -m, or leave it out",
    "train hydra.launcher.n=2": "hydra.launcher.n=2: is for several jobs; give it with -m, or",
    "sweep hydra.sweep.dir=x": "hydra.sweep.dir=x: is for train.py -m; give sweep_dir=PATH",
    "train -m hydra.sweep.subdir=x seed=1,2": "jobs 0 and 1 would write to the same folder",
    "train +sweep=lr": "+sweep=lr: python train.py has no group sweep; it is for python sweep.py",
    "train sweep=lr": "sweep=lr: python train.py has no group sweep; it is for python sweep.py",
    "train sweep_dir=x": "sweep_dir=x: no such key; it is for python sweep.py",
    "train sweep.workers=2": "sweep.workers=2: no such key; it is for python sweep.py",
    "sweep run_dir=x": "run_dir=x: is for a single run; give sweep_dir=PATH",
    "sweep +resume=latest": "+resume=latest: is for a single run; give sweep_dir=PATH",
    "prepare model=resnet34": "python -m mammo.prepare has no group model; it is for python train.py",
    "prepare +experiment=x": "+experiment=x: python -m mammo.prepare has no group experiment",
    "prepare trainer.max_epochs=1": "trainer.max_epochs=1: no such key; it is for python train.py or",
    "evaluate run=a,b": "run=a,b: several values; give a list, run=[a,b], or -m to run with each",
    "predict input=x output=y run=nosuch": "run=nosuch: holds no run",
    "train hydra/sweeper=optuna": "hydra/sweeper=optuna: a search is a command of its own, python sweep.py",
    "train -m hydra/launcher=joblib seed=1,2": "hydra/launcher=joblib: give hydra/launcher=local, which runs",
    "sweep hydra/launcher=joblib": "hydra/launcher=joblib: give hydra/launcher=local, which runs",
    "train -m hydra/launcher=nosuch": "no such choice; choose from basic, local, slurm",
    "train hydra/launcher=submitit_slurm": "a training without -m runs in this process; add -m to submit it",
    "train -m hydra/launcher=slurm seed=1,2": "hydra/launcher=slurm: squeue does not answer on this machine",
    "train -m hydra/launcher=submitit_slurm": "hydra/launcher=slurm: squeue does not answer on this machine",
    "sweep hydra/launcher=slurm": "hydra/launcher=slurm: squeue does not answer on this machine",
    "prepare hydra/launcher=slurm": "hydra/launcher=slurm: python -m mammo.prepare runs in this process",
    **{
        f"train -m hydra/launcher={name} seed=1,2 optim.lr=-1": "optim.lr=-1.0: must be at least 0"
        for name in ("basic", "local", "submitit_local")
    },
}


@pytest.fixture(scope="module")
def without_cluster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with Slurm's programs, which find no cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("sbatch", "squeue"):
        (folder / name).write_text("#!/bin/sh\nexit 1\n")
        (folder / name).chmod(stat.S_IRWXU)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


@pytest.mark.slow
@pytest.mark.parametrize("line", WORKS)
def test_works(line: str, tmp_path: Path) -> None:
    door, *arguments = shlex.split(line)
    done = command(door, *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(WORKS[line], done.stdout)
    assert not done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("line", REFUSED)
def test_is_refused_in_one_sentence(line: str, tmp_path: Path, without_cluster: dict[str, str]) -> None:
    door, *arguments = shlex.split(line)
    refused = command(door, *arguments, folder=tmp_path, env=without_cluster)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert REFUSED[line] in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert not refused.stdout
    assert not list(tmp_path.iterdir())


def test_options_keep_their_values() -> None:
    options, overrides = split_options(
        ["-m", "a=1", "--config-dir", "mine", "-i", "b=2", "-cn=x", "--info", "all"]
    )
    assert options == ["-m", "--config-dir", "mine", "-i", "-cn=x", "--info", "all"]
    assert overrides == ["a=1", "b=2"]


def test_hydras_mode_may_be_set_in_the_command_or_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not may_set_mode(["seed=1", "-m", "experiment=plain", "--cfg", "job"])
    for argument in (
        "hydra.mode=MULTIRUN",
        "+hydra.mode=RUN",
        "hydra.searchpath=[file://a]",
        "--config-dir=a",
    ):
        assert may_set_mode(["seed=1", argument]), argument
    assert may_set_mode(["-cn", "mine"])
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(arguments, "CONF", tmp_path / "conf")
    assert not may_set_mode(["seed=1"])
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("hydra:\n  mode: MULTIRUN\n")
    assert may_set_mode(["seed=1"])
