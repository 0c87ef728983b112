"""A task fits its samples, or is refused in one sentence; its classes are tested in `test_own_tasks`."""

from pathlib import Path
from typing import Any

import pytest

from mammo.config.composition import compose_with_choices
from mammo.config.task.task_checks import check_unit, patch_size
from mammo.errors import ConfigError

IMAGES = {"name": "pathology", "background": None}
PATCHES = {"name": "mine", "background": "NOTHING"}


def data(unit: str, size: Any = 64) -> dict[str, Any]:
    return {"sample_unit": unit, "height": 100, "width": 80, "patch": {"size": size}}


@pytest.mark.parametrize(
    ("task", "node"),
    [
        (IMAGES, data("image", 500)),
        (IMAGES, data("exam")),
        (PATCHES, data("patch", [100, 80])),
        ({"name": "density"}, {"height": 3, "width": 3}),  # the nodes of an older run
    ],
)
def test_a_task_that_fits_its_samples(task: dict[str, Any], node: dict[str, Any]) -> None:
    check_unit(task, node)


@pytest.mark.parametrize(
    ("task", "node", "sentence"),
    [
        (PATCHES, data("image"), "task=mine: its class NOTHING is for patches without a lesion; give data."),
        (PATCHES, data("breast"), "task=mine: its class NOTHING is for patches without a lesion; give data."),
        (IMAGES, data("patch"), "data.sample_unit=patch: task=pathology has no class for patches without a"),
        (
            PATCHES,
            data("patch", 96),
            "data.patch.size=96 x 96: is larger than the images, data.height=100 x data.width=80; lower it",
        ),
        (PATCHES, data("patch", "wide"), "data.patch.size=wide: give a number of pixels, or [height,width]"),
        (PATCHES, data("patch", [8]), "data.patch.size=[8]: give a number of pixels, or [height,width]"),
        (PATCHES, data("patch", 0), "data.patch.size=0: give a number of pixels, or [height,width]"),
    ],
)
def test_a_task_that_does_not_fit_its_samples(
    task: dict[str, Any], node: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_unit(task, node)
    assert str(refused.value).startswith(sentence)
    assert "\n" not in str(refused.value)


def test_hard_negatives_have_a_place(tmp_path: Path) -> None:
    """Half of the patches of the background are hard negatives, and half of one is none."""
    node = data("patch")
    node["patch"] |= {"hard_negatives": str(tmp_path), "per_image": 1}
    with pytest.raises(ConfigError, match=r"no run with checkpoints/best\.ckpt; give another"):
        check_unit(PATCHES, node)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(ConfigError, match=r"half of data\.patch\.per_image=1, which is 0; give"):
        check_unit(PATCHES, node)
    node["patch"]["per_image"] = 2
    check_unit(PATCHES, node)


def test_the_size_of_a_patch_is_composed_as_one_number_or_two() -> None:
    for given, size in (("64", (64, 64)), ("[64,32]", (64, 32))):
        cfg, _ = compose_with_choices("train", [f"data.patch.size={given}"])
        assert patch_size(cfg.data.patch.size) == size
