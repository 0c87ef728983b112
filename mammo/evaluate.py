"""`python -m mammo.evaluate`: evaluates a finished run; the only command that reads a test set."""

from omegaconf import DictConfig

from mammo.api.configured_evaluation import evaluate_as_configured
from mammo.config.command import hydra_main


@hydra_main("evaluate")
def main(cfg: DictConfig) -> None:
    evaluation = evaluate_as_configured(cfg)
    print(evaluation.text)
    if evaluation.folder is not None:
        print(f"written to {evaluation.folder}")


if __name__ == "__main__":
    main()
