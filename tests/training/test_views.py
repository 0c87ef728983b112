"""`data.views` chooses the images of a training and an evaluation, which name the others."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers.commands import command

from mammo.config.composition import compose_train
from mammo.errors import ConfigError
from mammo.evaluation.split_scoring import open_split
from mammo.runs import RunFolder

SMALL = ["model=custom_cnn", "data.height=64", "data.width=48", "trainer.max_epochs=1", "report=false"]
SMALL += ["trainer.precision=32-true", "trainer.accelerator=cpu", "data.batch_size=8", "data.split=random"]
SMALL += ["optim.lr=1e-3"]
TABLE = ["data=csv", "data.table=images.csv", "data.root=images"]
LEFT_OUT = "data.views=[CC,MLO]: 25 of 80 images have none of these views (5 without view, 20 with view ML)"


@pytest.fixture(scope="module")
def run(place: Path) -> RunFolder:
    """A run on CC and MLO of a table with a third view, and without a view for some images."""
    rng = np.random.default_rng(0)
    (place / "images").mkdir()
    rows = []
    for patient in range(20):
        for view in ("CC", "MLO", "ML", "CC" if patient % 4 else ""):
            name = f"{len(rows):03d}.png"
            pixels = rng.normal(20000 + 20000 * (patient % 2), 3000, (80, 60)).clip(1, 65535)
            cv2.imwrite(str(place / "images" / name), pixels.astype(np.uint16))
            rows.append({"image_path": name, "patient_id": f"p{patient}", "view": view, "label": patient % 2})
    pd.DataFrame(rows).to_csv(place / "images.csv", index=False)
    done = command("train", *SMALL, *TABLE, "data.views=[CC,MLO]", "run_dir=run", folder=place)
    assert done.returncode == 0, done.stderr
    assert f"{LEFT_OUT}: they are left out" in done.stderr
    return RunFolder(place / "run")


@pytest.mark.slow
def test_a_training_sees_the_chosen_views_only_and_names_the_others(run: RunFolder, place: Path) -> None:
    table = pd.read_csv(place / "images.csv")
    view = table.set_index(table["image_path"].str.removesuffix(".png"))["view"]
    sides = [(run.path / "split" / f"{side}.txt").read_text().split() for side in ("train", "val", "test")]
    used = [name for side in sides for name in side]
    assert sorted(used) == sorted(view.index[view.isin(["CC", "MLO"])])
    left_out = pd.read_csv(run.path / "split" / "left_out.csv", dtype=str)
    assert sorted(left_out["image_id"]) == sorted(set(view.index) - set(used))
    assert set(left_out["reason"]) == {"its view is not in data.views"}


@pytest.mark.slow
def test_an_evaluation_has_the_views_of_the_run(
    run: RunFolder, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert set(open_split(run, "test").images["view"]) == {"CC", "MLO"}
    assert open_split(run, "test").notes == ()
    opened = open_split(run, "all")
    assert len(opened.images) == 55
    assert opened.notes == (f"{LEFT_OUT}: they are left out",)
    other = compose_train([*SMALL, *TABLE]).data
    assert open_split(run, "all", data=other).notes == opened.notes
    with pytest.raises(ConfigError, match=r"data.views=\[ML\]: the run was trained with \[CC,MLO\]; leave"):
        open_split(run, "all", data=compose_train([*SMALL, *TABLE, "data.views=[ML]"]).data)
