"""`python -m mammo.export`: exports a run as one file, with the preprocessing in its metadata."""

from pathlib import Path

from omegaconf import DictConfig

from mammo.config.calls.next_steps import call, ending
from mammo.config.command import hydra_main
from mammo.errors import ConfigError
from mammo.fast_imports import quick_imports
from mammo.runs import RunFolder


@hydra_main("export")
def main(cfg: DictConfig) -> None:
    run, output = RunFolder.find(cfg.run, key="run"), Path(cfg.output)
    if output.is_dir() or not output.absolute().parent.is_dir():
        reason = "is a folder" if output.is_dir() else "its folder does not exist"
        raise ConfigError(f"output={output}: {reason}; name a file, such as model.{cfg.format}")

    from mammo.runs.provenance import checkpoint_of

    checkpoint_of(run)
    # importing PyTorch takes seconds, so errors in the configuration are reported before
    with quick_imports():
        from mammo.evaluation.model_export import export

    print(export(run, format=cfg.format, output=output))
    size = f"{output.stat().st_size / 1e6:.1f} MB"
    print(
        ending(
            {"written to": f"{output}, {size}"},
            call("evaluate", run=run.path, split="test"),
            call("runs", folder=run.path.parent),
        )
    )


if __name__ == "__main__":
    main()
