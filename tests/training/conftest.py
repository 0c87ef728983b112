import pytest

from mammo.data.loading.datamodule import MammogramDataModule
from mammo.data.splits import Split
from mammo.data.store.store import Store
from mammo.data.tasks import Task


@pytest.fixture
def datamodule(grey_store: Store) -> MammogramDataModule:
    ids = grey_store.table["image_id"].tolist()
    return MammogramDataModule(
        store=grey_store,
        split=Split(train=ids[:8], val=ids[2:6], test=[]),
        task=Task.shipped("pathology"),
        batch_size=4,
        loader_workers=0,
        balance="none",
        augment=None,
        seed=0,
    )
