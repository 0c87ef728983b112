"""Tests of whether one model ranks the same images better than another."""

import itertools
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.number_format import as_json, finite, number, number_and_interval
from mammo.evaluation.predictions import Predictions, Reduce, Unit, aligned, by_unit
from mammo.evaluation.statistics.intervals import draw_patients, evaluate, interval
from mammo.evaluation.statistics.weighted_metrics import AucOnly
from mammo.metrics import clustered_covariance

_NORMAL = NormalDist()


def compare(
    runs: Mapping[str, Predictions],
    *,
    unit: Unit = "image",
    reduce: Reduce = "mean",
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the paired differences in AUC of malignancy for all pairs of models, as plain values for JSON.

    The bootstrap draws patients and evaluates all models on the same draws; its p-value is twice the smaller
    share of resampled differences on one side of zero. DeLong's test (1988) is used in Obuchowski's (1997)
    form for clusters, which is equal to DeLong's own if each patient has one unit. Holm's method (1979, A
    simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6:65) controls
    the probability of any false positive among all pairs.

    Args:
        runs: predictions of the same images, by name of the model; models of two and of four classes can be
            compared with each other.
        unit: unit that is ranked.
        reduce: how the scores of a unit's images become one score.
        resamples: number of resamples of the patients.
        seed: seed of the resamples.

    Returns:
        `n`; `models` with `name` and `auc`; `pairs` with `a`, `b`, `difference` (a minus b: value, low,
        high), `p_bootstrap`, `p_delong`, and both with Holm's adjustment as `..._holm`; `method`. None means
        undefined.

    Raises:
        DataError: the tables differ in images, patients or labels.
    """
    tables = aligned(list(runs.values()))
    units = [by_unit(table, unit, reduce=reduce) for table in tables]
    labels, clusters = units[0].label, units[0].cluster
    metrics = AucOnly({name: found.score for name, found in zip(runs, units, strict=True)}, labels)
    draws = draw_patients(clusters, labels, resamples=resamples, rng=np.random.default_rng(seed))
    value = {name: float(area[0]) for name, area in metrics(np.ones((1, len(labels)))).items()}
    resampled = evaluate(metrics, draws.weights(clusters))
    covariance = clustered_covariance(np.stack([found.score for found in units], axis=1), labels, clusters)
    pairs: list[dict[str, Any]] = []
    for (i, a), (j, b) in itertools.combinations(enumerate(runs), 2):
        difference, differences = value[a] - value[b], resampled[a] - resampled[b]
        variance = covariance[i, i] + covariance[j, j] - 2 * covariance[i, j]
        pairs.append(
            {
                "a": a,
                "b": b,
                "difference": _interval(difference, differences, enough=draws.enough),
                "p_bootstrap": bootstrap_p(differences) if draws.enough else math.nan,
                "p_delong": normal_p(difference, variance),
            }
        )
    for test in ("p_bootstrap", "p_delong"):
        adjusted = holm(np.array([pair[test] for pair in pairs]))
        for pair, p in zip(pairs, adjusted.tolist(), strict=True):
            pair[f"{test}_holm"] = finite(p)
            pair[test] = finite(pair[test])
    return {
        "n": {"units": len(labels), "patients": len(draws.patients), "malignant_units": int(labels.sum())},
        "models": [
            {"name": name, "auc": _interval(value[name], resampled[name], enough=draws.enough)}
            for name in runs
        ],
        "pairs": pairs,
        "method": {
            "unit": unit,
            "reduce": reduce,
            "interval": "percentile bootstrap of patients, the same draws for all models",
            "p_delong": "DeLong 1988 in Obuchowski's form for clusters, by patient",
            "adjustment": "Holm, over the pairs",
            "level": 0.95,
            "resamples": resamples,
            "seed": seed,
        },
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


def bootstrap_p(differences: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of R resampled differences, at least 2 / (R + 1); NaN if all are NaN."""
    there = differences[~np.isnan(differences)]
    if not there.size:
        return math.nan
    wrong = min((there <= 0).sum(), (there >= 0).sum())
    return min(1.0, 2 * (1 + int(wrong)) / (1 + there.size))


def normal_p(difference: float, variance: float) -> float:
    """Return the two-sided p-value of a difference; 1 for equal models, NaN if the variance is undefined."""
    if math.isnan(variance) or math.isnan(difference):
        return math.nan
    if difference == 0:
        return 1.0
    if variance <= 1e-15:  # zero except for rounding
        return math.nan
    return 2 * _NORMAL.cdf(-abs(difference) / math.sqrt(variance))


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Format the result of `compare` as a table to print, with `-` for undefined values."""
    width = max(len(model["name"]) for model in comparison["models"])
    unit = comparison["method"]["unit"]
    lines = [f"AUC by {unit}, {comparison['n']['units']} of {comparison['n']['patients']} patients"]
    lines += [
        f"{model['name']:<{width}}  {number_and_interval(model['auc'])}" for model in comparison["models"]
    ]
    lines += ["", f"{'a minus b':<{2 * width + 3}}  {'difference':<24}  p bootstrap (Holm)  p DeLong (Holm)"]
    for pair in comparison["pairs"]:
        bootstrapped, delong = (
            f"{number(pair[test], missing='-')} ({number(pair[f'{test}_holm'], missing='-')})"
            for test in ("p_bootstrap", "p_delong")
        )
        names = f"{pair['a']:<{width}} - {pair['b']:<{width}}"
        lines.append(f"{names}  {number_and_interval(pair['difference']):<24}  {bootstrapped:<18}  {delong}")
    return "\n".join(lines)


def _interval(value: float, resampled: NDArray[np.float64], *, enough: bool) -> dict[str, float | None]:
    estimate = interval(value, resampled)
    return as_json(estimate) | ({} if enough else {"low": None, "high": None})
