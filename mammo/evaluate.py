"""`python -m mammo.evaluate`: evaluates a finished run; the only command that reads a test set."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mammo.api.configured_evaluation import evaluate_as_configured
from mammo.config.calls.next_steps import call, ending, tensorboard
from mammo.config.command import hydra_main
from mammo.runs.run_selection import select_runs


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    evaluation = evaluate_as_configured(cfg)
    print(f"{evaluation.text}\n\n{_ending(cfg, evaluation.folder)}")


def _ending(cfg: DictConfig, folder: Path | None) -> str:
    if folder is None:
        again = call("evaluate", predictions=cfg.predictions, output="runs/evaluation")
        return ending({}, again, call("evaluate", "--help"))
    written = {"written to": folder}
    if (page := folder / "report.html").exists():
        written["report"] = page
    if cfg.run is None:
        return ending(written, call("evaluate", "--help"), call("simulate"))
    names: list[str] = list(cfg.run) if OmegaConf.is_list(cfg.run) else [cfg.run]
    runs = [run for name in names for run in select_runs(name, key="run")[0]]
    first, table = runs[0], call("runs", folder=runs[0].path.parent)
    if cfg.split.value != "test" and first.has_test_images():
        run = names if len(names) > 1 else names[0]
        return ending(written, call("evaluate", run=run, split="test"), table)
    if len(runs) > 1:
        return ending(written, tensorboard(first.path.parent), table)
    return ending(written, call("export", run=first.path, output=first.path / "model.onnx"), table)


if __name__ == "__main__":
    main()
