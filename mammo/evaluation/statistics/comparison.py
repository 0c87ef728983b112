"""Tests of whether one model ranks the same images, breasts, exams or patients better than another."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.data.samples import PLURALS
from mammo.errors import ConfigError
from mammo.evaluation.combined_predictions import aligned, aligned_units
from mammo.evaluation.number_format import aligned as columns
from mammo.evaluation.number_format import as_json, finite, interval, number_and_interval, p_value
from mammo.evaluation.predictions import Predictions, Reduce, Unit
from mammo.evaluation.statistics.fold_scores import ranked_within_folds
from mammo.metrics import (
    Estimate,
    auc_difference,
    clustered_auc,
    clustered_multiclass_auc,
    multiclass_auc_difference,
)


def compare(
    runs: Mapping[str, Predictions], *, unit: Unit | None = None, reduce: Reduce = "mean"
) -> dict[str, Any]:
    """Return the paired differences in AUC of malignancy for all pairs of models, as plain values for JSON.

    For a task without a positive class the AUC is the macro AUC of the classes.

    The test of a pair is the paired t test by patient of `auc_difference`; models of equal AUC differ at
    p < 0.05 in about 5 % of simulated sets, also with few malignant patients
    (`python -m mammo.simulate study=comparison`). Holm's method (1979, A simple sequentially rejective
    multiple test procedure, Scandinavian Journal of Statistics 6:65) controls the probability of any false
    positive among all pairs.

    Args:
        runs: predictions of the same images, by name of the model; models of two and of four classes can be
            compared with each other, and by breast or patient also models of images, breasts and exams. Of
            scores out of fold, the ranks within the folds are compared.
        unit: unit that is ranked; None for the samples of the models, or for breasts if these differ.
        reduce: how the scores of a unit's images become one score.

    Returns:
        `n`; `models` with `name` and `auc`; `pairs` with `a`, `b`, `difference` (a minus b: value, low,
        high), `p`, and `p_holm` with Holm's adjustment; `method`. None means undefined.

    Raises:
        ConfigError: `unit` is not that of the samples and the task has no positive class.
        DataError: the tables differ in samples or units, patients or labels.
    """
    first = next(iter(runs.values()))
    task = first.task
    if unit is None:
        unit = first.unit if all(run.unit == first.unit for run in runs.values()) else "breast"
    if not task.positive:
        if unit != first.unit:
            raise ConfigError(
                f"unit={unit}: the task {task.name} has no positive class, so a {unit} has no class; give "
                f"unit={first.unit}"
            )
        tables = aligned(list(runs.values()))
        return _compare_classes(dict(zip(runs, tables, strict=True)), reduce=reduce)
    units = aligned_units(list(runs.values()), unit, reduce=reduce)
    labels, clusters = units[0].label, units[0].cluster
    score = {
        # the network of each fold has its own scale
        name: found.score if found.fold is None else ranked_within_folds(found.score, found.fold)
        for name, found in zip(runs, units, strict=True)
    }
    return _compared(
        {name: clustered_auc(score[name], labels, clusters) for name in runs},
        {
            (a, b): auc_difference(score[a], score[b], labels, clusters)
            for a, b in itertools.combinations(runs, 2)
        },
        n={
            "units": len(labels),
            "patients": len(np.unique(clusters)),
            "malignant_units": int(labels.sum()),
            "malignant_patients": len(np.unique(clusters[labels == 1])),
        },
        method={
            "unit": unit,
            "reduce": reduce,
            "auc": "score interval by patient with a t quantile",
            "positive": task.words["positive"],
        },
    )


def _compare_classes(tables: Mapping[str, Predictions], *, reduce: Reduce) -> dict[str, Any]:
    """Return `compare` of the macro AUCs of tables with the same images in the same order."""
    first = next(iter(tables.values()))
    labels, patients = first.labels, first.patients
    return _compared(
        {name: clustered_multiclass_auc(table.scores, labels, patients) for name, table in tables.items()},
        {
            (a, b): multiclass_auc_difference(tables[a].scores, tables[b].scores, labels, patients)
            for a, b in itertools.combinations(tables, 2)
        },
        n={"units": len(labels), "patients": len(np.unique(patients))},
        method={
            "unit": first.unit,
            "reduce": reduce,
            "auc": "macro AUC of the classes, score interval by patient with a t quantile",
        },
    )


def _compared(
    areas: Mapping[str, Estimate],
    differences: Mapping[tuple[str, str], tuple[Estimate, float]],
    *,
    n: dict[str, int],
    method: dict[str, str],
) -> dict[str, Any]:
    """Return the result of `compare` from the AUC of each model, and difference and p-value of each pair."""
    pairs: list[dict[str, Any]] = [
        {"a": a, "b": b, "difference": as_json(difference), "p": finite(p)}
        for (a, b), (difference, p) in differences.items()
    ]
    adjusted = holm(np.array([math.nan if pair["p"] is None else pair["p"] for pair in pairs]))
    for pair, p in zip(pairs, adjusted.tolist(), strict=True):
        pair["p_holm"] = finite(p)
    return {
        "n": n,
        "models": [{"name": name, "auc": as_json(area)} for name, area in areas.items()],
        "pairs": pairs,
        "method": method
        | {"difference": "paired t test by patient", "adjustment": "Holm, over the pairs", "level": 0.95},
    }


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Holm's adjusted p-values; NaN (the test is undefined) is not counted and stays NaN.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(6).tolist()
        [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)  # NaN last
    tests = int((~np.isnan(p)).sum())
    running = 0.0
    for rank, position in enumerate(order[:tests]):
        running = max(running, min(1.0, (tests - rank) * float(p[position])))
        adjusted[position] = running
    return adjusted


def verdict(comparison: Mapping[str, Any]) -> str:
    """Return which runs rank better, in one sentence.

    Example:
        >>> difference = {"value": -0.03, "low": -0.05, "high": -0.01}
        >>> pair = {"a": "resnet18", "b": "resnet34", "difference": difference, "p": 0.01, "p_holm": 0.01}
        >>> verdict({"pairs": [pair], "method": {"level": 0.95}})
        'resnet34 ranks better than resnet18: AUC higher by 0.030 (0.010 to 0.050), p 0.010.'
    """
    tested = [pair for pair in comparison["pairs"] if pair["p_holm"] is not None]
    if not tested:
        return "No difference can be tested: the images are of one class, or too few."
    name_of_p = "p" if len(tested) == 1 else "p after Holm"
    alpha = 1 - comparison["method"]["level"]
    clear = sorted(
        (pair for pair in tested if pair["p_holm"] < alpha), key=lambda pair: float(pair["p_holm"])
    )
    if not clear:
        largest = max(tested, key=lambda pair: abs(pair["difference"]["value"]))
        better, worse, margin = _ordered(largest)
        which = "The difference is" if len(tested) == 1 else f"None of {len(tested)} pairs differs"
        which += " not clear of chance: " if len(tested) == 1 else " beyond chance; the largest difference: "
        return f"{which}{better} above {worse} by {margin}, {name_of_p} {p_value(largest['p_holm'])}."
    sentences = []
    for pair in clear[:_MOST_IN_VERDICT]:
        better, worse, margin = _ordered(pair)
        p = p_value(pair["p_holm"])
        sentences.append(f"{better} ranks better than {worse}: AUC higher by {margin}, {name_of_p} {p}")
    count = "" if len(tested) == 1 else f" {len(clear)} of {len(tested)} pairs differ beyond chance."
    return f"{'; '.join(sentences)}.{count}"


_MOST_IN_VERDICT = 3  # pairs


def _ordered(pair: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the better run, the worse run, and the difference with its interval as text."""
    value, low, high = (pair["difference"][part] for part in ("value", "low", "high"))
    better, worse = pair["a"], pair["b"]
    if value < 0:
        better, worse = worse, better
        value, low, high = (None if part is None else -part for part in (value, high, low))
    spread = interval({"value": value, "low": low, "high": high})
    return better, worse, f"{value:.3f}{f' ({spread})' if spread else ''}"


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Format the result of `compare` as a table to print, with `-` for undefined values."""
    width = max(len(model["name"]) for model in comparison["models"])
    unit = comparison["method"]["unit"]
    n = comparison["n"]
    units = n["units"] if unit == "patient" else f"{n['units']} {PLURALS[unit]} of {n['patients']}"
    lines = [f"AUC by {unit}: {units} patients"]
    lines += [
        f"{model['name']:<{width}}  {number_and_interval(model['auc'])}" for model in comparison["models"]
    ]
    rows = [["a minus b", "difference", "p", "p (Holm)"]]
    for pair in comparison["pairs"]:
        p, adjusted = (p_value(pair[name], missing="-") for name in ("p", "p_holm"))
        rows.append([f"{pair['a']} - {pair['b']}", number_and_interval(pair["difference"]), p, adjusted])
    lines += ["", *columns(rows)]
    return "\n".join(lines)
