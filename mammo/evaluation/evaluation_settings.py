"""Settings and result of an evaluation, of one run or of several as one."""

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from omegaconf import DictConfig

from mammo.evaluation.predictions import Predictions, Reduce
from mammo.evaluation.statistics.calibration import Rule

if TYPE_CHECKING:  # these import PyTorch or Matplotlib, which takes seconds
    from mammo.evaluation.explain.heatmaps import Method
    from mammo.evaluation.report.figure_style import Figures
    from mammo.evaluation.scoring import Tta
    from mammo.evaluation.split_scoring import SplitName


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of an evaluation.

    Attributes:
        split: split to evaluate.
        folder: folder of the results.
        data: data to evaluate instead of the runs' own, if any.
        tta: see `Scorer`.
        heatmap: method of the heatmaps, see `Heatmaps`; `auto` is `map` for a network that has one, else
            `gradcam`; `none` leaves out heatmaps and localisation. Runs of patches and ensembles have none.
        heatmap_layer: module whose feature maps are used, see `Heatmaps`.
        hanging: whether pictures are drawn as mammograms hang, see `drawn_views`.
        reduce: how the scores of the images of a breast or patient become one score.
        prevalence: share of malignant units where the model is to be used, for PPV and NPV; None for none.
        rule: rule of the operating thresholds, which are fixed on the validation images, see
            `fit_calibration`.
        target: target value of `sensitivity` or `specificity`; not used by `youden`.
        resamples: number of resamples of the patients, for the intervals.
        seed: seed of the resamples.
        subgroups: columns of the subgroups with their cut points; None for the usual ones.
        report: whether to write the HTML report.
        name: name of the images in the report, such as `test` or `test-flips`; None uses `split`.
    """

    split: "SplitName"
    folder: Path
    data: DictConfig | None = None
    tta: "Tta" = "none"
    heatmap: "Method | Literal['auto', 'none']" = "auto"
    heatmap_layer: str | None = None
    hanging: bool = True
    reduce: Reduce = "mean"
    prevalence: float | None = None
    rule: Rule = "youden"
    target: float = 0.9
    resamples: int = 2000
    seed: int = 0
    subgroups: dict[str, list[float]] | None = None
    report: bool = True
    name: str | None = None

    def measures(self) -> dict[str, Any]:
        """Return the settings that are arguments of `measure_performance`."""
        names = ("reduce", "prevalence", "resamples", "seed", "subgroups")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        scored: uncalibrated scores of the images.
        metrics: AUC and other metrics with their intervals, the content of `metrics.json`.
        text: the metrics as tables of text.
        name: name of the images, such as `test` or `test-flips`.
        folder: folder with the files of the evaluation; None where none are written.
    """

    scored: Predictions
    metrics: dict[str, Any]
    text: str
    name: str
    folder: Path | None

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per image: `image_id`, `patient_id`, `label`, `score_<CLASS>` and others."""
        return self.scored.table

    @property
    def figures(self) -> "Figures":
        """Matplotlib figures of the report: `roc`, `reliability`, `confusion`, `subgroups` and others."""
        from mammo.evaluation.report.evaluation_report import figures_of, shown_name
        from mammo.evaluation.report.figure_style import Figures

        return Figures(figures_of(self.scored, self.metrics, split=shown_name(self.name)))

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"
