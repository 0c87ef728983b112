"""Every choice of every group of the configuration trains for one batch."""

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
WITH_REPORT = ("task=", "data.sample_unit=", "model/head=")  # what changes the report
CHOICES = [
    ["task=density", "model=resnet34", "augment=none", "trainer=cpu", "logger=none"],
    ["task=birads", "model=resnet50", "augment=strong", "data.balance=weights", "trainer.patience=1"],
    ["model=custom_cnn", "model.activation=prelu", "data.balance=sampling", "data.split=clean"],
    [
        "task=abnormality_type",
        "model=resnet18",
        "data.split=kfold",
        "data.fold=1",
        "data.folds=3",
        "trainer.precision=bf16-mixed",
    ],
    ["data.split=random", "data.sample=[8,4,2]", "model/pool=max", "model.dropout=0.1", "optim=adam"],
    [
        "model=timm",
        "model.name=test_convnext",
        "model/pool=gem",
        "model.drop_path=0.1",
        "schedule=onecycle",
    ],
    ["task=lesion_type_pathology", "loss=focal", "optim=sgd", "schedule=step", "data.batch_size=null"],
    [
        "model=custom_cnn",
        "model/pool=attention",
        "model.norm=before",
        "optim=rmsprop",
        "schedule=plateau",
    ],
    [
        "augment=light",
        "augment.mixup=0.2",
        "trainer.ema_decay=0.99",
        "data.micro_batches=4",
        "model.box_head=true",
    ],
    ["model/head=patch_map", "model.head.top_k=2", "data.micro_batches=2"],
    ["model/head=mil", "model.head.crop=32", "model.head.crops=2", "model.channels=3"],
    ["model=efficientnet_lite0", "model.channels=3", "schedule=constant", "data.normalisation=none"],
    ["task=patch_pathology", "data.sample_unit=patch", "data.patch.size=32", "model=custom_cnn"],
    ["task=patch_lesion_type_pathology", "data.sample_unit=patch", "data.patch.size=32", "model=custom_cnn"],
    ["data.sample_unit=breast", "model.fusion=cross_view", "model/head=global"],
    ["data.sample_unit=exam", "model/head=patch_map", "model.head.top_k=2", "data.batch_size=null"],
]


@pytest.mark.slow
@pytest.mark.parametrize("choices", CHOICES, ids=" ".join)
def test_choices_train(choices: list[str], place: Path) -> None:
    report = any(choice.startswith(WITH_REPORT) for choice in choices)
    result = command("train", *SMALL, *choices, f"report={str(report).lower()}", folder=place)
    assert result.returncode == 0, result.stderr


def test_all_choices_are_among_them() -> None:
    tried = {choice for choices in CHOICES for choice in choices}
    groups = ("task", "model", "model/pool", "model/head", "loss", "optim", "schedule", "augment", "metrics")
    groups += ("trainer", "logger")
    for group in groups:
        for file in (REPOSITORY / "conf" / group).glob("[!_]*.yaml"):
            if f"{group}={file.stem}" not in tried | DEFAULTS | ELSEWHERE:
                pytest.fail(f"{group}={file.stem} is tried nowhere")


# inception_resnet_v2, residual_blocks, multistep, random_crop: test_experiments.py; trainer=gpu: test_gpu.py;
# trainer=ddp: test_distributed.py;
# the other loggers: test_loggers.py
DEFAULTS = {"task=pathology", "loss=cross_entropy", "optim=adamw", "schedule=cosine", "augment=flips"}
DEFAULTS |= {"model=resnet18", "model/pool=avg", "model/head=global", "metrics=none", "trainer=auto"}
DEFAULTS |= {"logger=tensorboard"}
ELSEWHERE = {"model=efficientnet_lite1", "model=efficientnet_lite2"}  # test_models.py
ELSEWHERE |= {"model/head=residual_blocks", "schedule=multistep", "augment=random_crop"}
ELSEWHERE |= {"model=inception_resnet_v2", "trainer=gpu", "trainer=ddp"}
ELSEWHERE |= {"logger=csv", "logger=wandb", "logger=mlflow"}
