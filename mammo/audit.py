"""`python -m mammo.audit`: what is in the data, what is missing and what leaks."""

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mammo.command import hydra_main
from mammo.config import arguments_for
from mammo.errors import ConfigError


@hydra_main("audit")
def main(cfg: DictConfig) -> None:
    from mammo.data.inventory import inventory
    from mammo.data.sources import read_catalog

    catalog = read_catalog(**arguments_for(read_catalog, cfg.data))
    counts = inventory(catalog, **arguments_for(inventory, cfg.data))
    print("\n".join(_lines(counts)))
    if cfg.output is not None:
        _write(counts, Path(cfg.output))


def _lines(counts: dict[str, Any]) -> list[str]:
    """A line for each number; the ids and files behind a number are for the JSON."""
    width = max(map(len, counts))
    return [
        f"{name.replace('_', ' '):{width}}  {n:>7}" for name, n in counts.items() if not isinstance(n, list)
    ]


def _write(counts: dict[str, Any], output: Path) -> None:
    try:
        output.write_text(json.dumps(counts, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"output={output}: cannot be written: {error.strerror}") from error
    print(f"written to {output}")


if __name__ == "__main__":
    main()
