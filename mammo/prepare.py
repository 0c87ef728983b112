"""`python -m mammo.prepare`: decodes, crops and resizes every image once and saves it in a store."""

from omegaconf import DictConfig

from mammo.config.checks import arguments_for
from mammo.config.command import hydra_main


@hydra_main("prepare")
def main(cfg: DictConfig) -> None:
    from mammo.data.sources.reader import read_catalog
    from mammo.data.store.store import prepare

    catalog = read_catalog(**arguments_for(read_catalog, cfg.data))
    store = prepare(catalog, **arguments_for(prepare, cfg.data))
    rejected = len(catalog.images) - len(store.table)
    print(f"{len(store.table)} images prepared, {rejected} rejected, {len(store.lesions)} lesions")
    print(f"store {store.directory.absolute()}")


if __name__ == "__main__":
    main()
