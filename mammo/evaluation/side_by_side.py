"""Pictures of the same samples with the heat of several runs."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mammo.errors import ConfigError
from mammo.evaluation.explain.heatmaps import Heatmaps, default_method
from mammo.evaluation.explain.overlays import draw_views, save_picture
from mammo.evaluation.heatmap_evaluation import score_shown, views_of_units
from mammo.evaluation.predictions import Predictions
from mammo.evaluation.report.comparison_report import Pictured
from mammo.evaluation.split_scoring import SplitName, open_split
from mammo.runs import RunFolder

_WIDTH = 480  # of a view, pixels


def draw_side_by_side(
    runs: Mapping[str, RunFolder],
    predictions: Mapping[str, Predictions],
    *,
    split: SplitName,
    number: int,
    folder: Path,
) -> list[Pictured]:
    """Draw samples with the heat of each run, as in its report, and the true boxes of the lesions.

    The samples are evenly spaced among those that have the box of a lesion, in the order of their names, so
    that no score has a part in the choice.

    Args:
        runs: finished runs that score the same samples, by name.
        predictions: their scores.
        split: split of the samples.
        number: largest number of samples.
        folder: folder for the pictures, created if it does not exist.

    Raises:
        ConfigError: the runs have no sample with a lesion's box in common, or are of patches.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen: list[str] = []
    scores: dict[str, dict[str, float]] = {}
    pictures: dict[str, dict[str, Path]] = {}
    for place, (name, run) in enumerate(runs.items(), start=1):
        opened = open_split(run, split)
        dataset = opened.dataset
        if dataset.sample_unit == "patch":
            raise ConfigError("pictures: a run of patches has no heatmaps of images; give pictures=0")
        unit_of = {sample: unit for unit, sample in enumerate(dataset.units["sample_id"])}
        if not chosen:
            shared = set.intersection(*({*table.samples.tolist()} for table in predictions.values()))
            boxes = dataset.boxes(dataset.first_of_units)
            drawn = [bool(np.isfinite(each).any()) for each in boxes]
            names = sorted(name for name, unit in unit_of.items() if drawn[unit] and name in shared)
            if not names:
                raise ConfigError(
                    "pictures: the runs have no sample with the box of a lesion in common; give pictures=0"
                )
            ends = np.linspace(0, len(names) - 1, min(number, len(names)))
            chosen = [names[round(end)] for end in ends]
        one = dataset.batch([0])["image"].to(opened.scorer.device)
        heatmaps = Heatmaps(opened.scorer.classifier, method=default_method(opened.scorer.classifier, one))
        views = views_of_units(opened, heatmaps, [unit_of[sample] for sample in chosen])
        table = predictions[name]
        row_of = {sample: row for row, sample in enumerate(table.samples.tolist())}
        for row, sample in enumerate(chosen, start=1):
            file = folder / f"{row:02}-{place}.jpg"
            save_picture(file, draw_views(views[unit_of[sample]], "", width=_WIDTH))
            pictures.setdefault(sample, {})[name] = file
            scores.setdefault(sample, {})[name] = score_shown(table, row_of[sample])[0]
    first = next(iter(predictions.values()))
    label_of = dict(zip(first.samples.tolist(), first.table["label"].astype(str), strict=True))
    return [Pictured(sample, label_of[sample], scores[sample], pictures[sample]) for sample in chosen]
