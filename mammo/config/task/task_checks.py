"""Checks of the classes of a task, and of the samples that it classifies."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.errors import ConfigError


def check_task(task: DictConfig) -> None:
    """Check the classes of the node `task`.

    Raises:
        ConfigError: a check fails; the message names key, value and remedy.
    """
    given = OmegaConf.to_container(task.classes) if OmegaConf.is_config(task.classes) else task.classes
    shown = f"task.classes={given}"
    if not isinstance(given, list | dict):
        raise ConfigError(f"{shown}: give a list of names, or for each name its value in the column")
    strange = [
        name
        for name in given
        if isinstance(name, bool)
        or not re.fullmatch(r"\w[\w-]*", str(name))
        or str(name).upper() in ("NA", "NAN", "NULL")  # missing cells of a table
    ]
    if strange:
        raise ConfigError(
            f"{shown}: '{strange[0]!s}' is no name of a class; use letters, digits, _ and -, and put yes, "
            "no, on and off in quotes"
        )
    names = [str(name) for name in given]
    if len(names) < 2:
        raise ConfigError(f"{shown}: there is nothing to classify; give two classes or more")
    if repeated := _repeated([name.lower().replace("-", "_") for name in names]):
        raise ConfigError(f"{shown}: two classes have the name '{repeated}'; rename one")
    held = [
        value if isinstance(value, list) else [value]
        for value in (given.values() if isinstance(given, dict) else given)
    ]
    values = [value for part in held for value in part]
    if not all(held) or any(isinstance(value, bool | dict) or value is None for value in values):
        raise ConfigError(
            f"{shown}: each class needs a text or number, or a list of them; put yes, no, on and off "
            "in quotes"
        )
    if repeated := _repeated(list(map(str, values))):
        raise ConfigError(f"{shown}: '{repeated}' is a value of two classes; leave it in one")
    positive = list(task.positive)
    for name in positive:
        if name not in names:
            raise ConfigError(f"task.positive={positive}: {name} is no class; choose from {', '.join(names)}")
    if len(set(positive)) == len(names):
        raise ConfigError(f"task.positive={positive}: all classes are positive; leave one out, or give []")
    background = task.get("background")
    if background is not None and background not in names:
        raise ConfigError(f"task.background={background}: is no class; choose from {', '.join(names)}")
    if background in positive:
        raise ConfigError(
            f"task.background={background}: is a positive class, but a patch without a lesion is negative; "
            "leave it out of task.positive"
        )


def check_unit(task: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Check that the task has classes for the samples, and that the images are as large as a patch.

    Args:
        task: the node `task`.
        data: the node `data`.

    Raises:
        ConfigError: patches without a class for those without a lesion, or such a class for other samples;
            hard negatives without a run or a place for them; a patch larger than the images.
    """
    unit, background = data.get("sample_unit") or "image", task.get("background")
    if unit != "patch":
        if background is not None:
            raise ConfigError(
                f"task={task['name']}: its class {background} is for patches without a lesion; give "
                "data.sample_unit=patch, or a task of images"
            )
        return
    if background is None:
        raise ConfigError(
            f"data.sample_unit=patch: task={task['name']} has no class for patches without a lesion; give "
            "task=patch_pathology, task=patch_lesion_type_pathology or task.background=CLASS"
        )
    run = data["patch"].get("hard_negatives")
    if run is not None and not (Path(run) / "checkpoints" / "best.ckpt").is_file():
        raise ConfigError(
            f"data.patch.hard_negatives={run}: no run with checkpoints/best.ckpt; give another run"
        )
    if run is not None and (per_image := data["patch"]["per_image"]) < 2:
        raise ConfigError(
            f"data.patch.hard_negatives={run}: takes half of data.patch.per_image={per_image}, which is 0; "
            "give data.patch.per_image=2 or more"
        )
    height, width = patch_size(data["patch"]["size"])
    if height > data["height"] or width > data["width"]:
        raise ConfigError(
            f"data.patch.size={height} x {width}: is larger than the images, data.height={data['height']} x "
            f"data.width={data['width']}; lower it"
        )


def patch_size(size: Any) -> tuple[int, int]:
    """Return height and width of the patches, from one number or both.

    Raises:
        ConfigError: it is neither.
    """
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ConfigError(f"data.patch.size={size}: give a number of pixels, or [height,width]")
    return sides[0], sides[1]


def _repeated(names: list[str]) -> str | None:
    return next((name for place, name in enumerate(names) if name in names[:place]), None)
