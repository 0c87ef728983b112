"""`python -m mammo.runs [FOLDER]`: lists the runs below a folder as text, CSV and a page."""

import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from mammo.atomic_files import write_atomically
from mammo.config.arguments import split_options
from mammo.config.calls.next_steps import call, ending, tensorboard
from mammo.config.calls.override_values import quoted
from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.runs import RunFolder
from mammo.runs.run_selection import comparable_runs

if TYPE_CHECKING:
    from mammo.sweeping.run_list.run_rows import RunRow


@hydra_main("runs")
def _list(cfg: DictConfig) -> None:
    from mammo.sweeping.run_list.run_list_page import render_run_list
    from mammo.sweeping.run_list.run_rows import read_rows, rows_csv, rows_text

    folder = Path(cfg.folder)
    if not folder.is_dir():
        raise ConfigError(f"folder={folder}: no such folder; give the one of your runs")
    rows, now = read_rows(folder, order=cfg.sort), datetime.datetime.now(datetime.UTC)
    if not rows:
        raise ConfigError(f"folder={folder}: holds no run; {call('train')} begins one")
    print(rows_text(rows, now=now))
    output = folder if cfg.output is None else Path(cfg.output)
    page = output / "runs.html"
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_atomically(output / "runs.csv", rows_csv(rows))
        write_atomically(page, render_run_list(rows, folder=folder, output=output, now=now))
    except OSError as error:
        raise ConfigError(
            f"output={output}: cannot be written: {error.strerror}; give output=PATH"
        ) from error
    print(
        f"\n{ending({'table': output / 'runs.csv', 'page': page}, _then(rows, folder), tensorboard(folder))}"
    )


def _then(rows: "Sequence[RunRow]", folder: Path) -> str:
    """Return the command for the finished runs: a comparison of those with the same validation images."""
    by_score = sorted(rows, key=lambda row: -(row.score.get("value") or 0.0))
    finished = [RunFolder(row.folder) for row in by_score if row.status == "finished"]
    if not finished:
        return call("train")
    alike = comparable_runs(finished)
    if len(alike) < 2:
        best = finished[0]
        return call("evaluate", run=best.path, split="test" if best.has_test_images() else "val")
    if len(alike) == len(finished):
        return call("compare", runs=folder, split="val")
    return call("compare", runs=[run.path for run in alike[:2]], split="val")


def main() -> None:
    """Run the command; the folder can be given without its key."""
    options, overrides = split_options(sys.argv[1:])
    alone = [argument for argument in overrides if "=" not in argument and argument[0] != "~"]
    if len(alone) == 1:
        overrides = [f"folder={quoted(each)}" if each in alone else each for each in overrides]
    sys.argv[1:] = [*overrides, *options]
    _list()


if __name__ == "__main__":
    main()
