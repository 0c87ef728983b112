"""The settings of a search: recorded when it begins, and in force again in every later command."""

import json
from collections.abc import Sequence
from pathlib import Path

from mammo.atomic_files import write_atomically
from mammo.config.checks import plain
from mammo.config.composition import compose_with_choices
from mammo.config.sweep_overrides import continued

_GROUP = "sweep"
_FILE = "settings.json"


class SearchSettings:
    """The node `sweep` of a search or study.

    Args:
        folder: folder of the search; it may not exist yet.
        given: overrides of `sweep` and its keys on the command line. They add to those that were recorded,
            unless they choose another search.

    Attributes:
        overrides: overrides that are in force.
        values: composed config node.

    Raises:
        ConfigError: an override is wrong.
    """

    def __init__(self, folder: Path, given: Sequence[str]) -> None:
        self._file = folder / _FILE
        recorded = json.loads(self._file.read_text()) if self._file.exists() else []
        overrides = continued(recorded, given, group=_GROUP)
        cfg, choices = compose_with_choices("sweep", list(overrides.values()))
        self.values = plain(cfg.sweep)
        self.overrides = list({_GROUP: f"{_GROUP}={choices[_GROUP]}", **overrides}.values())

    def record(self) -> None:
        """Record the overrides in the folder of the search."""
        write_atomically(self._file, json.dumps(self.overrides) + "\n")
