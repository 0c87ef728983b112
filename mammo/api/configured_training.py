"""The training of a composed configuration: a new run, or the continuation of an earlier one."""

import contextlib
from pathlib import Path

from omegaconf import DictConfig

from mammo.config.calls.next_steps import call
from mammo.config.resume import is_finished, reopen
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder, dated_folder


def train_as_configured(
    cfg: DictConfig, *, overrides: list[str], launcher: str | None
) -> tuple[RunFolder | None, bool]:
    """Train in this process, as `resume` and `run_dir` say.

    Args:
        cfg: checked configuration of a training.
        overrides: overrides that it was composed from, for `run.json` and for the check of `resume`.
        launcher: choice of `hydra/launcher`.

    Returns:
        Folder of the finished run (None in all processes of a distributed training except the first), and
        whether it was finished before.

    Raises:
        KeyboardInterrupt: it was interrupted; the message is how to go on, if a run has begun.
        MammoError: the training cannot start, or fails.
    """
    if launcher in ("slurm", "submitit_slurm"):
        raise ConfigError(
            f"hydra/launcher={launcher}: a training without -m runs in this process; add -m to submit it"
        )
    if cfg.resume == "auto":
        if cfg.run_dir is None:
            raise ConfigError("resume=auto: needs the folder of the run; give run_dir=PATH")
        cfg.resume = cfg.run_dir if RunFolder(Path(cfg.run_dir)).facts() else None
    if cfg.resume:
        run, cfg = reopen(cfg, overrides=overrides)
        if is_finished(run, cfg):
            return run, True
    elif cfg.run_dir:  # before the data are prepared
        RunFolder(Path(cfg.run_dir)).refuse_second()
    # importing PyTorch and Lightning takes seconds, so errors in the configuration are reported before
    with quick_imports():
        from mammo.evaluation.training_run import train

    own = contextlib.nullcontext(cfg.run_dir) if cfg.run_dir else dated_folder(cfg.name)
    with own as run_dir:
        try:
            return train(cfg, run_dir=Path(run_dir), overrides=overrides), False
        except (KeyboardInterrupt, SystemExit) as error:
            # Lightning ends an interrupted training by SystemExit
            if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):
                raise
            raise KeyboardInterrupt(*_how_to_go_on(RunFolder(Path(run_dir)))) from None


def _how_to_go_on(run: RunFolder) -> list[str]:
    """Return the message after Ctrl-C, none if no run has begun."""
    status = run.facts().get("status")
    if status == "finished":
        report = call("evaluate", run=run.path, split="val")
        return [f"interrupted after the training, without its report; to write it: {report}"]
    return [f"interrupted; to resume: {call('train', resume=run.path)}"] if status else []
