"""Hard negatives are the false alarms of a network, and enter the patches of a training."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from mammo.data.loading.patch_dataset import PatchDataset
from mammo.data.patches import PatchSettings
from mammo.data.store.store import Store
from mammo.data.tasks import Task
from mammo.evaluation.mining.hard_negatives import MapAlarms, PatchAlarms, hard_negatives

TASK = Task.shipped("patch_pathology")
SIDES = ["x_min", "y_min", "x_max", "y_max"]


class Bright:
    """Calls a patch a lesion by its brightness; this is a wrong rule, which the second image shows."""

    batch_size = 4

    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """Cells of 10 x 10 pixels."""
        lesion = torch.nn.functional.avg_pool2d(images, 10)
        return torch.cat([0.4 - lesion, lesion - 0.4], dim=1)[:, None]

    def __call__(self, images: torch.Tensor) -> Any:
        lesion = images.flatten(1).mean(1)
        return SimpleNamespace(probability=torch.stack([1 - lesion, lesion / 2, lesion / 2], dim=1))


def dataset(folder: Path) -> PatchDataset:
    """Two images: bright at the lesion, and the second also at a place without a lesion."""
    pixels = np.zeros((2, 80, 60), np.uint16)
    pixels[:, 4:76, :45] = 20000
    pixels[0, 10:30, 10:30] = pixels[1, 10:30, 10:30] = 60000
    pixels[1, 50:70, 10:30] = 60000
    np.save(folder / "images.npy", pixels)
    ids = ["a", "b"]
    facts = dict.fromkeys(
        ["laterality", "view", "density", "abnormality_type", "subtlety", "assessment", "pathology"], pd.NA
    )
    images = pd.DataFrame({"image_id": ids, "patient_id": ids, "row": [0, 1], **facts})
    images.to_parquet(folder / "images.parquet")
    lesions = pd.DataFrame({"image_id": ids, "lesion_id": ids, "pathology": ["BENIGN", "MALIGNANT"]})
    lesions[SIDES] = [[12, 12, 28, 28]] * 2
    lesions["mask_value"] = pd.array([None, None], dtype="Int64")
    lesions.to_parquet(folder / "lesions.parquet")
    (folder / "manifest.json").write_text(json.dumps({}))
    store = Store.open(folder)
    settings = PatchSettings((10, 10), per_lesion=2, per_image=6, overlap=0.9)
    return PatchDataset(store=store, table=store.table, task=TASK, settings=settings)


def test_false_alarms_enter_the_patches(tmp_path: Path) -> None:
    patches = dataset(tmp_path)
    before = len(patches)
    alarms = PatchAlarms(Bright(), size=(20, 20), background=0)  # type: ignore[arg-type]
    found = hard_negatives(alarms, patches)
    assert found[0].tolist() == []
    # the patch of the run at 10, 50, and the patch of the dataset with the same centre
    assert found[1].tolist()[0] == [15, 55]
    patches.set_hard_negatives(found)
    assert len(patches) == before
    names = patches.units["sample_id"].tolist()
    assert sum(name.startswith("b") and name.endswith("_x15_y55") for name in names) == 1
    assert not [name for name in names if name.startswith("a") and name.endswith("_x15_y55")]
    images = patches.batch(range(len(patches)))
    place = next(i for i, name in enumerate(names) if name.endswith("_x15_y55"))
    assert images["label"][place] == 0
    assert (images["image"][place] * 65535).round().unique().tolist() == [60000]


def test_false_alarms_of_a_map_are_its_highest_cells_away_from_lesions(tmp_path: Path) -> None:
    patches = dataset(tmp_path)
    found = hard_negatives(MapAlarms(Bright(), positives=(1,)), patches)  # type: ignore[arg-type]
    assert found[0].tolist() == []
    # the four bright cells, at most half of `per_image`; cells and patches have the same size here
    assert found[1].tolist() == [[10, 50], [20, 50], [10, 60]]
