"""`python -m mammo.export` from the user's side: other programs compute the same outputs as PyTorch."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from helpers.commands import command, next_of
from helpers.networks import build_model
from torch import nn

from mammo.config.instantiation import part_name
from mammo.evaluation import model_export
from mammo.evaluation.model_export import METADATA, export
from mammo.evaluation.scoring import open_classifier
from mammo.evaluation.statistics.calibration import Calibration
from mammo.models.classifier import Classifier
from mammo.models.weights.weight_loading import load_weights
from mammo.runs import RunFolder
from mammo.runs.provenance import current_provenance

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` brings it")

SMALL = [
    "data.patients=20",
    "data.height=64",
    "data.width=48",
    "data.film_scale=2",
    "data.batch_size=8",
    "report=false",
]
CALIBRATION = {
    "classes": ["BENIGN", "MALIGNANT"], "method": "platt", "slope": 0.7, "intercept": -0.2, "rule": "youden",
    "target": None, "thresholds": {"image": 0.4}, "images": 4, "source": "val",
}  # fmt: skip
MODELS = ("custom_cnn", "resnet18")
SIZES = ((64, 48), (75, 101))


@pytest.fixture(scope="module")
def place(place: Path) -> Path:
    """A working folder with a finished run of each model."""
    for model in MODELS:
        choices = [f"model={model}", f"run_dir=runs/{model}", "trainer.fast_dev_run=true"]
        result = command("train", *SMALL, *choices, folder=place)
        assert result.returncode == 0, result.stderr
    shutil.rmtree(place / "runs" / "resnet18" / "evaluation")  # no scores for a calibration
    calibration = fixed_calibration(place).to_dict()
    (place / "runs" / "custom_cnn" / "calibration.json").write_text(json.dumps(calibration))
    return place


def fixed_calibration(place: Path) -> Calibration:
    record = current_provenance(run(place, "custom_cnn"), split="val")
    return Calibration.from_dict(CALIBRATION | {"provenance": [record.to_dict()]})


def run(place: Path, model: str) -> RunFolder:
    return RunFolder(place / "runs" / model)


def images(size: tuple[int, int], *, count: int) -> torch.Tensor:
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(count))


def expected(place: Path, model: str, shown: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return open_classifier(run(place, model))(shown).softmax(dim=1).numpy()


def check_metadata(known: dict[str, Any], place: Path, model: str) -> None:
    classifier = open_classifier(run(place, model))
    assert known["task"] == "pathology"
    assert known["classes"] == ["BENIGN", "MALIGNANT"]
    shape = {"height": 64, "width": 48, "crop": "breast", "aspect": "keep"}
    assert known["preparation"] == shape | {"white": "auto", "window": None, "for_processing": "reject"}
    assert known["kinds"]["DICOM, 16 bits"]["white"] == 65535
    assert (known["mean"], known["std"]) == (classifier.mean.item(), classifier.std.item())
    assert "places" not in known
    assert known["commit"] == run(place, model).facts()["commit"]
    assert part_name(known["model"]) == ("CustomCNN" if model == "custom_cnn" else model)
    fixed = fixed_calibration(place).to_dict() if model == "custom_cnn" else None
    assert known["calibration"] == fixed
    assert known["threshold"] == (fixed and 0.4)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_onnx_answers_as_pytorch_at_any_size(model: str, place: Path) -> None:
    line = export(run(place, model), format="onnx", output=place / f"{model}.onnx")
    assert line.startswith("images of any height and width; probabilities differ from ")
    session = onnxruntime.InferenceSession(place / f"{model}.onnx", providers=["CPUExecutionProvider"])
    assert [entry.shape for entry in session.get_inputs()] == [["batch", 1, "height", "width"]]
    for count, size in enumerate(SIZES, start=1):
        shown = images(size, count=count)
        (answer,) = session.run(["probabilities"], {"images": shown.numpy()})
        assert answer.dtype == np.float32
        assert np.abs(answer - expected(place, model, shown)).max() < 1e-4
    known = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    check_metadata(known, place, model)
    assert known["input"].startswith("images, B 1 H W, float32 in [0, 1]")


@pytest.mark.slow
def test_the_command_says_what_it_wrote(place: Path) -> None:
    given = ["run=runs/custom_cnn", "format=onnx", "output=told.onnx"]
    result = command("export", *given, folder=place)
    assert (result.returncode, result.stderr) == (0, "")
    first, written, *_ = result.stdout.splitlines()
    assert first.startswith("images of any height and width; probabilities differ from ")
    assert written.startswith("written to told.onnx, 2.1 MB")
    assert [each[0] for each in next_of(result.stdout)] == ["mammo.evaluate", "mammo.runs"]
    assert onnxruntime.InferenceSession(place / "told.onnx", providers=["CPUExecutionProvider"])
    assert [file.name for file in place.glob("told*")] == ["told.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_torchscript_answers_as_pytorch_at_any_size(model: str, place: Path, tmp_path: Path) -> None:
    line = export(run(place, model), format="torchscript", output=tmp_path / "m.pt")
    assert line.startswith("images of any height and width")
    extra = {METADATA: ""}
    script = torch.jit.load(tmp_path / "m.pt", _extra_files=extra)
    for count, size in enumerate(SIZES, start=1):
        shown = images(size, count=count)
        with torch.no_grad():
            assert np.abs(script(shown).numpy() - expected(place, model, shown)).max() < 1e-4
    check_metadata(json.loads(extra[METADATA]), place, model)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_safetensors_are_what_model_weights_takes(model: str, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    export(run(place, model), format="safetensors", output=file)
    network = build_model(name=model, num_classes=2, image_size=(64, 48))
    loaded = load_weights(network, file)
    assert loaded.matched == loaded.total
    assert loaded.reshaped == loaded.unused == []
    own = open_classifier(run(place, model)).network.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in network.state_dict().items())
    with safetensors.safe_open(file, "pt") as content:
        check_metadata(json.loads(content.metadata()[METADATA]), place, model)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torchscript"])
def test_a_network_made_for_one_size_says_so(
    format: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneSize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64 * 48, 2)

        def forward(self, shown: torch.Tensor) -> torch.Tensor:
            return self.linear(shown.flatten(1))

    classifier = Classifier(network=OneSize(), mean=0.1, std=0.2)
    monkeypatch.setattr("mammo.evaluation.model_export.open_classifier", lambda _: classifier)
    line = export(run(place, "custom_cnn"), format=format, output=tmp_path / "m")
    assert line.startswith("images of 64 x 48 pixels only")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torchscript", "safetensors"])
def test_the_file_of_an_exam_names_its_places(kind: str, place: Path) -> None:
    folder = place / "runs" / "exam"
    if not folder.exists():
        choices = [
            "model=custom_cnn",
            "data.sample_unit=exam",
            "run_dir=runs/exam",
            "trainer.fast_dev_run=true",
        ]
        result = command("train", *SMALL, *choices, folder=place)
        assert result.returncode == 0, result.stderr
    file = place / f"exam.{kind}"
    export(RunFolder(folder), format=kind, output=file)
    if kind == "onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        assert [entry.shape for entry in session.get_inputs()] == [
            ["batch", 4, 1, "height", "width"],
            ["batch", 4],
        ]
        text = session.get_modelmeta().custom_metadata_map[METADATA]
    elif kind == "torchscript":
        extra = {METADATA: ""}
        torch.jit.load(file, _extra_files=extra)
        text = extra[METADATA]
    else:
        with safetensors.safe_open(file, "pt") as content:
            text = content.metadata()[METADATA]
    known = json.loads(text)
    assert known["unit"] == "exam"
    assert known["places"] == ["LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "sentence"),
    [
        ({"run": "runs"}, "run=runs: holds no run"),
        ({"run": "runs/unfinished"}, "best.ckpt is not there"),
        ({"format": "keras"}, "format=keras: Invalid value 'keras', expected one of [onnx, torchscript, "),
        ({"output": "nowhere/m.onnx"}, "output=nowhere/m.onnx: its folder does not exist"),
        ({"output": "runs"}, "output=runs: is a folder"),
    ],
)
def test_mistake_is_told_in_one_sentence(mistake: dict[str, str], sentence: str, place: Path) -> None:
    unfinished = place / "runs" / "unfinished"
    unfinished.mkdir(exist_ok=True)
    for name in ("run.json", "config.yaml"):
        (unfinished / name).write_bytes((place / "runs" / "resnet18" / name).read_bytes())
    arguments = {"run": "runs/resnet18", "format": "safetensors", "output": "m.file"} | mistake
    given = [f"{key}={value}" for key, value in arguments.items()]
    result = command("export", *given, folder=place)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(place.glob("m.file*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
@pytest.mark.parametrize(
    ("name", "fusion", "level", "options"),
    [
        ("custom_cnn", "mean", "logits", {}),
        ("custom_cnn", "attention", "features", {}),
        ("resnet10t", "cross_view", "features", {}),
        ("resnet10t", "mean", "logits", {"head": "patch_map", "positives": (1,)}),
    ],
)
def test_a_file_of_several_views_takes_absent_ones(
    name: str, fusion: str, level: str, options: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    places = {"num_classes": 2, "image_size": (64, 48), "sides": (0, 0)}
    network = build_model(name=name, fusion=fusion, fusion_level=level, **places, **options)
    classifier = Classifier(network=network, mean=0.3, std=0.2).eval()
    file = tmp_path / "file"
    line = model_export._WRITERS[kind](classifier, {"preparation": {"height": 64, "width": 48}}, file)
    assert line.startswith("images of any height and width;")
    shown = torch.rand(5, 2, 1, 96, 80)
    present = torch.tensor([[True, True], [False, True], [True, False], [True, True], [True, False]])
    changed = torch.where(present[..., None, None, None], shown, torch.tensor(0.5))
    with torch.no_grad():
        wanted = classifier(shown, present).softmax(dim=1).numpy()
    for given in (shown, changed):
        if kind == "torchscript":
            found = torch.jit.load(file)(given, present).detach().numpy()
        else:
            session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
            found = session.run(None, {"images": given.numpy(), "present": present.numpy()})[0]
            known = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
            assert known["input"].startswith("images, B 2 1 H W, float32")
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_file_of_crops_answers_as_pytorch_and_refuses_sizes_at_which_it_would_not(
    kind: str, tmp_path: Path
) -> None:
    """A traced network has the places of the crops of one size in it."""
    network = build_model(
        name="resnet10t",
        num_classes=2,
        image_size=(128, 96),
        head={"name": "mil", "crop": 64, "crops": 2},
        positives=(1,),
    )
    classifier = Classifier(network=network, mean=0.3, std=0.2).eval()
    file = tmp_path / "file"
    line = model_export._WRITERS[kind](classifier, {"preparation": {"height": 128, "width": 96}}, file)

    def answer(shown: torch.Tensor) -> np.ndarray:
        if kind == "torchscript":
            return torch.jit.load(file)(shown).detach().numpy()
        session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        return session.run(None, {"images": shown.numpy()})[0]

    any_size = line.startswith("images of any height and width;")
    assert not any_size or kind == "onnx"
    assert any_size or line.startswith("images of 128 x 96 pixels only;")
    for size in ((128, 96), (160, 128), (96, 128)):
        shown = torch.rand(3, 1, *size)
        if size == (128, 96) or any_size:
            with torch.no_grad():
                np.testing.assert_allclose(answer(shown), classifier(shown).softmax(dim=1), atol=1e-5)
        else:
            with pytest.raises(Exception, match=r"128|size|dimension"):
                answer(shown)


@pytest.mark.slow
def test_the_file_of_patches_is_made_for_their_size(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["run_dir=runs/patch", "data.sample_unit=patch", "data.patch.size=32", "task=patch_pathology"]
    result = command(
        "train", *SMALL, *arguments, "model=custom_cnn", "trainer.fast_dev_run=true", folder=place
    )
    assert result.returncode == 0, result.stderr
    seen = []
    example = model_export.example_input
    monkeypatch.setattr(
        model_export,
        "example_input",
        lambda network, size, **given: (seen.append(size), example(network, size, **given))[1],
    )
    export(run(place, "patch"), format="onnx", output=tmp_path / "m")
    session = onnxruntime.InferenceSession((tmp_path / "m").read_bytes(), providers=["CPUExecutionProvider"])
    known = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    assert known["patch"] == [32, 32]
    assert set(seen) == {(32, 32), (64, 64)}  # its size, and a second one for the comparison
