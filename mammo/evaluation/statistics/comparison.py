"""Tests of whether one model ranks the same images better than another."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.number_format import aligned as columns
from mammo.evaluation.number_format import as_json, finite, number, number_and_interval
from mammo.evaluation.predictions import Predictions, Reduce, Unit, aligned, by_unit
from mammo.metrics import auc_difference, clustered_auc


def compare(
    runs: Mapping[str, Predictions], *, unit: Unit = "image", reduce: Reduce = "mean"
) -> dict[str, Any]:
    """Return the paired differences in AUC of malignancy for all pairs of models, as plain values for JSON.

    The test of a pair is the paired t test by patient of `auc_difference`; models of equal AUC differ at
    p < 0.05 in about 5 % of simulated sets, also with few malignant patients
    (`python -m mammo.simulate study=comparison`). Holm's method (1979, A simple sequentially rejective
    multiple test procedure, Scandinavian Journal of Statistics 6:65) controls the probability of any false
    positive among all pairs.

    Args:
        runs: predictions of the same images, by name of the model; models of two and of four classes can be
            compared with each other.
        unit: unit that is ranked.
        reduce: how the scores of a unit's images become one score.

    Returns:
        `n`; `models` with `name` and `auc`; `pairs` with `a`, `b`, `difference` (a minus b: value, low,
        high), `p`, and `p_holm` with Holm's adjustment; `method`. None means undefined.

    Raises:
        DataError: the tables differ in images, patients or labels.
    """
    tables = aligned(list(runs.values()))
    units = [by_unit(table, unit, reduce=reduce) for table in tables]
    labels, clusters = units[0].label, units[0].cluster
    score = {name: found.score for name, found in zip(runs, units, strict=True)}
    pairs: list[dict[str, Any]] = []
    for a, b in itertools.combinations(runs, 2):
        difference, p = auc_difference(score[a], score[b], labels, clusters)
        pairs.append({"a": a, "b": b, "difference": as_json(difference), "p": finite(p)})
    adjusted = holm(np.array([math.nan if pair["p"] is None else pair["p"] for pair in pairs]))
    for pair, p in zip(pairs, adjusted.tolist(), strict=True):
        pair["p_holm"] = finite(p)
    return {
        "n": {
            "units": len(labels),
            "patients": len(np.unique(clusters)),
            "malignant_units": int(labels.sum()),
            "malignant_patients": len(np.unique(clusters[labels == 1])),
        },
        "models": [
            {"name": name, "auc": as_json(clustered_auc(score[name], labels, clusters))} for name in runs
        ],
        "pairs": pairs,
        "method": {
            "unit": unit,
            "reduce": reduce,
            "auc": "score interval by patient with a t quantile",
            "difference": "paired t test by patient",
            "adjustment": "Holm, over the pairs",
            "level": 0.95,
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


def comparison_table(comparison: Mapping[str, Any]) -> str:
    """Format the result of `compare` as a table to print, with `-` for undefined values."""
    width = max(len(model["name"]) for model in comparison["models"])
    unit = comparison["method"]["unit"]
    lines = [f"AUC by {unit}, {comparison['n']['units']} of {comparison['n']['patients']} patients"]
    lines += [
        f"{model['name']:<{width}}  {number_and_interval(model['auc'])}" for model in comparison["models"]
    ]
    rows = [["a minus b", "difference", "p", "p (Holm)"]]
    for pair in comparison["pairs"]:
        p, adjusted = (number(pair[name], missing="-") for name in ("p", "p_holm"))
        rows.append([f"{pair['a']} - {pair['b']}", number_and_interval(pair["difference"]), p, adjusted])
    lines += ["", *columns(rows)]
    return "\n".join(lines)
