"""Every choice of every group of the configuration trains for one batch."""

import os
from pathlib import Path

import pytest
from helpers.commands import REPOSITORY, command

SMALL = [
    "data.patients=20",
    "data.height=64",
    "data.width=48",
    "data.batch_size=8",
    "trainer.fast_dev_run=true",
]
CHOICES = [
    ["model=resnet34", "augment=none", "trainer=cpu"],
    ["model=resnet50", "augment=strong", "data.balance=weights", "trainer.patience=1"],
    ["model=custom_cnn", "model.activation=prelu", "data.balance=sampling", "data.split=clean"],
    ["model=resnet18", "data.split=kfold", "data.fold=1", "data.folds=3", "trainer.precision=bfloat16"],
    ["data.split=random", "data.sample=[8,4,2]", "model.pool=max", "model.dropout=0.1", "optim=adam"],
    [
        "model=timm",
        "model.name=convnext_atto",
        "model.pool=gem",
        "model.drop_path=0.1",
        "schedule=onecycle",
    ],
    ["task=lesion_type_pathology", "loss=focal", "optim=sgd", "schedule=step", "data.batch_size=null"],
    [
        "model=custom_cnn",
        "model.pool=attention",
        "model.norm=before",
        "optim=rmsprop",
        "schedule=plateau",
    ],
    [
        "augment=light",
        "augment.mixup=0.2",
        "trainer.ema_decay=0.99",
        "trainer.accumulate=4",
        "model.box_head=true",
    ],
    # few batch sizes, because each one is compiled separately
    ["model=custom_cnn", "trainer.compile=true", "trainer.precision=float32", "data.sample=[8,2,2]"],
    ["model.channels=3", "schedule=constant", "data.normalisation=none"],
]


@pytest.mark.slow
@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_choices_train(choices: list[str], place: Path) -> None:
    # compiled code in a folder of its own, because a file that another process is writing cannot be loaded
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(place / "inductor")}
    result = command("train", *SMALL, *choices, folder=place, env=environment)
    assert result.returncode == 0, result.stderr


def test_all_choices_are_among_them() -> None:
    tried = {choice for choices in CHOICES for choice in choices}
    for group in ("task", "model", "loss", "optim", "schedule", "augment", "trainer"):
        for file in (REPOSITORY / "conf" / group).glob("[!_]*.yaml"):
            if f"{group}={file.stem}" not in tried | DEFAULTS | ELSEWHERE:
                pytest.fail(f"{group}={file.stem} is tried nowhere")


# inception_resnet_v2: test_experiments.py; trainer=gpu: test_gpu.py; trainer=ddp: test_distributed.py
DEFAULTS = {"task=pathology", "loss=cross_entropy", "optim=adamw", "schedule=cosine", "augment=flips"}
DEFAULTS |= {"model=resnet18", "trainer=auto"}
ELSEWHERE = {"model=inception_resnet_v2", "trainer=gpu", "trainer=ddp"}
