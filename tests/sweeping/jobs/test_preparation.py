"""What is checked before the first job of a multirun or search begins."""

import pytest
from omegaconf import OmegaConf
from torch import nn

from mammo.config.composition import compose_train
from mammo.errors import ConfigError
from mammo.sweeping.jobs.preparation import require_parts


class Named(nn.Module):
    """A network of the user's own with an argument `name`."""

    def __init__(self, *, num_classes: int, name: str) -> None:
        super().__init__()


def test_only_networks_of_timm_are_looked_up_in_timm() -> None:
    cfg = compose_train(["model=timm", "model.name=no_network"])
    with pytest.raises(ConfigError, match=r"model\.name=no_network: timm has no such network"):
        require_parts([cfg])
    own = OmegaConf.create({"_target_": f"{__name__}.Named", "name": "no_network"})
    OmegaConf.update(cfg, "model", own, merge=False)
    require_parts([cfg])
