"""`python -m mammo.prepare`: decodes, crops and resizes every image once, into a store."""

from omegaconf import DictConfig

from mammo.command import hydra_main
from mammo.config import arguments_for


@hydra_main("prepare")
def main(cfg: DictConfig) -> None:
    from mammo.data.sources import read_catalog
    from mammo.data.store import prepare

    catalog = read_catalog(**arguments_for(read_catalog, cfg.data))
    store = prepare(catalog, **arguments_for(prepare, cfg.data))
    rejected = len(catalog.images) - len(store.table)
    print(f"{len(store.table)} images prepared, {rejected} rejected, {len(store.lesions)} lesions")
    print(f"store {store.directory.absolute()}")


if __name__ == "__main__":
    main()
