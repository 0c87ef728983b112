"""Settings and final score of a run in the HParams table of TensorBoard."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from mammo.config.arguments import by_key
from mammo.config.calls.differences import OF_THE_RUN, built_model, from_defaults
from mammo.config.checks import CONF
from mammo.config.flattening import flatten
from mammo.metrics import Estimate
from mammo.runs import RunFolder

_LEFT_OUT = (*OF_THE_RUN, "data.root")
_SUFFIX = ".hparams"  # of the event file


def write_hparams(
    run: RunFolder, *, score: Estimate, seconds: float, searched: Sequence[str] | None = None
) -> None:
    """Write an event file with the settings that differ, the network, and the final validation score.

    TensorBoard makes a column of each setting of any run, first those that differ between the runs. The
    summary `Experiment` is not written, because with several of them TensorBoard would show only the columns
    of one.

    Args:
        run: run with a folder of event files.
        score: score of the best epoch.
        seconds: duration of the run in seconds.
        searched: keys and groups in which the runs of a multirun or search differ, so that no column but the
            network's is constant; None for a run by itself, which cannot know the others: the settings that
            differ from the defaults.
    """
    for old in run.tensorboard.glob(f"events.*{_SUFFIX}"):  # written before the run was extended
        old.unlink()
    config, overrides = run.config(), run.facts().get("overrides", [])
    if searched is None:
        found = from_defaults(config, overrides)
    else:
        found = {key: value for name in searched for key, value in _column(name, config, overrides).items()}
    settings = {
        key: value if isinstance(value, bool | int | float | str) else str(value)  # TensorBoard's types
        for key, value in found.items()
        if key not in _LEFT_OUT and not key.startswith("model.name") and not key.endswith("._target_")
    }
    scores = {
        "score/auc": score.value,
        "score/auc_low": score.low,
        "score/auc_high": score.high,
        "score/seconds": seconds,
    }
    _, start, end = hparams(  # type: ignore[no-untyped-call]
        settings | {"model": built_model(config)}, scores
    )
    with SummaryWriter(run.tensorboard, filename_suffix=_SUFFIX) as writer:
        assert writer.file_writer is not None
        writer.file_writer.add_summary(start)
        writer.file_writer.add_summary(end)
        for name, value in scores.items():
            writer.add_scalar(name, value)


def _column(name: str, config: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return the choice of a group, or the value of a key; of a node, the values of its keys."""
    if (CONF / name).is_dir():
        given = by_key(overrides).get(name)
        return {} if given is None else {name: given.partition("=")[2]}
    return {key: value for key, value in flatten(config).items() if key == name or key.startswith(f"{name}.")}
