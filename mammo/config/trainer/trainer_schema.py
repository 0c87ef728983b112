"""The keys of the group `trainer`, with their types."""

import dataclasses
from typing import Any

from omegaconf import MISSING

from mammo.config.choices import Accelerator, ClipAlgorithm, Precision, Profiler, Strategy


@dataclasses.dataclass
class TrainerConfig:
    # OmegaConf cannot merge a union of types twice; `check_trainer` checks such values
    max_epochs: int = MISSING
    min_epochs: int | None = MISSING
    max_steps: int = MISSING
    min_steps: int | None = MISSING
    max_time: Any = MISSING  # DD:HH:MM:SS, or a mapping such as {hours: 2}
    patience: int | None = MISSING
    accelerator: Accelerator = MISSING
    devices: int = MISSING
    num_nodes: int = MISSING
    strategy: Strategy = MISSING
    sync_batchnorm: bool | None = MISSING
    precision: Precision = MISSING
    compile: bool = MISSING
    accumulate_grad_batches: int = MISSING
    gradient_clip_val: float | None = MISSING
    gradient_clip_algorithm: ClipAlgorithm = MISSING
    ema_decay: float | None = MISSING
    deterministic: Any = MISSING  # true, false or warn
    benchmark: bool | None = MISSING
    inference_mode: bool = MISSING
    limit_train_batches: Any = MISSING  # integer, share or null
    limit_val_batches: Any = MISSING  # integer, share or null
    overfit_batches: Any = MISSING  # integer or share
    fast_dev_run: Any = MISSING  # true, false or an integer
    val_check_interval: Any = MISSING  # integer or share
    check_val_every_n_epoch: int | None = MISSING
    num_sanity_val_steps: int = MISSING
    log_every_n_steps: int = MISSING
    detect_anomaly: bool = MISSING
    profiler: Profiler | None = MISSING
    enable_progress_bar: bool | None = MISSING
    enable_model_summary: bool = MISSING
    checkpoint_minutes: float | None = MISSING
    checkpoint_steps: int | None = MISSING
    picture_epochs: int | None = MISSING
