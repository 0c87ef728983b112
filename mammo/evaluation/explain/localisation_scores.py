"""Localisation scores of a split, with intervals by patient: pointing game, IoU, heat inside and FROC."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.explain.drawn_lesions import GROUPS
from mammo.evaluation.explain.localisation import BASELINES, Floats, Marks
from mammo.evaluation.number_format import aligned, as_json, number_and_interval, parts
from mammo.evaluation.statistics.intervals import bootstrap, draw_patients, widest
from mammo.evaluation.statistics.jackknife import jackknife
from mammo.evaluation.statistics.proportions import clustered_wilson
from mammo.metrics import Estimate

# False positives per image at which the FROC reports the sensitivity.
FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0)


_POINTS = {
    "brightest": "the brightest point of the breast",
    "centre": "the centre of the breast",
    "random": "a random point of the breast",
}

# What the scores mean, for the reader of `metrics.json` and of the report.
METHOD = {
    "lesion": "the pixels of the lesion's mask, or of its box if it has no mask; the same for all scores",
    "mark": "a mark finds a lesion if it is on a pixel of the lesion, without a tolerance; the mark of a "
    "heatmap is the maximum of each region of at least half of the highest heat, that of a predicted box its "
    "centre",
    "pointing": "share of images whose first mark finds a lesion; 95 % Wilson interval with a design effect "
    "for the images of a patient",
    "pointing_above": "pointing game of the heatmap minus that of each baseline on the same images; 95 % "
    "interval by the jackknife of patients on Fisher's z scale",
    "iou": "pixels of the region with the highest heat, or of the predicted box, with those of the lesion "
    "that they overlap most; 95 % interval by the jackknife of patients on the logit scale",
    "heat_inside": "share of the heat on pixels of lesions; 95 % interval by the jackknife of patients on "
    "the logit scale",
    "froc": "share of lesions found by false marks per image; 95 % interval that contains Wilson's at the "
    "observed threshold and the percentile bootstrap of patients",
    "malignant": "the lesions that are malignant themselves; a mark on a benign lesion is a false mark",
    "left_out": "images without a drawn lesion (mask or box) or with an undrawn one; for malignant lesions "
    "also images with a lesion of unknown pathology",
}


def localise(
    marks: Mapping[str, Mapping[str, Sequence[Marks | None]]],
    *,
    malignant: NDArray[np.int64],
    scores: Floats,
    patients: NDArray[np.str_],
    rng: np.random.Generator,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Compute the localisation scores of each group of lesions and method, with intervals by patient.

    A candidate that finds no lesion of the group is a false positive, also in an image without such a lesion.
    Candidates of all images are ranked by their score times the score of the image.

    Args:
        marks: for each group of `GROUPS`, the marks of each method, N each, of the same images; None for an
            image that is left out.
        malignant: N, 1 for a malignant image and 0 for a benign one.
        scores: scores of malignancy of the images, N.
        patients: patient of each image, N.
        rng: random number generator of the resamples.
        resamples: number of resamples of the patients.

    Returns:
        For each group and method `pointing`, `iou`, `heat_inside` and `froc`, and for each method that is no
        baseline `pointing_above`, its pointing game minus that of each baseline. `froc` holds a score for
        each number of false positives per image, as text. Each score has `value`, `low` and `high`, None
        where undefined. `counts` holds for each group the number of `images`, of images `with_lesions`, of
        `lesions` and of images `left_out`; `method` says what the scores mean.
    """
    result: dict[str, Any] = {group: {} for group in marks}
    result["counts"] = {}
    result["method"] = METHOD
    for group, methods in marks.items():
        first = next(iter(methods.values()))
        kept = np.array([mark is not None for mark in first], bool)
        owners = patients[kept]
        draws = draw_patients(owners, malignant[kept], resamples=resamples, rng=rng)
        for method, every in methods.items():
            found = [mark for mark in every if mark is not None]
            curve = _Froc(found, scores=scores[kept])
            resampled = bootstrap(curve, draws, owners)
            result[group][method] = {
                "pointing": as_json(pointing_game(found, owners)),
                **{name: as_json(estimate) for name, estimate in _overlap(found, owners).items()},
                "froc": {
                    f"{most:g}": as_json(widest(curve.share_found(most, owners), [resampled[f"{most:g}"]]))
                    for most in FALSE_POSITIVES
                },
            }
        hits = {
            name: np.array([mark.hit for mark in every if mark is not None])
            for name, every in methods.items()
        }
        baselines = [name for name in BASELINES if name in hits]
        for method in hits.keys() - set(BASELINES) if baselines else ():
            result[group][method]["pointing_above"] = {
                name: as_json(_mean_difference(hits[method], hits[name], owners)) for name in baselines
            }
        lesions = np.array([mark.lesions for mark in first if mark is not None], np.int64)
        result["counts"][group] = {
            "images": len(lesions),
            "with_lesions": int((lesions > 0).sum()),
            "lesions": int(lesions.sum()),
            "left_out": int((~kept).sum()),
        }
    return result


def pointing_game(marks: Sequence[Marks], patients: NDArray[np.str_]) -> Estimate:
    """Return the share of the images with lesions whose first mark finds one; see `clustered_wilson`.

    Args:
        marks: marks of the images, N.
        patients: patient of each image, N.
    """
    hits = np.array([mark.hit for mark in marks])
    there = ~np.isnan(hits)
    return clustered_wilson(hits[there], patients[there])


def heat_verdict(found: Mapping[str, Any]) -> str | None:
    """Return sentences on how often the heat hits a lesion, and whether more often than the baselines.

    They are about malignant lesions, or about all lesions if no malignant one is drawn.

    Args:
        found: result of `localise`.

    Returns:
        The sentences; None if no lesion is drawn, or if the result is of an older version.
    """
    group = next((name for name in GROUPS if found["counts"][name]["with_lesions"]), None)
    scores = found[group] if group else {}
    method = next((name for name in scores if "pointing_above" in scores[name]), None)
    if method is None:
        return None
    share, low, high = parts(scores[method]["pointing"])
    above = scores[method]["pointing_above"]
    shares = {name: parts(scores[name]["pointing"])[0] or 0.0 for name in above}
    best = max(shares, key=lambda name: shares[name])
    *several, last = (f"{_POINTS[name]} in {_percent(shares[name])} %" for name in shares)
    points = " and ".join(filter(None, [", ".join(several), last]))
    difference, least, most = parts(above[best])
    if least is None or most is None:
        verdict = f"the difference from {_POINTS[best]} has no interval, so that it shows nothing"
    else:
        known = {least > 0: "more often than", most < 0: "less often than"}.get(
            True, "not shown to differ from"
        )
        verdict = (
            f"this is {known} {_POINTS[best]}: difference {_percent(difference)} points, 95 % interval "
            f"{_percent(least)} to {_percent(most)}"
        )
    limits = "" if low is None else f" (95 % interval {_percent(low)} to {_percent(high)})"
    kind = "a malignant lesion" if group == "malignant" else "a lesion"
    return (
        f"The hottest point of {method} is on {kind} in {_percent(share)} %{limits} of the "
        f"{found['counts'][group]['with_lesions']} images that have one, {points}; {verdict}."
    )


def localisation_table(found: Mapping[str, Any]) -> str:
    """Return the result of `localise` as a table to print, with `-` for undefined values."""
    rows = [["lesions", "method", "pointing game", "IoU", "heat inside", "found at 1 false mark"]]
    for group in GROUPS:
        for method, given in found[group].items():
            cells = [number_and_interval(given[name]) for name in ("pointing", "iou", "heat_inside")]
            rows.append([group, method, *cells, number_and_interval(given["froc"]["1"])])
    notes = [
        f"{found['counts'][group]['left_out']} images are left out of {group} lesions"
        for group in GROUPS
        if found["counts"][group]["left_out"]
    ]
    why = [f"left out: {METHOD['left_out']}"] if notes else []
    verdict = [found_verdict] if (found_verdict := heat_verdict(found)) else []
    return "\n".join([*aligned(rows), f"a lesion is {METHOD['lesion']}", *verdict, *notes, *why])


def _mean_difference(first: Floats, second: Floats, patients: NDArray[np.str_]) -> Estimate:
    """Return the mean of first minus second (N each, 0 or 1; NaN is left out) with its interval by patient.

    The interval is that of `jackknife` for (1 + mean) / 2, whose logit is twice Fisher's z of the mean.
    """
    difference = first - second
    there = ~np.isnan(difference)
    if not there.any():
        return Estimate(*[math.nan] * 4)

    def halved(weights: Floats) -> dict[str, Floats]:
        with np.errstate(invalid="ignore"):
            return {"mean": (1 + weights @ difference[there] / weights.sum(axis=1)) / 2}

    found = jackknife(halved, np.zeros(there.sum(), np.int64), patients[there])["mean"]
    return Estimate(2 * found.value - 1, 2 * found.low - 1, 2 * found.high - 1, 2 * found.standard_error)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f}".replace("-", "\N{MINUS SIGN}")


def _overlap(marks: Sequence[Marks], patients: NDArray[np.str_]) -> dict[str, Estimate]:
    """Return the means of IoU and heat inside over the images with lesions; see `jackknife`."""
    values = np.array([(mark.iou, mark.heat_inside) for mark in marks]).reshape(-1, 2)
    found = {}
    for name, single in zip(("iou", "heat_inside"), values.T, strict=True):
        there = ~np.isnan(single)
        if not there.any():
            found[name] = Estimate(*[math.nan] * 4)
            continue

        def mean(weights: Floats, single: Floats = single[there]) -> dict[str, Floats]:
            with np.errstate(invalid="ignore"):
                return {"mean": weights @ single / weights.sum(axis=1)}

        one_stratum = np.zeros(there.sum(), np.int64)
        found[name] = jackknife(mean, one_stratum, patients[there])["mean"]
    return found


class _Froc:
    """Highest sensitivity at each number of false positives per image, for many weightings at once.

    The FROC curve is that of Bunch et al. 1977, A free response approach to the measurement and
    characterization of radiographic observer performance, Proceedings of SPIE 127:124.

    Args:
        marks: marks of the images, N.
        scores: scores of the images, N.
    """

    def __init__(self, marks: Sequence[Marks], *, scores: Floats) -> None:
        self._lesions = np.array([mark.lesions for mark in marks], np.int64)
        images, ranks, true, false = [], [], [], []
        for index, mark in enumerate(marks):
            # only the best candidate of a lesion is a true positive
            fresh = mark.found & (np.cumsum(mark.found, axis=0) == 1)
            images.append(np.full(len(mark.scores), index))
            ranks.append(mark.scores * scores[index])
            true.append(fresh.sum(axis=1))
            false.append(~mark.found.any(axis=1))
        rank = np.concatenate(ranks or [np.zeros(0)])
        order = np.argsort(-rank, kind="stable")
        self._image = np.concatenate(images or [np.zeros(0, int)])[order]
        self._true = np.concatenate(true or [rank])[order].astype(np.float64)
        self._false = np.concatenate(false or [rank])[order].astype(np.float64)
        self._ends = np.flatnonzero(np.append(np.diff(rank[order]) != 0, True)[: len(order)])

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Return R sensitivities for each number of false positives, as text; NaN where undefined.

        Args:
            weights: weights of the images, R N.
        """
        true, rate = self._curve(weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            sensitivity = true / (weights @ self._lesions)[:, None]
        rows = np.arange(len(weights))
        return {f"{most:g}": sensitivity[rows, self._last(rate, most)] for most in FALSE_POSITIVES}

    def share_found(self, most: float, patients: NDArray[np.str_]) -> Estimate:
        """Return the share of lesions found at a threshold that is taken as fixed; see `clustered_wilson`.

        Args:
            most: largest number of false positives per image.
            patients: patient of each image, N.
        """
        _, rate = self._curve(np.ones((1, len(self._lesions))))
        ends = np.concatenate([[0], self._ends + 1])
        above = slice(0, ends[self._last(rate, most)[0]])
        found = np.bincount(self._image[above], self._true[above], minlength=len(self._lesions))
        first = np.repeat(np.cumsum(self._lesions) - self._lesions, self._lesions)  # lesion of each image
        hits = np.arange(len(first)) - first < np.repeat(found, self._lesions)
        return clustered_wilson(hits, np.repeat(patients, self._lesions))

    def _curve(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the number of lesions found and of false positives per image down to each threshold."""
        held = weights[:, self._image]
        start = np.zeros((len(weights), 1))
        true, false = (
            np.concatenate([start, np.cumsum(held * part, axis=1)[:, self._ends]], axis=1)
            for part in (self._true, self._false)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return true, false / weights.sum(axis=1, keepdims=True)

    @staticmethod
    def _last(rate: Floats, most: float) -> NDArray[np.int64]:
        """Return the index of the lowest threshold with at most this number of false positives per image."""
        return np.asarray((rate <= most + 1e-9).sum(axis=1) - 1)
