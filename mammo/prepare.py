"""`python -m mammo.prepare`: decodes, crops and resizes every image once and saves it in a store."""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.config.calls.next_steps import call, ending
from mammo.config.checks import arguments_for, plain
from mammo.config.command import hydra_main


@hydra_main("prepare")
def main(cfg: DictConfig) -> None:
    from mammo.data.sources.reader import read_catalog
    from mammo.data.store.store import prepare

    store = prepare(read_catalog(plain(cfg.data)), **arguments_for(prepare, cfg.data))
    counts = store.manifest["counts"]
    for note, count in store.manifest["notes"].items():
        print(f"warning: of {count} {'image' if count == 1 else 'images'}: {note}", file=sys.stderr)
    print(f"{counts['images']} images prepared, {counts['rejected']} rejected, {counts['lesions']} lesions")
    overrides = HydraConfig.get().overrides.task
    print(ending({"store": store.directory.absolute()}, call("train", *overrides), call("audit", *overrides)))


if __name__ == "__main__":
    main()
