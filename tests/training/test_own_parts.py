"""Parts of the user's own, as the page of the documentation prints them, through every command."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers.commands import REPOSITORY, command

from mammo.runs import RunFolder

PAGE = REPOSITORY / "docs" / "howto" / "own_parts.md"
SMALL = [
    "data.patients=20",
    "data.height=64",
    "data.width=48",
    "trainer.max_epochs=2",
    "trainer.precision=float32",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page, in which its commands were run."""
    place = tmp_path_factory.mktemp("own")
    text = PAGE.read_text()
    files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)```$", text, re.MULTILINE | re.DOTALL)
    assert len(files) == 6
    for name, content in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    commands = re.findall(r"^    python -m mammo\.(\w+) (.*)$", text, re.MULTILINE)
    assert [door for door, _ in commands] == ["train", "evaluate", "export"]
    for door, arguments in commands:
        more = SMALL if door == "train" else []
        done = command(door, *shlex.split(arguments), *more, folder=place)
        assert done.returncode == 0, done.stderr
        if door == "train":
            assert "epoch 2 has ended" in done.stdout
    return place


@pytest.mark.slow
def test_the_parts_of_the_page_are_used(place: Path) -> None:
    config = RunFolder(place / "run").config()
    assert config["model"] == {"_target_": "my_parts.Tiny", "width": 8}
    assert config["name"] == "phantom-tiny"
    curves = pd.read_csv(place / "run" / "metrics.csv")
    for side in ("train", "val"):
        total = curves[f"{side}/loss_ce"] + curves[f"{side}/loss_size"]
        assert curves[f"{side}/loss"].tolist() == pytest.approx(total.tolist(), abs=1e-5)
    assert curves["train/lr"].tolist() == pytest.approx([0.0009, 0.00081])
    report = (place / "run" / "evaluation" / "test" / "report.html").read_text()
    assert "Tiny" in report
    assert (place / "tiny.onnx").exists()


@pytest.mark.slow
def test_a_run_of_own_parts_is_resumed_predicted_with_and_needs_its_module(
    place: Path, tmp_path: Path
) -> None:
    shutil.copytree(place, tmp_path / "copy", symlinks=True)
    place = tmp_path / "copy"
    grown = command("train", "resume=run", "trainer.max_epochs=3", folder=place)
    assert grown.returncode == 0, grown.stderr
    assert json.loads((place / "run" / "run.json").read_text())["epochs"] == 3
    image = next((place / "run" / "evaluation" / "test" / "heatmaps").glob("*.jpg"))
    shutil.copy(image, place / "image.jpg")
    predicted = command("predict", "run=run", "input=image.jpg", "output=p.csv", folder=place)
    assert predicted.returncode == 0, predicted.stderr
    (place / "my_parts.py").unlink()
    lost = command("evaluate", "run=run", "split=val", folder=place)
    assert lost.returncode == 1
    assert "there is no module my_parts here; install it, or start the command in the folder" in lost.stderr
    config = (place / "run" / "config.yaml").read_text()
    (place / "run" / "config.yaml").write_text(config.replace("my_parts.Tiny", "os.system"))
    strange = command("evaluate", "run=run", "split=val", folder=place)
    assert strange.returncode == 1
    assert "model._target_=os.system: is no network; give a subclass of torch.nn" in strange.stderr
    assert "Traceback" not in lost.stderr + strange.stderr


@pytest.mark.slow
def test_own_parts_in_a_multirun_and_a_search(place: Path) -> None:
    own = ["--config-dir", "my_conf", "model=tiny", "loss=two_terms", "optim=radam", *SMALL, "report=false"]
    several = command("train", "-m", *own, "model.width=4,8", "hydra.sweep.dir=many", folder=place)
    assert several.returncode == 0, several.stderr
    widths = [RunFolder(run).config()["model"]["width"] for run in sorted((place / "many").glob("*-tiny"))]
    assert widths == [4, 8]
    search = ["sweep=lr", "sweep_dir=search", "sweep.workers=1", "sweep.budget.trials=2"]
    search += ["sweep.pruner.name=none", "sweep.sampler.name=random"]
    searched = command("sweep", *own, *search, folder=place)
    assert searched.returncode == 0, searched.stderr
    assert "best of 2 finished trials" in searched.stdout


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
    ],
)
def test_a_mistake_is_refused_before_data_are_read(place: Path, mistake: str, sentence: str) -> None:
    own = ["--config-dir", "my_conf", "model=tiny", "loss=two_terms", "optim=radam", "callbacks=say"]
    done = command("train", *own, mistake, "data.root=fresh", "data.store=fresh", folder=place)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {sentence}")
    assert not (place / "fresh").exists()
