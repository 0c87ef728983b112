"""The loggers of a training: built from the nodes of the group `logger`, and kept from stopping the run."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import Logger

from mammo.config.instantiation import Role, build
from mammo.training.optional_output import OptionalOutput

LOGGER = Role("logger", base=(Logger,))
# what a logger may ask for; an experiment is the same one in a resumed run
FOR_LOGGERS = ("save_dir", "name", "version", "run_name", "run_id")
_OUTPUT = "mammo_output"


def build_loggers(
    nodes: Mapping[str, Mapping[str, Any]], *, run_dir: Path, facts: Mapping[str, Any], version: str
) -> dict[str, Logger]:
    """Return the loggers of a run by name.

    An error of a logger is reported once and suppressed, so that it never stops the training.

    Args:
        nodes: `_target_` and keyword arguments of each logger.
        run_dir: folder of the run.
        facts: content of `run.json` of a resumed run; empty for a new run.
        version: id of the run for loggers that ask for a version, if `facts` has none.

    Raises:
        ConfigError: a node is wrong.
    """
    known = facts.get("loggers", {})
    loggers: dict[str, Logger] = {}
    for name, node in nodes.items():
        offered = {
            "save_dir": str(run_dir),
            "name": run_dir.name,
            "version": known.get("version", version),
            "run_name": run_dir.name,
            "run_id": known.get("run_ids", {}).get(name),
        }
        logger: Logger = build(node, key=f"logger.{name}", role=LOGGER, offered=offered)
        logger.__class__ = _guarded(type(logger), OptionalOutput(f"logger {name}"))
        loggers[name] = logger
    return loggers


def _guarded(kind: type[Logger], output: OptionalOutput) -> type[Logger]:
    """Return a subclass of a logger whose methods and properties for Lightning report errors and go on.

    A subclass, so that a callback that asks for the class of a logger still finds it.
    """
    methods = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")
    parts: dict[str, Any] = {name: _guarded_method(getattr(kind, name), output) for name in methods}
    for name in ("name", "version", "save_dir", "log_dir", "experiment"):
        if isinstance(found := getattr(kind, name, None), property):
            parts[name] = property(_guarded_getter(found, output))
    parts |= {"__module__": kind.__module__, _OUTPUT: output}
    return type(kind.__name__, (kind,), parts)


def output_of(logger: Logger) -> OptionalOutput:
    """Return the context in which the errors of a logger of `build_loggers` are reported and suppressed."""
    output: OptionalOutput = getattr(logger, _OUTPUT)
    return output


def _guarded_method(method: Any, output: OptionalOutput) -> Any:
    @functools.wraps(method)
    def guarded(*arguments: Any, **options: Any) -> Any:
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            with output:
                return method(*arguments, **options)
        return None

    return guarded


def _guarded_getter(found: property, output: OptionalOutput) -> Any:
    def get(logger: Logger) -> Any:
        with output:
            return found.__get__(logger)
        return None

    return get
