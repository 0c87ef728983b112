"""The progress bar counts the batches of the whole run."""

from types import SimpleNamespace
from typing import Any

import pytest
from helpers.small_runs import module, train

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.training import run_progress
from mammo.training.run_progress import RunProgress, whole_batches


@pytest.mark.parametrize(
    ("batches", "epochs", "steps", "accumulated", "whole"),
    [
        (7, 3, -1, 1, 21),
        (7, 3, 5, 2, 10),  # ends with its steps
        (7, 3, 50, 1, 21),  # ends with its epochs
        (7, -1, 5, 1, 5),
        (7, -1, -1, 1, None),
        (float("inf"), 3, -1, 1, None),
    ],
)
def test_batches_of_the_whole_run(
    batches: float, epochs: int, steps: int, accumulated: int, whole: int | None
) -> None:
    trainer: Any = SimpleNamespace(
        num_training_batches=batches, max_epochs=epochs, max_steps=steps, accumulate_grad_batches=accumulated
    )
    assert whole_batches(trainer) == whole


def test_one_bar_counts_the_epochs_as_the_lines_do(
    datamodule: MammogramDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, *, total: int, initial: int, **_: Any) -> None:
            self.total, self.done, self.texts = total, initial, []
            bars.append(self)

        def set_description(self, text: str) -> None:
            self.texts.append(text)

        def update(self) -> None:
            self.done += 1

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(run_progress, "tqdm", Bar)
    train(module(datamodule), datamodule, epochs=2, callbacks=(RunProgress(),))
    [bar] = bars
    assert bar.texts == ["epoch 1/2", "epoch 2/2"]
    assert bar.done == bar.total > 2
    assert bar.closed
