"""Parts of the user's own, as the page of the documentation prints them, through every command."""

import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.commands import command, start
from helpers.own_parts import page_commands, write_images, write_page_files

from mammo.runs import RunFolder

PHANTOM = ["data.patients=20", "data.height=64", "data.width=48"]
SHORT = ["trainer.max_epochs=2", "trainer.precision=32-true", "trainer=cpu", "data.batch_size=8"]
OWN = ["--config-dir", "my_conf", "model=tiny", "loss=two_terms", "optim=radam", "callbacks=say"]
DATA = ["data=folders", "data.root=images", "augment=affine"]
FILES = [
    "my_conf/augment/affine.yaml",
    "my_conf/callbacks/say.yaml",
    "my_conf/data/folders.yaml",
    "my_conf/loss/two_terms.yaml",
    "my_conf/model/pool/top.yaml",
    "my_conf/model/tiny.yaml",
    "my_conf/optim/radam.yaml",
    "my_conf/schedule/exponential.yaml",
    "my_parts.py",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, in which its commands were run."""
    place = tmp_path_factory.mktemp("own")
    assert write_page_files(place) == FILES
    write_images(place / "images")
    commands = page_commands()
    assert [door for door, _ in commands] == ["train", "audit", "prepare", "train", "evaluate", "export"]
    for door, arguments in commands:
        more = SHORT if door == "train" else []
        if door == "train" and "data=" not in arguments:
            more = [*SHORT, *PHANTOM, "report=false"]
        done = command(door, *shlex.split(arguments), *more, folder=place)
        assert done.returncode == 0, done.stderr
        if "callbacks=say" in arguments:
            assert "epoch 2 has ended" in done.stdout
        if door == "prepare":
            assert done.stdout.startswith("48 images prepared, 0 rejected, 0 lesions")
    return place


@pytest.mark.slow
def test_a_compiled_network_has_the_names_of_the_plain_one(place: Path) -> None:
    # a small network and few batch sizes, because each operation is compiled for each size; in a folder of
    # its own, because compiled code that another process is writing cannot be loaded
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(place / "inductor")}
    compiled = [*OWN[:3], *SHORT, *PHANTOM, "trainer.compile=true", "data.sample=[8,2,2]", "report=false"]
    done = command("train", *compiled, "run_dir=compiled", folder=place, env=environment)
    assert done.returncode == 0, done.stderr
    weights = torch.load(place / "compiled" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    plain = torch.load(place / "run" / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert weights.keys() == plain.keys()


@pytest.mark.slow
def test_class_weights_for_a_loss_that_takes_none_are_refused(place: Path) -> None:
    refused = command("train", *OWN, "data.balance=weights", folder=place)
    assert refused.returncode == 1
    assert "data.balance=weights: my_parts.TwoTerms takes no class_weights; add this" in refused.stderr


@pytest.mark.slow
def test_the_parts_of_the_page_are_used(place: Path) -> None:
    config = RunFolder(place / "run").config()
    assert config["model"] == {"_target_": "my_parts.Tiny", "width": 8}
    assert config["name"] == "folders-tiny"
    assert (config["data"]["_target_"], config["data"]["crop"]) == ("my_parts.read_folders", "breast")
    stores = [folder.name for folder in (place / "cache" / "store").iterdir()]
    assert Path(json.loads((place / "run" / "run.json").read_text())["store"]).name in stores
    assert len(stores) == 2  # that of the phantom, and one that prepare, train and evaluate share
    curves = pd.read_csv(place / "run" / "metrics.csv")
    for side in ("train", "val"):
        total = curves[f"{side}/loss_ce"] + curves[f"{side}/loss_size"]
        assert curves[f"{side}/loss"].tolist() == pytest.approx(total.tolist(), abs=1e-5)
    assert curves["train/lr"].tolist() == pytest.approx([0.0009, 0.00081])
    report = (place / "run" / "evaluation" / "test" / "report.html").read_text()
    assert "Tiny" in report
    assert "torchvision.transforms.v2.Compose" in report
    assert (place / "tiny.onnx").exists()


@pytest.mark.slow
def test_a_run_with_an_own_pooling_has_heatmaps_and_is_exported(place: Path) -> None:
    config = RunFolder(place / "pooled").config()
    assert config["model"]["pool"] == {"_target_": "my_parts.TopMean", "share": 0.1}
    settings = ["run=pooled", "split=test", "resamples=50", "report=false"]
    judged = command("evaluate", *settings, folder=place)
    assert judged.returncode == 0, judged.stderr
    exported = command("export", "run=pooled", "format=torchscript", "output=pooled.pt", folder=place)
    assert exported.returncode == 0, exported.stderr


@pytest.mark.slow
def test_a_run_of_own_parts_is_resumed_predicted_with_and_needs_its_module(
    place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place, tmp_path / "copy", symlinks=True)
    place = tmp_path / "copy"
    grown = command("train", "resume=run", "trainer.max_epochs=3", folder=place)
    assert grown.returncode == 0, grown.stderr
    assert json.loads((place / "run" / "run.json").read_text())["epochs"] == 3
    predicted = command("predict", "run=run", "input=images/benign", "output=p.csv", folder=place)
    assert predicted.returncode == 0, predicted.stderr
    assert "24 images scored, 0 unreadable" in predicted.stdout
    other = command(
        "evaluate", "--config-dir", "my_conf", "run=pooled", *DATA[:2], "split=all", "heatmap=none",
        "resamples=50", folder=place,
    )  # fmt: skip
    assert other.returncode == 0, other.stderr
    assert (place / "pooled" / "evaluation" / "all-folders" / "report.html").exists()
    (place / "my_parts.py").unlink()
    lost = command("evaluate", "run=run", "split=val", folder=place)
    assert lost.returncode == 1
    assert "there is no module my_parts here; install it, or start the command in the folder" in lost.stderr
    write_page_files(place)
    config = (place / "run" / "config.yaml").read_text()
    for part, sentence in (
        (
            "my_parts.read_folders",
            "data._target_=os.system: is no data source; give a subclass of mammo.data",
        ),
        ("my_parts.Tiny", "model._target_=os.system: is no network; give a subclass of torch.nn"),
    ):
        (place / "run" / "config.yaml").write_text(config.replace(part, "os.system"))
        strange = command("evaluate", "run=run", "split=val", folder=place)
        assert strange.returncode == 1
        assert sentence in strange.stderr
        assert "Traceback" not in lost.stderr + strange.stderr


@pytest.mark.slow
def test_a_killed_run_of_own_parts_ends_as_an_undisturbed_one(place: Path) -> None:
    choices = [*OWN, *DATA, "schedule=exponential", *SHORT, "trainer.max_epochs=6", "report=false"]
    alone = command("train", *choices, "run_dir=undisturbed", folder=place)
    assert alone.returncode == 0, alone.stderr
    with start("train", *choices, "trainer.checkpoint_steps=1", "run_dir=killed", folder=place) as process:
        begun = place / "killed" / "metrics.csv"
        until = time.monotonic() + 200
        while not (begun.exists() and len(begun.read_text().splitlines()) > 1):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert json.loads((place / "killed" / "run.json").read_text())["status"] == "running"
    resumed = command("train", "resume=killed", folder=place)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumes from" in resumed.stderr
    first, second = (
        torch.load(place / run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for run in ("undisturbed", "killed")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_own_parts_in_a_multirun_and_a_search(place: Path) -> None:
    own = [*OWN, *DATA, *SHORT, "report=false"]
    several = command("train", "-m", *own, "model.width=4,8", "hydra.sweep.dir=many", folder=place)
    assert several.returncode == 0, several.stderr
    widths = [RunFolder(run).config()["model"]["width"] for run in sorted((place / "many").glob("*-tiny"))]
    assert widths == [4, 8]
    search = ["model=custom_cnn", *DATA, *SHORT, "trainer.max_epochs=1", "optim.lr=0.001"]
    search += ["sweep=lr", "sweep_dir=search", "sweep.workers=1", "sweep.budget.trials=2"]
    search += ["sweep.pruner.name=none", "sweep.sampler.name=grid", "~schedule", "logger=[csv,tensorboard]"]
    search += ["+sweep.space={optim.lr: null, model/pool: {choice: [gem, top]}}"]
    searched = command("sweep", "--config-dir", "my_conf", *search, folder=place)
    assert searched.returncode == 0, searched.stderr
    assert "best of 2 finished trials" in searched.stdout
    trials = sorted((place / "search" / "trials").iterdir())
    kinds = [RunFolder(run).config()["model"]["pool"]["_target_"] for run in trials]
    assert sorted(kinds) == ["mammo.models.pooling.GeM", "my_parts.TopMean"]
    # the folder of the search has the own choices
    again = command("sweep", "sweep_dir=search", folder=place)
    assert again.returncode == 0, again.stderr
    assert "best of 2 finished trials" in again.stdout
    best = ["--config-dir", "search", "experiment=best", "run_dir=best", "report=false"]
    trained = command("train", *best, folder=place)
    assert trained.returncode == 0, trained.stderr
    run = RunFolder(place / "best")
    assert (run.config()["schedule"], list(run.config()["logger"])) == (None, ["csv", "tensorboard"])
    of_trials = [json.loads((trial / "run.json").read_text())["score"]["value"] for trial in trials]
    assert json.loads((place / "best" / "run.json").read_text())["score"]["value"] == max(of_trials)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ("+model.depth=3", "model.depth: my_parts.Tiny has no such argument; did you mean width?"),
        ("model.width=wide", "model.width=wide: my_parts.Tiny takes int"),
        ("+optim.amsgrad=true", "optim.amsgrad: torch.optim.RAdam has no such argument"),
        ("loss._target_=my_parts.Tiny", "loss._target_=my_parts.Tiny: is no loss; give a class whose"),
        ("callbacks.say._target_=subprocess.run", "callbacks.say._target_=subprocess.run: is no callback"),
        ("+callbacks.x=3", "callbacks.x=3: is no node; give {_target_: package.module.Class}"),
        ("+data.patern=x", "data.patern: my_parts.read_folders has no such argument; did you mean pattern?"),
        ("data.crop=x", "data.crop=x: Invalid value 'x', expected one of [breast, none]"),
        ("data.height=3", "data.height=3: must be at least 16"),
        ("data._target_=my_parts.Tiny", "data._target_=my_parts.Tiny: is no data source; give a subclass"),
        ("+augment.p=1", "augment.p: torchvision.transforms.v2.Compose has no such argument; it takes"),
        ("+augment.mixup=-1", "augment.mixup=-1: must be at least 0"),
    ],
)
def test_a_mistake_is_refused_before_data_are_read(place: Path, mistake: str, sentence: str) -> None:
    done = command("train", *OWN, *DATA, *SHORT, mistake, "data.store=fresh", folder=place)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {sentence}")
    assert not (place / "fresh").exists()
