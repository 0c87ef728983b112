"""Settings in which trainings differ: from the defaults, or from each other."""

import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.config.arguments import groups_of
from mammo.config.checks import CONF, plain
from mammo.config.composition import compose_with_choices
from mammo.config.flattening import differing_keys, flatten
from mammo.config.instantiation import TARGET

# keys that describe the folder of a run or the machine, not the experiment
OF_THE_RUN = (
    *("name", "run_dir", "resume", "report"),
    *("data.store", "data.workers", "data.loader_workers"),
)
_PLACES = (*OF_THE_RUN, "data.root")
_MOST_PARTS = 5  # of a label


def built_model(config: Mapping[str, Any]) -> str:
    """Return the name of the network that a configuration builds, such as `resnet18` or `CustomCNN`."""
    model = config.get("model") or {}
    return str(model.get("name") or _class_name(model))


def from_defaults(config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of a training that are not those of `python train.py`.

    Of a group with another choice than the default, the choice stands for its keys; only those that the user
    gave are returned beside it. `model` is the network that was built.

    Args:
        config: resolved configuration of the run.
        overrides: overrides of the command line.
    """
    default, given = _default(), {}
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        given[key.lstrip("~")] = value if equals and key[0] != "~" else "none"
    choices = {key: _default_choice(key) for key in given}
    chosen = {key: value for key, value in given.items() if choices[key] not in (None, value)}
    nodes = [key.replace("/", ".") for key in chosen]
    keys = [key for key in given if choices[key] is None]
    found: dict[str, Any] = dict(chosen)
    for key, value in flatten(config).items():
        if key in _PLACES or (key in default and default[key] == value):
            continue
        if _is_part(key, keys) or (
            key in default and "experiment" not in chosen and not _is_part(key, nodes)
        ):
            found[key] = value
    if "model" in found or "model.name" in found:
        found.pop("model.name", None)
        found["model"] = built_model(config)
    return found


def labels(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return a label for each run: only the settings in which the runs differ.

    Runs that differ in nothing or in many settings are labelled by their folders.

    Args:
        configs: resolved configuration of each run, by the path of its folder.

    Example:
        >>> runs = {f"r/{lr}": {"model": {"name": "resnet18"}, "optim": {"lr": lr}} for lr in (0.1, 0.01)}
        >>> labels(runs)
        {'r/0.1': 'lr=0.1', 'r/0.01': 'lr=0.01'}
    """
    paths = list(configs)
    flat = [flatten(config) | {"model": built_model(config)} for config in configs.values()]
    common = {key for key in flat[0] if all(key in other for other in flat) and key not in _PLACES}
    differ = [key for key in differing_keys(flat) if key in common]
    if "task.name" in differ:
        differ = [key for key in differ if key == "task.name" or not key.startswith("task.")]
    differ = [key for key in differ if key not in ("model.name", f"model.{TARGET}")]
    differ.sort(key=lambda key: key != "model")  # stable
    folders = _short_paths(paths)
    if not 0 < len(differ) <= _MOST_PARTS:
        return dict(zip(paths, folders, strict=True))
    names = short_names(differ)
    texts = [" ".join(_part(key, names[key], config[key]) for key in differ) for config in flat]
    count = Counter(texts)
    return {
        path: text if count[text] == 1 else f"{text} ({folder})"
        for path, text, folder in zip(paths, texts, folders, strict=True)
    }


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Return the shortest unique end of each dotted key.

    Example:
        >>> short_names(["optim.lr", "model.head.width", "model.stem.width"])
        {'optim.lr': 'lr', 'model.head.width': 'head.width', 'model.stem.width': 'stem.width'}
    """
    found = {}
    for key in keys:
        parts = key.split(".")
        tails = [".".join(parts[-length:]) for length in range(1, 1 + len(parts))]
        found[key] = next(
            (
                tail
                for tail in tails
                if not any(other != key and f".{other}".endswith(f".{tail}") for other in keys)
            ),
            key,
        )
    return found


def setting_text(value: Any) -> str:
    """Format the value of a setting, a float with four digits.

    Example:
        >>> [setting_text(value) for value in (0.00031416, "adam", None, True, [1, 2])]
        ['0.0003142', 'adam', 'null', 'true', '[1,2]']
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(setting_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@functools.cache
def _default_choice(group: str) -> str | None:
    """Return the default choice of a group, empty for no choice; None if it is no group."""
    groups = groups_of("train")
    return str(groups.get(group) or "") if group in groups or (CONF / group).is_dir() else None


@functools.cache
def _default() -> dict[str, Any]:
    cfg, _ = compose_with_choices("train", [])
    return flatten(plain(cfg))


def _is_part(key: str, nodes: Iterable[str]) -> bool:
    """Return whether a dotted key is one of these keys, or below one."""
    parts = key.split(".")
    own = {".".join(parts[:length]) for length in range(1, 1 + len(parts))}
    return not own.isdisjoint(nodes)


def _part(key: str, name: str, value: Any) -> str:
    if key == "model":
        return str(value)
    if key.endswith(f".{TARGET}"):
        return f"{key.removesuffix(f'.{TARGET}')}={_class_name({TARGET: value})}"
    return f"{name}={setting_text(value)}"


def _class_name(node: Mapping[str, Any]) -> str:
    return str(node.get(TARGET) or "").rpartition(".")[2].removeprefix("read_")


def _short_paths(paths: Sequence[str]) -> list[str]:
    """Return the paths below the folder that all have in common."""
    parents = [str(Path(path).absolute().parent) for path in paths]
    shared = os.path.commonpath(parents)
    return [os.path.relpath(Path(path).absolute(), shared) for path in paths]
