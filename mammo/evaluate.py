"""`python -m mammo.evaluate`: evaluates a finished run; the only command that reads a test set."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mammo.api.configured_evaluation import evaluate_as_configured
from mammo.config.calls.next_steps import call, ending
from mammo.config.command import hydra_main
from mammo.runs.run_selection import select_runs


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
    names: list[str] = list(cfg.run) if OmegaConf.is_list(cfg.run) else [cfg.run]
    runs = [run for name in names for run in select_runs(name, key="run")[0]]
    if cfg.split.value != "test" and runs[0].has_test_images():
        run = names if len(names) > 1 else names[0]
        return ending(written, call("evaluate", run=run, split="test"), call("runs"))
    if len(runs) > 1:
        return ending(written, call("runs"))
    return ending(written, call("export", run=runs[0].path, output=runs[0].path / "model.onnx"), call("runs"))


if __name__ == "__main__":
    main()
