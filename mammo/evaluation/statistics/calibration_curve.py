"""Smooth calibration curve: share of positives by score, with a band by patient."""

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.statistics.intervals import draw_patients
from mammo.evaluation.statistics.weighted_metrics import Floats, expit, logit

# Quantiles of the log odds at which the three knots of the spline are (Harrell 2015, table 2.3). With four
# knots, 17 to 19 % of the fits of resamples of 60 and 120 simulated patients had no finite solution.
_KNOTS = (0.1, 0.5, 0.9)
_NEWTON_STEPS = 30
# Longest step of Newton's method in a coefficient of the standardised columns.
_LONGEST_STEP = 2.0


def spline_columns(values: Floats, knots: Floats) -> Floats:
    """Return N (K - 1) columns of a restricted cubic spline, which is linear beyond the outer knots.

    Harrell (2015, Regression modeling strategies, section 2.4.5).

    Args:
        values: N.
        knots: K, ascending, at least 3; with fewer, the only column is the values.
    """
    columns = [values]
    if len(knots) >= 3:
        last, before = knots[-1], knots[-2]
        cubes = np.clip(values[:, None] - knots, 0, None) ** 3  # N K
        for place in range(len(knots) - 2):
            columns.append(
                cubes[:, place]
                - cubes[:, -2] * (last - knots[place]) / (last - before)
                + cubes[:, -1] * (before - knots[place]) / (last - before)
            )
    return np.stack(columns, axis=1)


def calibration_curve(scores: Floats, labels: NDArray[np.int64], weights: Floats, *, at: Floats) -> Floats:
    """Return R curves of the share of positives at G scores; NaN where a fit has no finite solution.

    Logistic regression on a restricted cubic spline of the log odds of the score (Austin and Steyerberg 2014,
    Graphical assessment of internal and external calibration of logistic regression models by using loess
    smoothers, Statistics in Medicine 33:517, compare it with other smoothers). A calibrated score has the
    diagonal as its curve, without bias of the smoother.

    Args:
        scores: N, from 0 to 1.
        labels: N, 1 for positive and 0 for negative.
        weights: R N.
        at: G, scores at which the curves are evaluated.
    """
    log_odds = logit(scores)
    # knots at observed values, so that a score of few distinct values has no more knots than values
    knots = np.unique(np.quantile(log_odds, _KNOTS, method="closest_observation"))
    columns, wanted = spline_columns(log_odds, knots), spline_columns(logit(at), knots)
    centre, scale = columns.mean(axis=0), columns.std(axis=0)
    used = scale > 1e-12
    design, shown = (
        np.concatenate(
            [np.ones((len(part), 1)), ((part - centre) / np.where(used, scale, 1))[:, used]], axis=1
        )
        for part in (columns, wanted)
    )
    size = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), size * size)
    at_once = np.zeros((len(weights), size))
    found = np.full_like(at_once, np.nan)
    active = np.arange(len(weights))
    for _ in range(_NEWTON_STEPS):
        fitted = expit(at_once[active] @ design.T)
        held = weights[active]
        gradient = (held * (labels - fitted)) @ design
        curvature = ((held * fitted * (1 - fitted)) @ products).reshape(-1, size, size)
        solvable = np.linalg.cond(curvature) < 1e12
        active, gradient, curvature = active[solvable], gradient[solvable], curvature[solvable]
        step = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        at_once[active] += np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        done = (np.abs(step) < 1e-6).all(axis=1)
        found[active[done]] = at_once[active[done]]
        active = active[~done]
        if not active.size:
            break
    return expit(found @ shown.T)


def calibration_band(
    scores: Floats,
    labels: NDArray[np.int64],
    patients: NDArray[np.str_],
    *,
    at: Floats,
    resamples: int = 500,
    seed: int = 0,
) -> tuple[Floats, Floats] | None:
    """Return the limits of 95 % of the resampled curves at G scores; None without a band.

    Args:
        scores: N, from 0 to 1.
        labels: N, 1 for positive and 0 for negative.
        patients: N, patient of each image.
        at: G, scores at which the curves are evaluated.
        resamples: number of resamples of the patients.
        seed: seed of the resamples.
    """
    draws = draw_patients(patients, labels, resamples=resamples, rng=np.random.default_rng(seed))
    if not draws.enough:
        return None
    curves = calibration_curve(scores, labels, draws.weights(patients), at=at)
    there = ~np.isnan(curves).any(axis=1)
    if there.mean() < 0.95:
        return None
    low, high = np.quantile(curves[there], [0.025, 0.975], axis=0)
    return low, high
