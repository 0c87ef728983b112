"""Nothing that is given is ignored: each key is read by the training, or refused where it has no effect."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from mammo.config.composition import compose_train, compose_with_choices
from mammo.config.flattening import flatten
from mammo.config.unused_keys import refuse_unused
from mammo.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("train", ["data.fold=2"], "data.fold=2: is used with data.split=kfold only"),
        ("train", ["data.folds=3"], "data.folds=3: is used with data.split=kfold only"),
        ("train", ["data.split=kfold", "data.fold=2", "data.folds=3"], None),
        ("train", ["data.fold=0"], None),
        ("train", ["data.split=random", "data.val_fraction=0.3"], "data.val_fraction=0.3: is used with"),
        ("train", ["data.split=clean", "data.val_fraction=0.3"], None),
        ("train", ["data.patch.per_image=3"], "data.patch.per_image=3: is used with data.sample_unit=patch"),
        ("train", ["loss.box_weight=2"], "loss.box_weight=2: is used with model.box_head=true only"),
        ("train", ["loss.box_weight=2", "model.box_head=true"], None),
        (
            "train",
            ["data.batch_masks=true"],
            "data.batch_masks=true: is used with loss.cell_weight above 0, or a",
        ),
        (
            "train",
            [
                "model/head=patch_map",
                "model.head.pool=positive_odds",
                "loss.cell_weight=1",
                "data.batch_masks=true",
            ],
            None,
        ),
        ("train", ["model/head=patch_map", "model/pool=gem"], "model/pool=gem: is not used with model/head="),
        ("train", ["model/head=patch_map", "model/pool=avg"], None),
        ("train", ["model/head=mil", "model/pool=gem"], None),
        (
            "train",
            ["model/head=patch_map", "model.head.sharpness=2"],
            "model.head.sharpness=2: is used with model.head.pool=lse only",
        ),
        ("train", ["model/head=patch_map", "model.head.pool=lse", "model.head.sharpness=2"], None),
        (
            "train",
            ["model/head=patch_map", "model.head.pool=lse", "model.head.top_k=2"],
            "model.head.top_k=2: is used with model.head.pool=top_k and positive_odds only",
        ),
        ("train", ["model/head=patch_map", "model.head.top_k=2"], None),
        ("train", ["model/head=mil", "model.head.top_k=2"], None),
        ("bench", ["data.fold=2"], "data.fold=2: is used with data.split=kfold only"),
        ("evaluate", ["predictions=p.csv", "split=test"], "split=test: the images of predictions=FILE are"),
        ("evaluate", ["predictions=p.csv", "tta=flips"], "tta=flips: the images of predictions=FILE are"),
        ("evaluate", ["predictions=p.csv", "data=phantom"], "data=phantom: the images of predictions=FILE"),
        ("evaluate", ["predictions=p.csv", "heatmap=none"], None),
        ("evaluate", ["run=[a,b]", "split=test", "heatmap=map"], "heatmap=map: heatmaps are made for one"),
        ("evaluate", ["run=[a,b]", "heatmap=map"], None),
        ("evaluate", ["run=[a]", "heatmap=layercam"], None),
        ("evaluate", ["run=a", "heatmap=occlusion", "heatmap_layer=x"], "heatmap_layer=x: the method of"),
        ("predict", ["heatmap=occlusion"], "heatmap=occlusion: is of the heat; give heatmaps=DIR"),
        ("predict", ["heatmap=occlusion", "outputs=[dicom]"], None),
        (
            "predict",
            ["heatmap=map", "heatmap_layer=x", "heatmaps=d"],
            "heatmap_layer=x: the method of the heat",
        ),
        ("predict", ["heatmap=none", "heatmaps=d"], "heatmaps=d: there are no pictures with heatmap=none"),
        ("predict", ["hanging=false", "outputs=[csv]"], "hanging=false: is of the pictures; give heatmaps="),
        ("predict", ["hanging=false", "outputs=[csv,html]"], None),
        ("compare", ["runs=[a,b]", "reduce=max"], "reduce=max: a sample has one score; give unit=breast"),
        ("compare", ["runs=[a,b]", "reduce=max", "unit=breast"], None),
        ("compare", ["runs=[a,b]", "reduce=max", "unit=exam"], "reduce=max: a sample has one score"),
    ],
)
def test_a_key_without_effect_is_refused(name: str, overrides: list[str], sentence: str | None) -> None:
    cfg, _ = compose_with_choices(name, overrides)
    if sentence is None:
        refuse_unused(name, cfg, overrides)
    else:
        with pytest.raises(ConfigError) as refused:
            refuse_unused(name, cfg, overrides)
        assert str(refused.value).startswith(sentence)


@pytest.mark.slow
def test_the_command_refuses_it(tmp_path: Path) -> None:
    refused = command("train", "data.fold=1", folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: data.fold=1: is used with data.split=kfold only")
    assert not list(tmp_path.iterdir())


# another value of each key that changes the trained weights or the scores
CHANGED: dict[str, str] = {
    "seed": "1",
    "data.seed": "1",
    "data.height": "72",
    "data.width": "56",
    "data.crop": "none",
    "data.aspect": "stretch",
    "data.views": "[MLO]",
    "data.split": "random",
    "data.val_fraction": "0.4",
    "data.sample": "[12,8,4]",
    "data.batch_size": "8",
    "data.balance": "weights",
    "data.normalisation": "none",
    "data.patients": "26",
    "data.difficulty": "0.5",
    "data.obscured": "0.5",
    "data.film_scale": "3",
    "model/pool": "gem",  # the last map has one pixel, whose average is its maximum
    "model.dropout": "0.5",
    "model.box_head": "true",
    "model.activation": "elu",
    "model.norm": "before",
    "augment.flip_horizontal": "0.0",
    "augment.flip_vertical": "0.0",
    "augment.rotation_deg": "20",
    "augment.shear_deg": "10",
    "augment.zoom": "0.3",
    "augment.brightness": "0.3",
    "augment.contrast": "0.3",
    "augment.mixup": "0.4",
    "optim.lr": "0.0005",
    "optim.head_lr": "0.01",
    "optim.layer_decay": "0.5",
    "optim.weight_decay": "0.5",
    "optim.freeze_epochs": "1",
    "optim.freeze_batch_norm": "true",
    "optim.betas": "[0.5,0.9]",
    "schedule.warmup_epochs": "0.5",
    "schedule.final_lr_fraction": "0.9",
    "loss.label_smoothing": "0.2",
    "trainer.max_epochs": "2",
    "trainer.max_steps": "1",
    "trainer.accumulate_grad_batches": "2",
    "trainer.gradient_clip_val": "0.001",
    "trainer.gradient_clip_algorithm": "value",
    "trainer.limit_train_batches": "1",
    "trainer.limit_val_batches": "1",
    "trainer.overfit_batches": "1",
    "trainer.ema_decay": "0.5",
    "trainer.fast_dev_run": "true",
}
BASE = ["data.patients=24", "data.height=64", "data.width=48", "trainer.max_epochs=1", "report=false"]
BASE += ["model=custom_cnn", "data.batch_size=4", "schedule.warmup_epochs=0", "trainer.precision=32-true"]
BASE += ["trainer.gradient_clip_val=0.01"]


def outcome(overrides: list[str], run_dir: Path) -> tuple[bytes, bytes]:
    """The weights of the last epoch and the scores of the validation images."""
    import torch

    from mammo.evaluation.training_run import train

    run = train(compose_train([*BASE, *overrides]), run_dir=run_dir, overrides=overrides)
    assert run is not None
    state = torch.load(run.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
    weights = b"".join(tensor.numpy().tobytes() for tensor in state.values())
    return weights, (run.evaluation / "val" / "predictions.csv").read_bytes()


@pytest.fixture(scope="module")
def unchanged(place: Path) -> tuple[bytes, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        return outcome([], place / "unchanged")


@pytest.mark.slow
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(sorted(CHANGED)))
def test_another_value_gives_another_result(
    key: str, place: Path, unchanged: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    run_dir = place / key.replace("/", "-")
    shutil.rmtree(run_dir, ignore_errors=True)
    assert outcome([f"{key}={CHANGED[key]}"], run_dir) != unchanged


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [
        ["model=custom_cnn", "data.batch_size=8"],
        ["optim=sgd", "schedule=step", "loss=focal", "trainer.accelerator=cpu", "trainer.ema_decay=0.99"],
    ],
)
def test_a_training_reads_every_key(choices: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key is read by itself, or is an argument of the part that its node describes.

    A node with `_target_` is compared with the signature before it is built, so that all its keys are read.
    """
    monkeypatch.chdir(place)
    from mammo.config import checks
    from mammo.evaluation.training_run import train
    from mammo.training import fit, part_checks, setup

    cfg = compose_train([*BASE[:5], *choices])
    read: set[str] = set()

    def recorded(name: str) -> Callable[[Any, str], Any]:
        original = getattr(DictConfig, name)

        def access(node: DictConfig, key: str) -> Any:
            if not str(key).startswith("_"):
                read.add(node._get_full_key(key))
            return original(node, key)

        return access

    def arguments_for(function: Callable[..., Any], node: DictConfig) -> dict[str, Any]:
        arguments = checks.arguments_for(function, node)
        read.update(node._get_full_key(key) for key in arguments)
        return arguments

    def plain(node: DictConfig) -> dict[str, Any]:
        values: dict[str, Any] = OmegaConf.to_container(node, resolve=True, enum_to_str=True)  # type: ignore[assignment]
        read.update(node._get_full_key(key) for key in flatten(values))
        return values

    for module in (fit, setup):
        monkeypatch.setattr(module, "arguments_for", arguments_for)
    for module in (setup, part_checks):
        monkeypatch.setattr(module, "plain", plain)
    select = OmegaConf.select

    def selected(node: DictConfig, key: str, **options: Any) -> Any:
        read.add(key)
        return select(node, key, **options)

    with monkeypatch.context() as patch:
        patch.setattr(OmegaConf, "select", selected)
        for name in ("__getattr__", "__getitem__"):
            patch.setattr(DictConfig, name, recorded(name))
        train(cfg, run_dir=place / "-".join(choices).replace("=", "_"), overrides=choices)
    keys = {*flatten(OmegaConf.to_container(cfg))}  # type: ignore[arg-type]
    # `name` names the folder of a run, and the command itself reads `run_dir`
    assert keys - read == {"name", "run_dir"}
