"""`python -m mammo.audit`: counts the data, missing files and leaks between the splits."""

import itertools
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mammo.config.checks import arguments_for, plain
from mammo.config.command import hydra_main, write_json

_SPLITS = ("", "train", "test")
_TYPES = ("", "mass", "calcification", "both")
_COLUMNS = ("images", "malignant_images", "patients", "lesions", "malignant_lesions")


@hydra_main("audit")
def main(cfg: DictConfig) -> None:
    from mammo.data.inventory import inventory
    from mammo.data.sources.reader import read_catalog

    catalog = read_catalog(plain(cfg.data))
    counts = inventory(catalog, **arguments_for(inventory, cfg.data))
    print(_table(counts))
    if cfg.output is not None:
        write_json(counts, Path(cfg.output))


def _table(counts: dict[str, Any]) -> str:
    """Return a table of counts by split and abnormality type, with a line for every other number below.

    The lists of ids and files are only in the JSON.
    """
    import pandas as pd

    rest = {name: n for name, n in counts.items() if not isinstance(n, list)}
    parts = ["_".join(filter(None, names)) for names in itertools.product(_SPLITS, _TYPES)]
    rows = {}
    for part in parts:
        names = [f"{part}_{column}".lstrip("_") for column in _COLUMNS]
        if names[0] in rest:
            rows[part.replace("_", " ") or "all"] = [rest.pop(name, "") for name in names]
    columns = [column.replace("_", " ") for column in _COLUMNS]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    width = max(map(len, rest))
    # a name with a colon has a word of the data
    shown = {name if ":" in name else name.replace("_", " "): n for name, n in rest.items()}
    lines = [f"{name:{width}}  {n:>7}" for name, n in shown.items()]
    return "\n".join([table.to_string(), "", *lines])


if __name__ == "__main__":
    main()
