"""Localisation scores of a split with intervals by patient: pointing game, IoU, heat inside and FROC."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.explain.localisation import Floats, Marks
from mammo.evaluation.statistics.intervals import bootstrap, draw_patients
from mammo.metrics import Estimate

# False positives per image at which the FROC reports the sensitivity.
FALSE_POSITIVES = (0.25, 0.5, 1.0, 2.0)


def localise(
    marks: Mapping[str, Sequence[Marks]],
    *,
    malignant: NDArray[np.int64],
    scores: Floats,
    patients: NDArray[np.str_],
    rng: np.random.Generator,
    resamples: int = 2000,
) -> dict[str, Any]:
    """How well the methods find the lesions, with intervals by resampling patients.

    `malignant` looks for the lesions of malignant images, and a candidate anywhere else, in benign images
    too, is a false positive; `all` looks for all lesions. Candidates are ranked over the images by their
    score times the image's score.

    Args:
        marks: by method, N each, of the same images.
        malignant: N, 1 for a malignant image and 0 for a benign one.
        scores: N, of malignancy.
        patients: N, of each image.
        rng: draws the patients.
        resamples: number of resamples of the patients.

    Returns:
        `malignant` and `all`, each by method `pointing`, `iou`, `heat_inside` and, by the false positives
        per image as text, `froc`: `value`, `low` and `high` of each, None where undefined. `counts` has for
        both the `images`, those of them `with_lesions`, and the `lesions`.
    """
    draws = draw_patients(patients, malignant, resamples=resamples, rng=rng)
    groups = {"malignant": malignant == 1, "all": np.ones(len(malignant), bool)}
    result: dict[str, Any] = {group: {} for group in groups}
    counts = np.array([mark.lesions for mark in next(iter(marks.values()))], np.int64)
    for group, wanted in groups.items():
        for method, found in marks.items():
            measures = _Measures(found, wanted=wanted, scores=scores)
            result[group][method] = _nested(bootstrap(measures, draws, patients))
    result["counts"] = {
        group: {
            "images": int(wanted.sum()),
            "with_lesions": int((counts[wanted] > 0).sum()),
            "lesions": int(counts[wanted].sum()),
        }
        for group, wanted in groups.items()
    }
    return result


def localisation_table(found: Mapping[str, Any]) -> str:
    """What `localise` found as a table to print, `-` for what is undefined."""

    def cell(estimate: Mapping[str, float | None]) -> str:
        value, low, high = (estimate[name] for name in ("value", "low", "high"))
        if value is None:
            return "-"
        return f"{value:.3f}" if low is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"

    rows = [["lesions", "method", "pointing game", "IoU", "heat inside", "found at 1 false mark"]]
    for group in ("malignant", "all"):
        for method, given in found[group].items():
            cells = [cell(given[name]) for name in ("pointing", "iou", "heat_inside")]
            rows.append([group, method, *cells, cell(given["froc"]["1"])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


class _Measures:
    """The measures of one method by name, for many weightings of the images at once.

    Args:
        marks: N.
        wanted: N, whether the image's lesions are looked for; of the others every candidate is false.
        scores: N, of the images.
    """

    def __init__(self, marks: Sequence[Marks], *, wanted: NDArray[np.bool_], scores: Floats) -> None:
        self._lesions = np.array([mark.lesions for mark in marks], np.float64) * wanted
        self._single = {
            "pointing": np.array([mark.hit for mark in marks]),
            "iou": np.array([mark.iou for mark in marks]),
            "heat_inside": np.array([mark.heat_inside for mark in marks]),
        }
        for values in self._single.values():
            values[~wanted] = math.nan
        images, ranks, true, false = [], [], [], []
        for index, mark in enumerate(marks):
            found = mark.found if wanted[index] else mark.found[:, :0]
            best = np.argsort(-mark.scores, kind="stable")
            # a lesion is found once, by the best of its candidates
            fresh = found[best] & (np.cumsum(found[best], axis=0) == 1)
            images.append(np.full(len(best), index))
            ranks.append(mark.scores[best] * scores[index])
            true.append(fresh.sum(axis=1))
            false.append(~found[best].any(axis=1))
        rank = np.concatenate(ranks)
        order = np.argsort(-rank, kind="stable")
        self._image = np.concatenate(images)[order]
        self._true = np.concatenate(true)[order].astype(np.float64)
        self._false = np.concatenate(false)[order].astype(np.float64)
        self._ends = np.flatnonzero(np.append(np.diff(rank[order]) != 0, True)[: len(order)])

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """R values of each measure, NaN where undefined.

        Args:
            weights: R N.
        """
        values = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, single in self._single.items():
                there = np.flatnonzero(~np.isnan(single))
                held = weights[:, there]
                values[name] = held @ single[there] / held.sum(axis=1)
            return values | self._froc(weights)

    def _froc(self, weights: Floats) -> dict[str, Floats]:
        """The highest sensitivities at the given numbers of false positives per image.

        Bunch et al. 1977, A free response approach to the measurement and characterization of
        radiographic observer performance, Proceedings of SPIE 127:124.
        """
        held = weights[:, self._image]
        start = np.zeros((len(weights), 1))
        true, false = (
            np.concatenate([start, np.cumsum(held * part, axis=1)[:, self._ends]], axis=1)
            for part in (self._true, self._false)
        )
        sensitivity = true / (weights @ self._lesions)[:, None]
        rate = false / weights.sum(axis=1, keepdims=True)
        rows = np.arange(len(weights))
        return {
            f"froc {most:g}": sensitivity[rows, (rate <= most + 1e-9).sum(axis=1) - 1]
            for most in FALSE_POSITIVES
        }


def _nested(estimates: dict[str, Estimate]) -> dict[str, Any]:
    """By measure, those of the FROC by false positives; None for NaN."""
    plain = {
        name: {
            key: None if math.isnan(number) else number
            for key, number in (("value", found.value), ("low", found.low), ("high", found.high))
        }
        for name, found in estimates.items()
    }
    froc = {name.removeprefix("froc "): plain.pop(name) for name in list(plain) if name.startswith("froc ")}
    return {**plain, "froc": froc}
