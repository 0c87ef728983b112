"""`python -m mammo.prepare`: decodes, crops and resizes every image once and saves it in a store."""

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mammo.config.calls.first_trainings import experiment_for, first_trainings
from mammo.config.calls.next_steps import call, ending
from mammo.config.checks import arguments_for, plain
from mammo.config.command import hydra_main
from mammo.sweeping.jobs.device_slots import visible_gpus


@hydra_main("prepare")
def main(cfg: DictConfig) -> None:
    from mammo.data.sources.reader import read_catalog
    from mammo.data.store.store import prepare

    store = prepare(read_catalog(plain(cfg.data)), **arguments_for(prepare, cfg.data))
    counts = store.manifest["counts"]
    for note, count in store.manifest["notes"].items():
        print(f"warning: {count} {'image' if count == 1 else 'images'}: {note}", file=sys.stderr)
    print(f"{counts['images']} images prepared, {counts['rejected']} rejected, {counts['lesions']} lesions")
    overrides = list(HydraConfig.get().overrides.task)
    size = (cfg.data.height, cfg.data.width)
    experiment = experiment_for(
        str(HydraConfig.get().runtime.choices["data"]),
        has_lesions=bool(store.lesions[["pathology", "x_min"]].notna().all(axis=1).any()),
        has_gpu=bool(visible_gpus()),
        prepared=size,
    )
    trainings = first_trainings(experiment, overrides, prepared=size)
    written = {"store": store.directory.absolute()}
    if counts["rejected"]:
        written["rejected"] = written["store"] / "rejected.csv"
    print(ending(written, *[*trainings, call("audit", *overrides)][:2]))


if __name__ == "__main__":
    main()
