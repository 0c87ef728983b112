"""Every use of a private name of a library, in one place.

Each function says why the public interface is not enough; `tests/test_compat.py` fails when a version of the
library changes the name.
"""

from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig


def keep_config_store_uncopied() -> None:
    """Make copies of Hydra's `ConfigStore` the store itself.

    Hydra copies the whole store, node by node, for each group of its help, though it only reads the copy:
    with the schemas of this package that takes seconds.
    """
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]


def child_node(node: DictConfig, key: str) -> Any:
    """The node below a key as OmegaConf holds it.

    The public access resolves interpolations and raises on missing values; here only the kind counts.
    """
    return node._get_node(key)


def is_missing(node: DictConfig) -> bool:
    """Whether a whole node is `???`; `OmegaConf.is_missing` asks for a key of its parent."""
    return bool(node._is_missing())


def cpu_computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 in hardware; PyTorch has no public name for it."""
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
