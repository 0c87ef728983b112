"""Configurations of earlier runs: their choices have the nodes of today's `conf`."""

from pathlib import Path
from typing import Any

import pytest

from mammo.config.checks import plain
from mammo.config.composition import compose_train
from mammo.runs.older_configs import in_current_form


@pytest.mark.parametrize("pool", ["avg", "max", "gem", "attention"])
@pytest.mark.parametrize("model", ["resnet18", "custom_cnn"])
def test_the_names_of_choices_become_their_nodes(model: str, pool: str) -> None:
    today = plain(compose_train([f"model={model}", f"model/pool={pool}"]))
    assert in_current_form(today) == today
    old: dict[str, Any] = {key: dict(node) for key, node in today.items() if isinstance(node, dict)}
    del old["model"]["_target_"], old["data"]["_target_"], old["augment"]["_target_"]
    old["model"] |= {"name": model, "pool": pool}
    old["data"]["source"] = "phantom"
    assert in_current_form(today | old) == today
    assert old["data"]["source"] == "phantom"


def test_every_source_is_found(tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_text("")
    training = ["optim.lr=1e-3", "trainer.max_epochs=1"]
    for source, more in (("cbis_ddsm", []), ("csv", [f"data.table={tmp_path}/images.csv"])):
        keys = [*training, *more]
        today = plain(compose_train([f"data={source}", f"data.root={tmp_path}", *keys]).data)
        old = {"source": source} | {key: value for key, value in today.items() if key != "_target_"}
        assert in_current_form({"data": old}) == {"data": today}


def test_the_keys_of_the_trainer_get_the_names_of_today() -> None:
    chosen = ["data.micro_batches=4", "trainer.precision=bf16-mixed", "trainer.gradient_clip_val=2.0"]
    today = plain(compose_train(chosen))
    same = ("max_epochs", "patience", "accelerator", "devices", "compile", "ema_decay", "fast_dev_run")
    same += ("checkpoint_minutes", "checkpoint_steps", "picture_epochs")
    trainer = {key: today["trainer"][key] for key in same}
    trainer |= {
        "accumulate": 4,
        "gradient_clip": 2.0,
        "nodes": 1,
        "precision": "bfloat16",
        "deterministic": True,
    }
    data = {key: value for key, value in today["data"].items() if key != "micro_batches"}
    old = today | {"trainer": trainer, "data": data}
    del old["logger"]
    assert in_current_form(old) == today
    assert "accumulate" in trainer
