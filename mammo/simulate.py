"""`python -m mammo.simulate`: checks the statistics of an evaluation on data with a known truth."""

import math
from pathlib import Path

from omegaconf import DictConfig

from mammo.atomic_files import report_unwritable
from mammo.config.calls.next_steps import call, ending
from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports


@hydra_main("simulate")
def main(cfg: DictConfig) -> None:
    if cfg.replicates < 1:
        raise ConfigError(f"replicates={cfg.replicates}: must be at least 1")

    with quick_imports():
        import pandas as pd

        from mammo.simulation.studies import STUDIES

    table = pd.DataFrame(STUDIES[cfg.study.value](replicates=cfg.replicates, seed=cfg.seed))
    print(table.to_string(index=False, float_format="{:.3f}".format))
    largest = 0.5 / math.sqrt(cfg.replicates)
    print(f"{cfg.replicates} replicates: the standard error of a share is at most {largest:.3f}")
    if cfg.output is not None:
        with report_unwritable("output", output := Path(cfg.output)):
            table.to_csv(output, index=False)
    written = {} if cfg.output is None else {"written to": cfg.output}
    others = [study for study in type(cfg.study) if study != cfg.study]
    print(ending(written, *(call("simulate", study=study.value) for study in others[:2])))


if __name__ == "__main__":
    main()
