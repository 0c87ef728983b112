"""The trainings that come first on a data set, for the commands that read data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from mammo.config.arguments import by_key
from mammo.config.calls.next_steps import call
from mammo.config.checks import CONF
from mammo.config.composition import options_of

# the experiment that starts from the run of another one
_SECOND_STEPS = {"patches": "whole_from_patches", "shen2019_patches": "shen2019"}
_OF_PATCHES = ("data.patch", "data.sample_unit", "data.batch_size")  # keys that the second step does not take


def experiment_for(
    source: str, *, has_lesions: bool, has_gpu: bool, prepared: tuple[int, int] | None = None
) -> str | None:
    """Return the experiment that docs/howto/recommended.md names for a data set and a machine.

    Args:
        source: choice of the group `data`.
        has_lesions: whether lesions have a pathology and a place, which a training on patches needs.
        has_gpu: whether the machine has a GPU.
        prepared: height and width of the prepared images, which may be too small for patches; None for those
            of the experiment.

    Returns:
        Name of the experiment; None for data with a learning rate of their own, such as the phantom.
    """
    if source in options_of("data/_training"):
        return None
    if has_gpu:
        return "full_size"
    fits = prepared is None or min(prepared) >= 2 * _data_of("patches")["patch"]["size"]
    return "patches" if has_lesions and fits else "plain"


def first_trainings(
    experiment: str | None, data: Sequence[str], *, prepared: tuple[int, int] | None = None
) -> list[str]:
    """Return the calls of the training, or of the two trainings, of an experiment.

    Args:
        experiment: result of `experiment_for`.
        data: overrides of the data as the user typed them.
        prepared: height and width of the store to use; None for those of the experiment.
    """
    if experiment is None:
        return [call("train", *data)]
    size = {} if prepared is None else dict(zip(("data.height", "data.width"), prepared, strict=True))
    size = {} if size == size_of(experiment) else without_given(size, data)
    names = [f"experiment={name}" for name in (experiment, _SECOND_STEPS.get(experiment)) if name]
    if len(names) == 1:
        return [call("train", *names, *data, **size)]
    run = f"runs/{experiment}"
    return [
        call("train", names[0], *data, **size, run_dir=run),
        call("train", names[1], *data, **size, **{"model.weights": run}),
    ]


def second_step(overrides: Sequence[str], run: Path) -> str | None:
    """Return the call of the training that starts from a run; None if its experiment is no first step.

    Args:
        overrides: overrides of the run as the user typed them.
        run: folder of the run.
    """
    given = by_key(overrides)
    then = _SECOND_STEPS.get(given.get("experiment", "").partition("=")[2])
    if then is None:
        return None
    data = [text for key, text in given.items() if key.startswith("data") and not key.startswith(_OF_PATCHES)]
    return call("train", f"experiment={then}", *data, **{"model.weights": run})


def size_of(experiment: str | None) -> dict[str, int]:
    """Return the keys `data.height` and `data.width` of an experiment; none without an experiment."""
    data = {} if experiment is None else _data_of(experiment)
    return {f"data.{key}": data[key] for key in ("height", "width") if data}


def without_given(keys: dict[str, int], overrides: Sequence[str]) -> dict[str, int]:
    """Return the keys that no override sets."""
    return {key: value for key, value in keys.items() if key not in by_key(overrides)}


def _data_of(experiment: str) -> dict[str, Any]:
    text = (CONF / "experiment" / f"{experiment}.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["data"]
    return found
