"""Settings and final score of a run in the HParams table of TensorBoard."""

from collections.abc import Sequence

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from mammo.config.calls.differences import OF_THE_RUN, built_model, from_defaults
from mammo.config.flattening import flatten
from mammo.metrics import Estimate
from mammo.runs import RunFolder

_LEFT_OUT = (*OF_THE_RUN, "data.root")
_SUFFIX = ".hparams"  # of the event file


def write_hparams(
    run: RunFolder, *, score: Estimate, seconds: float, varied: Sequence[str] | None = None
) -> None:
    """Write an event file with the settings that differ, the network, and the final validation score.

    TensorBoard makes a column of each setting of any run, first those that differ between the runs. The
    summary `Experiment` is not written, because with several of them TensorBoard would show only the columns
    of one.

    Args:
        run: run with a folder of event files.
        score: score of the best epoch.
        seconds: duration of the run in seconds.
        varied: keys and groups that differ between the runs of a multirun or search; None for those that
            differ from the defaults.
    """
    for old in run.tensorboard.glob(f"events.*{_SUFFIX}"):  # written before the run was extended
        old.unlink()
    config = run.config()
    if varied is None:
        found = from_defaults(config, run.facts().get("overrides", []))
    else:
        found = {key: value for key, value in flatten(config).items() if _is_part(key, varied)}
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


def _is_part(key: str, names: Sequence[str]) -> bool:
    parts = [name.replace("/", ".") for name in names]  # the node of the group model/pool is model.pool
    return any(key == part or key.startswith(f"{part}.") for part in parts)
