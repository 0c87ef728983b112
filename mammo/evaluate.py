"""`python -m mammo.evaluate`: evaluates a finished run; the only command that reads a test set."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mammo.api.configured_evaluation import evaluate_as_configured
from mammo.config.calls.next_steps import call, ending
from mammo.config.command import hydra_main


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    evaluation = evaluate_as_configured(cfg)
    print(f"{evaluation.text}\n\n{_ending(cfg, evaluation.folder)}")


def _ending(cfg: DictConfig, folder: Path | None) -> str:
    if folder is None:
        return ending({}, call("evaluate", predictions=cfg.predictions, output="runs/evaluation"))
    written = {"written to": folder}
    if (page := folder / "report.html").exists():
        written["report"] = page
    if cfg.run is None:
        return ending(written)
    run: Any = OmegaConf.to_container(cfg.run) if OmegaConf.is_list(cfg.run) else cfg.run
    if cfg.split.value != "test":
        return ending(written, call("evaluate", run=run, split="test"), call("runs"))
    if isinstance(run, str) and (Path(run) / "run.json").exists():
        return ending(written, call("export", run=run, output=Path(run) / "model.onnx"), call("runs"))
    return ending(written, call("compare", runs=run, split="test"), call("runs"))


if __name__ == "__main__":
    main()
