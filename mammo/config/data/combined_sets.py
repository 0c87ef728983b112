"""The data sets of `data=combined`, `data.sets`, as nodes with `_target_`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo.errors import ConfigError

_PUBLIC = ("inbreast", "vindr_mammo", "cmmd", "rsna", "embed", "mini_mias")
TARGETS = {
    "cbis_ddsm": "mammo.data.sources.cbis_ddsm.read_cbis_ddsm",
    "csv": "mammo.data.sources.csv_dataset.read_csv",
    **{name: f"mammo.data.sources.public.{name}.read_{name}" for name in _PUBLIC},
}


_PREFIX = re.compile(f"^(?:{'|'.join(TARGETS)})/")


def own_id(name: str) -> str:
    """Return the id that an image or patient of `data=combined` has in its own set.

    Example:
        >>> own_id("inbreast/20586908"), own_id("P_00016")
        ('20586908', 'P_00016')
    """
    return _PREFIX.sub("", name)


def set_nodes(
    sets: Mapping[str, Any], *, train_on: Sequence[str] | None, test_on: Sequence[str] | None
) -> dict[str, dict[str, Any]]:
    """Return the node of each chosen set.

    Args:
        sets: Name -> folder of the set, or a mapping of its keys with `root`; None: not used.
        train_on: Sets to train on, see `read_combined`.
        test_on: Sets to test on.

    Raises:
        ConfigError: Fewer than two sets are chosen, one has no folder, or a name is of no chosen set.
    """
    nodes = {}
    for name, given in sets.items():
        if given is None:
            continue
        keys = dict(given) if isinstance(given, Mapping) else {"root": given}
        if not Path(str(keys.get("root"))).is_dir():
            raise ConfigError(
                f"data.sets.{name}: root={keys.get('root')} is no folder; give data.sets.{name}=DIR or "
                f"data.sets.{name}={{root:DIR,KEY:VALUE}}"
            )
        nodes[name] = {"_target_": TARGETS[name], **keys}
    if len(nodes) < 2:
        raise ConfigError("data=combined: combines two or more sets; give data.sets.NAME=DIR for each")
    if (train_on is None) != (test_on is None):
        raise ConfigError("data.train_on and data.test_on belong together: give both or neither")
    for key, names in (("train_on", train_on), ("test_on", test_on)):
        for name in names or ():
            if name not in nodes:
                raise ConfigError(f"data.{key}: '{name}' is not one of the sets, {', '.join(nodes)}")
    return nodes
