"""A search of many workers whose trials only sleep and report, to measure what the search itself costs.

    python tests/helpers/search_load.py --workers 40 --trials 2000 --sampler tpe

Workers are forked processes with the real worker loop, registry and journal; only the training is replaced.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from mammo.config.composition import compose_search
from mammo.errors import TrainingStopped
from mammo.runs import RunFolder
from mammo.sweeping import search_worker
from mammo.sweeping.search.search import Search
from mammo.sweeping.search.worker_registry import Workers, worker_name

ENDS = 200  # number of first and last trials that are compared
_fork = multiprocessing.get_context("fork")


class _Pruned(TrainingStopped):
    status = "pruned"


def begin(folder: Path, *, trials: int, sampler: str, epochs: int) -> Search:
    """Begin a search over four settings."""
    settings = compose_search("lr")
    settings["space"] = {
        "optim.lr": {"log_uniform": [1e-5, 1e-2]},
        "optim.weight_decay": {"log_uniform": [1e-6, 1e-2]},
        "model.dropout": {"uniform": [0.0, 0.5]},
        "data.batch_size": {"int": [4, 32]},
    }
    settings["sampler"]["name"] = sampler
    settings["budget"]["trials"] = trials
    settings["pruner"]["min_epochs"] = 1
    return Search.begin(folder, settings=settings, overrides=[], max_epochs=epochs)


def run(folder: Path, *, workers: int, epochs: int, seconds: float) -> list[dict[str, float]]:
    """Run the search to its end.

    Args:
        folder: folder of a search that was begun.
        workers: number of workers.
        epochs: number of epochs of a trial that is not pruned.
        seconds: duration of an epoch.

    Returns:
        For each trial its `number`, the seconds to `take` it, and `overhead`, those in the search's code.
    """
    processes = [_fork.Process(target=_work, args=(folder, epochs, seconds)) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert {process.exitcode for process in processes} == {0}
    lines = [line for file in folder.glob("load-*.jsonl") for line in file.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda trial: trial["number"])


def _work(folder: Path, epochs: int, seconds: float) -> None:
    plan = _TimedSearch(folder, epochs=epochs, seconds=seconds)
    workers, name = Workers(folder / "workers", stale_seconds=300), worker_name()
    search_worker._train_trial = _sleep  # type: ignore[assignment]
    with workers.heartbeat(name, slot=0):
        search_worker.work(plan, workers, name)


class _TimedSearch(Search):
    """A search that writes the duration of each trial's parts to a file of its process."""

    def __init__(self, folder: Path, *, epochs: int, seconds: float) -> None:
        super().__init__(folder)
        self.epochs, self.seconds = epochs, seconds
        self.log = (folder / f"load-{os.getpid()}.jsonl").open("w", buffering=1)

    def take(self, workers: Workers, name: str) -> int | None:
        self.began, self.slept = time.monotonic(), 0.0
        number = super().take(workers, name)
        self.took = time.monotonic() - self.began
        return number

    def tell(self, number: int, *arguments: Any, **facts: Any) -> None:
        super().tell(number, *arguments, **facts)
        overhead = time.monotonic() - self.began - self.slept
        facts = {"number": number, "take": self.took, "overhead": overhead, "ended": time.time()}
        self.log.write(json.dumps(facts) + "\n")


def _sleep(search: _TimedSearch, number: int, name: str) -> dict[str, Any]:
    """Stand in for the training of a trial, with the calls of `EpochReport`."""
    score = number * 7919 % 1000 / 1000
    for epoch in range(1, search.epochs + 1):
        assert search.is_owner(number, name)
        if search.trial(number).should_prune():
            raise _Pruned
        start = time.monotonic()
        time.sleep(search.seconds)
        search.slept += time.monotonic() - start
        assert search.is_owner(number, name)
        search.trial(number).report(score * epoch / search.epochs, epoch)
    folder = search.folder_of(number)
    folder.mkdir(parents=True, exist_ok=True)
    RunFolder(folder).write_config({"seed": 0})  # the best trial's becomes an experiment
    return {"value": score, "low": None, "high": None, "seconds": 0.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=40)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of an epoch")
    parser.add_argument("--sampler", default="tpe")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "sweep"
        begin(folder, trials=given.trials, sampler=given.sampler, epochs=given.epochs)
        start = time.time()
        trials = run(folder, workers=given.workers, epochs=given.epochs, seconds=given.seconds)
        journal = (folder / "journal.log").stat().st_size
        print(f"{len(trials)} trials in {time.time() - start:.0f} s, journal {journal / 2**20:.1f} MiB")
        ended = sorted(trial["ended"] for trial in trials)
        ends = min(ENDS, len(trials) - 1)
        print(_row("first", trials[:ends], ended[ends] - start))
        print(_row("last", trials[-ends:], ended[-1] - ended[-ends - 1]))


def _row(part: str, trials: list[dict[str, float]], seconds: float) -> str:
    take, overhead = (median(trial[key] for trial in trials) for key in ("take", "overhead"))
    rate = len(trials) / seconds
    return f"{part} {len(trials)}: {rate:.1f} asks/s, {take:.3f} s to ask, {overhead:.3f} s overhead a trial"


if __name__ == "__main__":
    main()
