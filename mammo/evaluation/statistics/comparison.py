"""Whether one model ranks better than another on the same images, or chance may have done it."""

import itertools
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    """Paired differences of the AUC of malignancy between all pairs of models, as plain values for JSON.

    The bootstrap draws patients, and judges all models on the same draws; its p-value is the share of
    resamples on the wrong side of no difference, twice. DeLong's test (1988) is taken in Obuchowski's (1997)
    form for clusters, which is DeLong's own where each patient has one unit. Holm (1979, A simple
    sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6:65) holds the chance
    of any false finding among all pairs.

    Args:
        runs: predictions of the same images by the models' names; models of four classes may be beside
            those of two.
        unit: that is ranked.
        reduce: how a unit's score is made of its images' scores.
        resamples: number of resamples of the patients.
        seed: seed of the resamples.

    Returns:
        `n`; `models` with `name` and `auc`; `pairs` with `a`, `b`, `difference` (a minus b: value, low,
        high), `p_bootstrap`, `p_delong`, and both as `..._holm`; `method`. None means
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
            pair[f"{test}_holm"] = _finite(p)
            pair[test] = _finite(pair[test])
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
    """Holm's adjusted p-values; NaN, a test that could not be made, is passed over and stays.

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
    """Two-sided p-value of no difference from R resampled ones, never below 2 / (R + 1); NaN of none."""
    there = differences[~np.isnan(differences)]
    if not there.size:
        return math.nan
    wrong = min((there <= 0).sum(), (there >= 0).sum())
    return min(1.0, 2 * (1 + int(wrong)) / (1 + there.size))


def normal_p(difference: float, variance: float) -> float:
    """Two-sided p-value of no difference; 1 for equal models, NaN where the variance is undefined."""
    if math.isnan(variance) or math.isnan(difference):
        return math.nan
    if difference == 0:
        return 1.0
    if variance <= 1e-15:  # nil but for rounding
        return math.nan
    return 2 * _NORMAL.cdf(-abs(difference) / math.sqrt(variance))


def comparison_table(found: Mapping[str, Any]) -> str:
    """What `compare` found as a table to print, `-` for what is undefined."""
    width = max(len(model["name"]) for model in found["models"])
    unit = found["method"]["unit"]
    lines = [f"AUC by {unit}, {found['n']['units']} of {found['n']['patients']} patients"]
    lines += [f"{model['name']:<{width}}  {_cell(model['auc'])}" for model in found["models"]]
    lines += ["", f"{'a minus b':<{2 * width + 3}}  {'difference':<24}  p bootstrap (Holm)  p DeLong (Holm)"]
    for pair in found["pairs"]:
        bootstrapped, delong = (
            f"{_number(pair[test])} ({_number(pair[f'{test}_holm'])})" for test in ("p_bootstrap", "p_delong")
        )
        names = f"{pair['a']:<{width}} - {pair['b']:<{width}}"
        lines.append(f"{names}  {_cell(pair['difference']):<24}  {bootstrapped:<18}  {delong}")
    return "\n".join(lines)


def _interval(value: float, resampled: NDArray[np.float64], *, enough: bool) -> dict[str, float | None]:
    estimate = interval(value, resampled)
    return {
        "value": _finite(value),
        "low": _finite(estimate.low) if enough else None,
        "high": _finite(estimate.high) if enough else None,
    }


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None


def _cell(estimate: Mapping[str, float | None]) -> str:
    bounds = f"[{_number(estimate['low'])}, {_number(estimate['high'])}]"
    return f"{_number(estimate['value'])} {bounds}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
