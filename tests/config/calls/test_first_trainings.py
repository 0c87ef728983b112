"""The trainings that the commands on data print as the next ones: they exist, and use what was prepared."""

import shlex
from pathlib import Path

import pytest

from mammo.config.calls.first_trainings import experiment_for, first_trainings, second_step, size_of
from mammo.config.composition import compose_with_choices

DATA = ["data=csv", "data.table=t.csv", "data.root=images", "data.lesions=l.csv"]


def settings_of(text: str) -> list[str]:
    """The overrides of a printed training."""
    return [argument for argument in shlex.split(text) if "=" in argument]


@pytest.mark.parametrize(
    ("source", "has_lesions", "has_gpu", "prepared", "experiment"),
    [
        ("phantom", True, False, None, None),
        ("phantom_films", True, True, None, None),
        ("cbis_ddsm", True, True, None, "full_size"),
        ("cbis_ddsm", True, False, None, "patches"),
        ("csv", False, False, None, "plain"),
        ("csv", True, False, (1152, 896), "patches"),
        ("csv", True, False, (128, 96), "plain"),  # a patch has 128 x 128 pixels
    ],
)
def test_the_recommended_experiment_follows_the_data_and_the_machine(
    source: str, has_lesions: bool, has_gpu: bool, prepared: tuple[int, int] | None, experiment: str | None
) -> None:
    found = experiment_for(source, has_lesions=has_lesions, has_gpu=has_gpu, prepared=prepared)
    assert found == experiment


@pytest.mark.parametrize("experiment", ["full_size", "patches", "plain"])
@pytest.mark.parametrize("prepared", [None, (800, 480), (512, 384)])
def test_printed_trainings_have_all_values_and_use_the_prepared_images(
    experiment: str, prepared: tuple[int, int] | None
) -> None:
    trainings = first_trainings(experiment, DATA, prepared=prepared)
    assert len(trainings) == (2 if experiment == "patches" else 1)
    for training in trainings:
        cfg, _ = compose_with_choices("train", settings_of(training))
        assert cfg.optim.lr > 0  # a missing value raises
        assert cfg.trainer.max_epochs > 0
        assert cfg.data.table == "t.csv"
        size = tuple(size_of(experiment).values()) if prepared is None else prepared
        assert (cfg.data.height, cfg.data.width) == size


def test_the_second_training_starts_from_the_first() -> None:
    first, second = (settings_of(text) for text in first_trainings("patches", DATA))
    assert "run_dir=runs/patches" in first
    assert "model.weights=runs/patches" in second


def test_a_size_that_was_typed_is_not_given_twice() -> None:
    [training] = first_trainings("plain", [*DATA, "data.height=96", "data.width=64"], prepared=(96, 64))
    assert training.count("data.height=") == training.count("data.width=") == 1
    assert first_trainings(None, ["data.patients=20"])[0].endswith("train.py data.patients=20")


def test_a_run_of_patches_is_followed_by_the_training_from_it() -> None:
    own = ["experiment=patches", *DATA, "data.patch.size=96", "data.batch_size=8", "seed=3", "run_dir=runs/p"]
    text = second_step(own, Path("runs/p"))
    assert text is not None
    assert settings_of(text) == ["experiment=whole_from_patches", *DATA, "model.weights=runs/p"]
    assert second_step(["experiment=plain", *DATA], Path("runs/p")) is None
    assert second_step([], Path("runs/p")) is None
