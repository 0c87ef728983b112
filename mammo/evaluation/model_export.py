"""Export of a run as one file for other programs: its network with the metadata needed to use it."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mammo.atomic_files import draft_of, report_unwritable
from mammo.data.samples import place_names, sample_settings, sample_size
from mammo.data.store.fingerprint import PREPARATION_KEYS
from mammo.data.tasks import Task
from mammo.errors import ConfigError
from mammo.evaluation.evaluation_files import calibration_of
from mammo.evaluation.scoring import open_classifier
from mammo.models.classifier import Classifier
from mammo.models.example_input import example_input
from mammo.runs import RunFolder

Format = Literal["onnx", "torchscript", "safetensors"]

# Key of the metadata, one JSON object, in each format.
METADATA = "mammo"
_INPUTS = ("images", "present")  # the second one for several views
_OPSET = 20
_NO_CALIBRATION = (
    "without threshold and calibration, because the run has none of its current weights; to add both, export "
    "again after python -m mammo.evaluate run="
)
# Largest accepted difference between a file's probabilities and PyTorch's.
_TOLERANCE = 1e-4
_OTHER_SIZE = 32  # pixels added to the height and width for the comparison at a second size


class _Probabilities(nn.Module):
    """Probabilities of a classifier.

    Args:
        classifier: the classifier.
        size: H and W of the only images that are accepted, also in a traced module; None for any.
    """

    def __init__(self, classifier: Classifier, *, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.classifier = classifier
        self.size = size

    def forward(self, images: Tensor, present: Tensor | None = None) -> Tensor:
        if self.size is not None:
            images = images.expand(*[-1] * (images.ndim - 2), *self.size)  # refuses another size
        probabilities: Tensor = self.classifier(images, present).softmax(dim=1)
        return probabilities


def export(run: RunFolder, *, format: Format, output: Path) -> str:
    """Write the network of a run's best epoch with its metadata.

    ONNX and TorchScript files take `images`, B 1 H W in [0, 1], and return `probabilities`, B C, both
    float32; mean and standard deviation are applied inside. Those of several views take `images`, B V 1 H W,
    and `present`, B V bool; the order of the views is `places` in the metadata. Their output is compared
    with PyTorch's before the file is saved. A safetensors file has only the network's weights, for
    `model.weights=FILE`.

    Args:
        run: run with a checkpoint.
        format: format of the file.
        output: exported file; an existing one is replaced.

    Returns:
        One line that describes the file, and a second one if it has no calibration.

    Raises:
        ConfigError: the run has no checkpoint, the output cannot be written, a package is missing, or the
            file's probabilities differ from PyTorch's.
    """
    with report_unwritable("output", output), draft_of(output) as draft:
        draft.touch()  # an error of the output is raised before the work
        classifier = open_classifier(run)
        known = facts(run, classifier)
        line = _WRITERS[format](classifier, known, draft)
        whole = known["calibration"] is not None or not known["positive"]
        return line if whole else f"{line}\n{_NO_CALIBRATION}{run.path}"


def facts(run: RunFolder, classifier: Classifier) -> dict[str, Any]:
    """Return the metadata needed to use the network: preprocessing, classes, threshold and calibration.

    That of a network of several views has `unit`, what a sample is, and `places`, the views in their order;
    that of a network of patches has `patch`, their height and width in the prepared image.
    """
    config, calibration = run.config(), calibration_of(run, may_score=False)
    task, samples = Task.of(config["task"]), sample_settings(config["data"])
    views = {"unit": samples["unit"], "places": list(place_names(**samples))}
    return {
        "task": task.name,
        "classes": list(task.classes),
        "positive": list(task.positive),
        "model": config["model"] | {"weights": None},
        "preparation": {key: config["data"][key] for key in PREPARATION_KEYS},
        "kinds": run.facts().get("kinds"),
        "scale": "pixel / 65535 for 16 bits, / 255 for 8 bits; 0 is black, 1 is white (dense tissue)",
        **(views if classifier.takes_views else {}),
        **({"patch": list(sample_size(config["data"]))} if samples["unit"] == "patch" else {}),
        "mean": classifier.mean.item(),
        "std": classifier.std.item(),
        "threshold": None if calibration is None else calibration.threshold(),
        "calibration": None if calibration is None else calibration.to_dict(),
        "run": run.path.absolute().name,
        "commit": run.facts()["commit"],
    }


def _write_safetensors(classifier: Classifier, known: dict[str, Any], draft: Path) -> str:
    tensors = {name: tensor.contiguous() for name, tensor in classifier.network.state_dict().items()}
    axes = "B V 1 H W" if classifier.takes_views else "B 1 H W"
    known |= {"input": f"images, {axes}, (scaled - mean) / std", "output": "logits, B C"}
    draft.write_bytes(safetensors.torch.save(tensors, metadata={METADATA: json.dumps(known)}))
    return f"{len(tensors)} tensors; python train.py model=... model.weights=FILE starts from them"


def _write_torchscript(classifier: Classifier, known: dict[str, Any], draft: Path) -> str:
    size = _size(known)
    trace: Any = torch.jit.trace  # it has no type annotations
    # the places of crops are computed from the size of the example, which the trace keeps
    for any_size in (False,) if _has_crops(classifier, size) else (True, False):
        model = _Probabilities(classifier, size=None if any_size else size).eval()
        with _quiet(), torch.no_grad():
            traced = trace(model, example_input(classifier.network, size, batch=2), check_trace=False)

        def answer(*inputs: Tensor, traced: Any = traced) -> NDArray[np.float32]:
            return np.asarray(traced(*inputs).numpy())

        difference = _difference(model, answer, size, any_size=any_size)
        if difference is not None:
            buffer = io.BytesIO()
            with _quiet():
                metadata = json.dumps(known | _ends(model, size, any_size))
                torch.jit.save(traced, buffer, _extra_files={METADATA: metadata})
            draft.write_bytes(buffer.getvalue())
            return _line(size, any_size, difference)
    raise ConfigError("format=torchscript: PyTorch cannot trace this network; give another format")


def _write_onnx(classifier: Classifier, known: dict[str, Any], draft: Path) -> str:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"format=onnx: needs the package {error.name}; pip install 'mammo[export]' brings it, or give "
            "format=torchscript"
        ) from error
    model = _Probabilities(classifier).eval()
    size = _size(known)
    for any_size in (True, False):
        program = _onnx_program(model, size, any_size=any_size)
        if program is None:
            continue
        program.model.metadata_props[METADATA] = json.dumps(known | _ends(model, size, any_size))
        program.save(draft, external_data=False)
        session = onnxruntime.InferenceSession(draft.read_bytes(), providers=["CPUExecutionProvider"])

        def answer(*inputs: Tensor, session: Any = session) -> NDArray[np.float32]:
            given = {name: tensor.numpy() for name, tensor in zip(_INPUTS, inputs, strict=False)}
            return np.asarray(session.run(None, given)[0])

        difference = _difference(model, answer, size, any_size=any_size)
        if difference is not None:
            return _line(size, any_size, difference)
    raise ConfigError("format=onnx: PyTorch cannot export this network to ONNX; give format=torchscript")


def _onnx_program(model: _Probabilities, size: tuple[int, int], *, any_size: bool) -> Any:
    """Return the model in ONNX; None if PyTorch cannot export it."""
    network = model.classifier.network
    if any_size and _answer_of(model, network, _other(size)) is None:
        return None
    inputs = example_input(network, size, batch=2)
    names = _INPUTS[: len(inputs)]
    last = inputs[0].ndim - 1
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in names}
    if any_size:
        axes["images"] |= {last - 1: "height", last: "width"}
    with contextlib.suppress(torch.onnx.errors.OnnxExporterError), _quiet():
        return torch.onnx.export(
            model,
            inputs,
            input_names=list(names),
            output_names=["probabilities"],
            dynamic_shapes=axes,
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    return None


def _size(known: dict[str, Any]) -> tuple[int, int]:
    """Return H and W of the images that the network gets."""
    height, width = known["patch"] if "patch" in known else map(known["preparation"].get, ("height", "width"))
    return height, width


def _ends(model: _Probabilities, size: tuple[int, int], any_size: bool) -> dict[str, Any]:
    height, width = ("H", "W") if any_size else size
    images, *rest = example_input(model.classifier.network, size)
    axes = " ".join(map(str, ["B", *images.shape[1:-2], height, width]))
    present = f"; present, B {images.shape[1]}, bool, whether there is such a view" if rest else ""
    return {
        "input": f"images, {axes}, float32 in [0, 1]; mean and std are applied inside{present}",
        "output": "probabilities, B C, float32",
    }


def _has_crops(classifier: Classifier, size: tuple[int, int]) -> bool:
    with torch.no_grad():
        return classifier.output(*example_input(classifier.network, size)).crops is not None


def _line(size: tuple[int, int], any_size: bool, difference: float) -> str:
    sizes = "any height and width" if any_size else f"{size[0]} x {size[1]} pixels only"
    return f"images of {sizes}; probabilities differ from PyTorch's by at most {difference:.1g}"


def _other(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] + _OTHER_SIZE, size[1] + _OTHER_SIZE


def _difference(
    model: _Probabilities,
    answer: Callable[..., NDArray[np.float32]],
    size: tuple[int, int],
    *,
    any_size: bool,
) -> float | None:
    """Return the largest difference from PyTorch; None if images of a second size are refused or differ.

    Raises:
        ConfigError: the difference at the only size is too large.
    """
    worst = 0.0
    for each in (size, _other(size)) if any_size else (size,):
        network = model.classifier.network
        ours, theirs = _answer_of(model, network, each), _answer_of(answer, network, each)
        if ours is None or theirs is None:
            return None
        worst = max(worst, float(np.abs(theirs - ours).max()))
    if worst > _TOLERANCE:
        if any_size:  # a traced network may have the size of its example in it
            return None
        raise ConfigError(f"the file's scores differ from PyTorch's by {worst:.1g}; give another format=...")
    return worst


def _answer_of(
    model: Callable[..., Tensor | NDArray[np.float32]], network: nn.Module, size: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Return the probabilities of three samples, 3 C, one of them without one of its views.

    Args:
        model: network or session.
        network: network that the inputs are for.
        size: H and W of the images.

    Returns:
        None if the model refuses the images.
    """
    images, *rest = example_input(network, size, batch=3)
    for present in rest:
        present[0, 0] = present.shape[1] == 1
    try:
        with torch.no_grad():
            return np.asarray(model(images, *rest))
    except Exception:  # each runtime raises its own error if a network supports one size only
        return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages that the exporters print for their developers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


_WRITERS: dict[Format, Callable[[Classifier, dict[str, Any], Path], str]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "safetensors": _write_safetensors,
}
