"""The configuration of an earlier run, in the form of today's."""

from typing import Any

_SOURCES = {
    "phantom": "mammo.data.sources.phantom_source.read_phantom",
    "cbis_ddsm": "mammo.data.sources.cbis_ddsm.read_cbis_ddsm",
    "csv": "mammo.data.sources.csv_dataset.read_csv",
}
_POOLS = {
    "avg": {"_target_": "timm.layers.SelectAdaptivePool2d", "pool_type": "avg"},
    "max": {"_target_": "timm.layers.SelectAdaptivePool2d", "pool_type": "max"},
    "gem": {"_target_": "mammo.models.pooling.GeM"},
    "attention": {"_target_": "mammo.models.pooling.AttentionPool", "hidden": 128},
}
_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
# what a training did before it had these keys
_TRAINER = {
    "min_epochs": None,
    "max_steps": -1,
    "min_steps": None,
    "max_time": None,
    "num_nodes": 1,
    "strategy": "auto",
    "sync_batchnorm": None,
    "accumulate_grad_batches": 1,
    "gradient_clip_algorithm": "norm",
    "benchmark": None,
    "inference_mode": True,
    "limit_train_batches": None,
    "limit_val_batches": None,
    "overfit_batches": 0.0,
    "val_check_interval": 1.0,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 50,
    "detect_anomaly": False,
    "profiler": None,
    "enable_progress_bar": None,
    "enable_model_summary": False,
}
# how images were shown before a data set had these keys
_DISPLAY = {"white": "file", "window": None, "for_processing": "reject"}
_TENSORBOARD = {"_target_": "mammo.training.loggers.tensorboard_runs.TensorBoardRuns"}


def in_current_form(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the names, the nodes and the keys of this version.

    Args:
        config: content of a `config.yaml`, which is not changed.
    """
    nodes = {key: dict(node) for key, node in config.items() if isinstance(node, dict)}
    if (data := nodes.get("data")) is not None and "store" in data:
        nodes["data"] = _DISPLAY | data
    if (data := nodes.get("data")) and "source" in data and "_target_" not in data:
        nodes["data"] = {"_target_": _SOURCES[data.pop("source")]} | data
    if (model := nodes.get("model")) and "name" in model and "_target_" not in model:
        if model["name"] == "custom_cnn":
            del model["name"]
            nodes["model"] = {"_target_": "mammo.models.custom_cnn.CustomCNN"} | model
        else:
            nodes["model"] = {"_target_": "mammo.models.backbones.timm_network"} | model
    if (model := nodes.get("model")) and isinstance(model.get("pool"), str):
        model["pool"] = _POOLS[model["pool"]]
    if (augment := nodes.get("augment")) and "_target_" not in augment:
        nodes["augment"] = {"_target_": "mammo.data.loading.augment.BatchAugment"} | augment
    if "accumulate" in nodes.get("trainer", {}):
        _rename_trainer_keys(nodes)
    return config | nodes


def _rename_trainer_keys(nodes: dict[str, dict[str, Any]]) -> None:
    trainer = nodes["trainer"]
    if "data" in nodes:
        nodes["data"] = {"micro_batches": trainer["accumulate"]} | nodes["data"]
    del trainer["accumulate"]
    for old, new in (("gradient_clip", "gradient_clip_val"), ("nodes", "num_nodes")):
        if old in trainer:
            trainer[new] = trainer.pop(old)
    if "precision" in trainer:
        trainer["precision"] = _PRECISION.get(trainer["precision"], trainer["precision"])
    if trainer.get("deterministic") is True:
        trainer["deterministic"] = "warn"
    nodes["trainer"] = _TRAINER | trainer
    nodes.setdefault("logger", {"tensorboard": _TENSORBOARD})
