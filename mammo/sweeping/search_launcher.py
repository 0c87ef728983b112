"""The launcher of a search: recorded when the search begins, and used again by every later command."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mammo.atomic_files import write_atomically
from mammo.config.composition import composition_error, own_hydra
from mammo.config.sweep_overrides import continued
from mammo.errors import ConfigError

_GROUP = "hydra/launcher"
_FILE = "launcher.json"


class SearchLauncher:
    """How the workers of a search are started.

    Args:
        folder: folder of the search; it may not exist yet.
        given: overrides of the launcher on the command line. They add to those that were recorded, unless
            they choose another launcher.
        config_dirs: config folders of the user besides `conf`.

    Attributes:
        recorded: overrides with which the search was last worked on; empty before it begins.
        overrides: overrides that are in force.
        keys: composed config node of the launcher.

    Raises:
        ConfigError: an override is wrong.
    """

    def __init__(self, folder: Path, given: Sequence[str], *, config_dirs: Sequence[Path] = ()) -> None:
        self._file = folder / _FILE
        self.recorded: list[str] = json.loads(self._file.read_text()) if self._file.exists() else []
        in_force = continued(self.recorded, given, group=_GROUP)
        overrides = list(in_force.values())
        path = f"hydra.searchpath=[{','.join(f'file://{place}' for place in config_dirs)}]"
        try:
            with own_hydra():
                cfg = hydra.compose("sweep", [path, *overrides], return_hydra_config=True)
                keys = OmegaConf.to_container(cfg.hydra.launcher, resolve=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(composition_error(error, "sweep", overrides)) from error
        assert isinstance(keys, dict)
        self.keys: dict[str, Any] = {str(key): value for key, value in keys.items()}
        default = f"{_GROUP}={cfg.hydra.runtime.choices[_GROUP]}"
        self.overrides = list({_GROUP: default, **in_force}.values())

    def is_slurm(self) -> bool:
        """Return whether the workers are Slurm jobs."""
        return str(self.keys["_target_"]).endswith("SlurmLauncher")

    def record(self) -> None:
        """Record the overrides in the folder of the search."""
        write_atomically(self._file, json.dumps(self.overrides) + "\n")

    def __str__(self) -> str:
        return " ".join(self.overrides)

    def change(self) -> str | None:
        """Describe how the command line changes the recorded launcher; None where it does not."""
        if self.recorded in ([], self.overrides):
            return None
        return f"the launcher of the search changes from {' '.join(self.recorded)} to {self}"
