"""The functions of `mammo.api` give what the commands give, and leave the process as it was."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.commands import command, film_of
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import mammo
from mammo.api import Run, evaluate, open_run, prepare, train
from mammo.data.images.dicom import read_mammogram
from mammo.data.tasks import Task
from mammo.errors import ConfigError, DataError, MammoError
from mammo.evaluation.explain.file_pixels import to_file_pixels
from mammo.evaluation.explain.heatmaps import Heatmaps
from mammo.evaluation.split_scoring import open_split

DATA = ["data.patients=20", "data.height=64", "data.width=48"]
SMALL = [
    *DATA,
    "model=timm",
    "model.name=test_resnet",
    "trainer.max_epochs=1",
    "trainer=cpu",
    "trainer.precision=32-true",
    "report=false",
]


@pytest.fixture(scope="module")
def folder(place: Path) -> Iterator[Path]:
    """The working folder of this process, with the run `runs/a` of the command."""
    done = command("train", *SMALL, "run_dir=runs/a", folder=place)
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return open_run("runs/a")


@pytest.fixture(scope="module")
def films(run: Run) -> list[Path]:
    """Films of the validation images."""
    table = prepare(DATA).table.set_index("image_id")
    names = (run.path / "split" / "val.txt").read_text().split()
    return [film_of(path, Path()) for path in table.loc[names, "path"]][:6]


def weights(run: Path) -> dict[str, torch.Tensor]:
    best: dict[str, Any] = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    return best["state_dict"]


def same_weights(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def process_state() -> dict[str, Any]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {
        "random": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "warnings": list(warnings.filters),
        "loggers": [logging.getLogger(name).level for name in ("pytorch_lightning", "lightning_fabric")],
        "environment": dict(os.environ),
        "folder": Path.cwd(),
        "path": sys.path[:],
        "handlers": handlers,
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg),
        "threads": {thread.name for thread in threading.enumerate() if thread.name != "tqdm_monitor"},
    }


@pytest.mark.slow
def test_a_training_is_that_of_the_command_and_leaves_the_process_as_it_was(folder: Path) -> None:
    before = process_state()
    trained = train([*SMALL, "run_dir=runs/b"])
    assert process_state() == before
    assert same_weights(folder / "runs/a", folder / "runs/b")
    ours, theirs = (yaml.safe_load(Path(f"runs/{name}/config.yaml").read_text()) for name in "ba")
    assert ours | {"run_dir": None} == theirs | {"run_dir": None}
    facts = [json.loads(Path(f"runs/{name}/run.json").read_text()) for name in "ba"]
    assert facts[0]["score"] == facts[1]["score"] == trained.metrics["score"]
    assert facts[0]["overrides"][:-1] == facts[1]["overrides"][:-1]
    assert {file.name for file in Path("runs/b").iterdir()} == {
        file.name for file in Path("runs/a").iterdir()
    }

    found: list[Run] = []
    thread = threading.Thread(target=lambda: found.append(train([*SMALL, "run_dir=runs/c"])))
    thread.start()
    thread.join()
    assert same_weights(folder / "runs/b", found[0].path)
    assert process_state() == before
    assert train([*SMALL, "run_dir=runs/c", "resume=auto"]).path == found[0].path  # finished


@pytest.mark.slow
def test_an_interrupted_training_is_a_keyboard_interrupt(folder: Path) -> None:
    (folder / "my_parts.py").write_text(
        "import pytorch_lightning as pl\n\n\nclass Stop(pl.Callback):\n"
        "    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):\n"
        "        raise KeyboardInterrupt\n"
    )
    (folder / "my_conf" / "callbacks").mkdir(parents=True)
    (folder / "my_conf" / "callbacks" / "stop.yaml").write_text("stop: {_target_: my_parts.Stop}\n")
    before = process_state()
    with pytest.raises(KeyboardInterrupt):
        train([*SMALL, "callbacks=stop", "run_dir=runs/stopped"], config_dir="my_conf")
    assert process_state() == before
    with pytest.raises(ConfigError, match=r"run=runs/stopped: has not finished, its status is interrupted"):
        open_run("runs/stopped")
    with pytest.raises(ConfigError, match="callbacks=stop: no such choice"):  # the folder is not kept
        train([*SMALL, "callbacks=stop"])


@pytest.mark.slow
def test_an_evaluation_is_that_of_the_command(run: Run) -> None:
    done = command("evaluate", "run=runs/a", "split=test", "report=false", "resamples=100", folder=Path.cwd())
    assert done.returncode == 0, done.stderr
    theirs = run.path / "evaluation" / "test"
    metrics = json.loads((theirs / "metrics.json").read_text())
    ours = evaluate(run, split="test", overrides=["report=false", "resamples=100", "output=mine"])
    assert json.loads(json.dumps(ours.metrics)) == metrics
    assert json.loads(Path("mine/metrics.json").read_text()) == metrics
    assert ours.predictions.to_csv(index=False) == (theirs / "predictions.csv").read_text()
    assert run.metrics["evaluations"]["test"] == metrics

    scored = run.score("test", resamples=100)
    assert scored.metrics["image"] == metrics["image"]
    assert scored.predictions.to_csv(index=False) == ours.predictions.to_csv(index=False)
    assert "roc" in scored.figures
    assert scored.figures._repr_html_().count("data:image/png;base64,") == len(scored.figures)
    assert "AUC" in scored._repr_html_()
    assert "AUC" in repr(scored)


@pytest.mark.slow
def test_several_runs_are_evaluated_as_one(run: Run, folder: Path) -> None:
    shutil.copytree(run.path, folder / "runs" / "copy")
    pair = evaluate([run, "runs/copy"], overrides=["report=false", "resamples=100"])
    alone = run.score("val", resamples=100)
    area = alone.metrics["image"]["auc"]["value"]
    assert [each["value"] for each in pair.metrics["runs"]["auc"]] == [area, area]
    assert pair.folder is not None
    assert (pair.folder / "metrics.json").is_file()


@pytest.mark.slow
def test_a_test_set_of_trained_women_is_refused(run: Run, folder: Path) -> None:
    shutil.copytree(run.path, folder / "runs" / "leaky")
    leaky = open_run("runs/leaky")
    shutil.rmtree(leaky.path / "evaluation", ignore_errors=True)
    sides = leaky.path / "split"
    (sides / "train.txt").write_text((sides / "train.txt").read_text() + (sides / "test.txt").read_text())
    with pytest.raises(DataError, match=r"images of split=test, .* patients that the run was trained on"):
        leaky.score("test")
    with pytest.raises(DataError, match=r"images of split=test, .* patients that the run was trained on"):
        evaluate(leaky, split="test")


@pytest.mark.slow
def test_predictions_are_those_of_the_command(run: Run, films: list[Path], folder: Path) -> None:
    (folder / "new" / "b").mkdir(parents=True)
    for number, film in enumerate(films):
        shutil.copy(film, folder / "new" / ("b" if number % 2 else "") / f"A{number}_LEFT_CC.dcm")
    (folder / "new" / "note.txt").write_text("no image")
    done = command("predict", "run=runs/a", "input=new", "output=scores.csv", "workers=1", folder=folder)
    assert done.returncode == 0, done.stderr
    theirs = pd.read_csv("scores.csv", float_precision="round_trip")
    theirs["path"] = "new/" + theirs["path"]
    for workers in (0, 2):
        ours = run.predict("new", workers=workers)
        assert len(ours) == len(films) + 1
        pd.testing.assert_frame_equal(ours, theirs.astype(ours.dtypes), check_exact=True)
    # several paths, and an order of one's own
    backwards = run.predict([Path(path) for path in theirs["path"][::-1]], batch_size=len(theirs))
    assert backwards["path"].tolist() == theirs["path"][::-1].tolist()
    assert backwards["score_BENIGN"].to_numpy()[::-1] == pytest.approx(
        theirs["score_BENIGN"], abs=1e-6, nan_ok=True
    )


@pytest.mark.slow
def test_pixels_score_as_their_files(run: Run, films: list[Path], folder: Path) -> None:
    pixels = [read_mammogram(film).pixels for film in films]
    assert {image.dtype for image in pixels} == {np.dtype(np.uint16)}
    scores = ["score_BENIGN", "score_MALIGNANT", "probability", "class"]
    expected = run.predict(films)[scores]
    in_memory = run.predict(pixels)
    assert in_memory["path"].isna().all()
    pd.testing.assert_frame_equal(in_memory[scores], expected, check_exact=True)
    floats = run.predict([torch.from_numpy(image / 65535) for image in pixels])
    pd.testing.assert_frame_equal(floats[scores], expected, check_exact=True)
    stacked = np.stack([pixels[0], pixels[0][:, ::-1]])
    assert len(run.predict(stacked)) == 2
    assert run.predict(pixels[0])["score_BENIGN"].tolist() == pytest.approx(expected["score_BENIGN"][:1])
    eight = (pixels[0] // 257).astype(np.uint8)
    cv2.imwrite("eight.png", eight)
    mixed = run.predict(["eight.png", eight, np.zeros_like(eight)], batch_size=1)
    assert mixed["score_BENIGN"][0] == mixed["score_BENIGN"][1]
    assert mixed["error"].tolist()[2] == "is blank, every pixel has the value 0"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_a_heatmap_is_that_of_the_evaluation(run: Run, films: list[Path], method: Any) -> None:
    opened = open_split(run.folder, "val")
    heatmaps = Heatmaps(opened.scorer.classifier, method=method)
    classes = Task.shipped("pathology").shown
    image_id = opened.images["image_id"].iloc[0]
    scored = opened.scorer.with_heat(opened.dataset.batch([0])["image"], heatmaps, classes=classes)
    expected = to_file_pixels(scored.heat[0, 0], opened.store.transform(image_id))
    film = film_of(opened.images["path"].iloc[0], Path())
    assert expected.any()
    for image in (film, read_mammogram(film).pixels):
        heat = run.heatmap(image, method=method)
        assert heat.shape == read_mammogram(film).pixels.shape
        np.testing.assert_array_equal(heat, expected)


@pytest.mark.slow
def test_the_network_takes_prepared_images(run: Run) -> None:
    opened = open_split(run.folder, "val")
    images = opened.dataset.batch(range(3))["image"][:, 0]
    assert not run.network.training
    with torch.inference_mode():
        probability = run.network(images).softmax(dim=1)
    torch.testing.assert_close(probability, opened.scorer(images).probability)
    film = film_of(opened.images["path"].iloc[0], Path())
    before = run.predict(film)["score_BENIGN"]
    with torch.no_grad():
        for parameter in run.network.parameters():
            parameter.zero_()
    assert run.predict(film)["score_BENIGN"].equals(before)


@pytest.mark.slow
def test_the_facts_of_a_run(run: Run) -> None:
    assert run.config.data.height == 64
    with pytest.raises(Exception, match="read-only"):
        run.config.data.height = 65
    assert run.history["epoch"].tolist() == [1]
    assert {"train/loss", "val/loss", "train/auc", "val/auc", "val/accuracy", "train/lr"} <= set(run.history)
    assert list(run.figures) == ["loss", "auc", "accuracy"]
    assert run.metrics["score"]["value"] == pytest.approx(run.history["val/auc"].max(), abs=1e-6)
    assert "validation AUC" in run._repr_html_()
    assert repr(run) == "Run('runs/a')"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("nowhere.dcm", "no such file or folder"),
        (np.zeros((3, 4, 5, 6), np.uint8), r"image: has the shape \(3, 4, 5, 6\)"),
        (np.zeros((4, 5), np.int16), "image: has int16 pixels"),
        ([np.eye(8), np.eye(8) * 4095], "image 1: has float pixels from 0 to 4095"),
        (np.full((4, 5), np.nan), "image: has float pixels from nan to nan"),
        (None, "image: is of type NoneType"),
    ],
)
def test_what_is_no_image_is_refused(run: Run, image: Any, problem: str) -> None:
    with pytest.raises(MammoError, match=problem):
        run.predict(image)


@pytest.mark.slow
def test_wrong_arguments_of_a_run_are_refused(run: Run, films: list[Path]) -> None:
    with pytest.raises(ConfigError, match=r"split=tset: .* val, test"):
        run.score("tset")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tta=rotations"):
        run.score(tta="rotations")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="heatmap method cam"):
        run.heatmap(films[0], method="cam")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"split=tset: Invalid value 'tset'"):
        evaluate(run, split="tset")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["optim.lrr=1"], r"optim.lrr=1: no such key; did you mean optim.lr\?"),
        (["model=resnet18,resnet34"], "several values"),
        (["-m"], "-m: is an option of the command line"),
        ("model=resnet18", "is one text; give a list"),
        (["hydra/launcher=slurm"], "hydra/launcher=slurm"),
        (["trainer.devices=2", "data.batch_size=4"], "trainer.devices=2: from Python"),
        (["run_dir=run", "resume=nothing"], "resume=nothing: holds no run"),
    ],
)
def test_wrong_settings_are_refused_with_the_sentence_of_the_command(overrides: Any, problem: str) -> None:
    before = GlobalHydra.instance().hydra
    with pytest.raises(ConfigError, match=problem):
        train(overrides)
    assert GlobalHydra.instance().hydra is before


def test_a_config_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="config_dir=nowhere: no such folder"):
        prepare(config_dir="nowhere")


def test_a_foreign_or_damaged_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"run={tmp_path}: holds no run"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "finished"}')
    with pytest.raises(ConfigError, match=f"run={tmp_path}: cannot be read"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "fin')
    with pytest.raises(ConfigError, match=f"run={tmp_path}: cannot be read"):
        open_run(tmp_path)


def test_import_loads_no_torch() -> None:
    code = (
        "import sys, mammo; assert not {'hydra', 'numpy'} & set(sys.modules)\n"
        "from mammo import open_run; from mammo.api import train, prepare, evaluate\n"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "import mammo.train, mammo.prepare, mammo.evaluate\n"
        "assert all(map(callable, (open_run, train, prepare, evaluate)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not hasattr(mammo, "open_runs")
