"""Localisation scores of a split, with intervals by patient: pointing game, IoU, heat inside and FROC."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mammo.evaluation.explain.localisation import Floats, Marks
from mammo.evaluation.number_format import aligned, as_json, number_and_interval
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
    """Compute the localisation scores of each method, with intervals by resampling patients.

    `malignant` counts the lesions of malignant images; any other candidate, also in a benign image, is a
    false positive. `all` counts all lesions. Candidates of all images are ranked by their score times the
    score of the image.

    Args:
        marks: marks of each method, N each, of the same images.
        malignant: N, 1 for a malignant image and 0 for a benign one.
        scores: scores of malignancy of the images, N.
        patients: patient of each image, N.
        rng: random number generator of the resamples.
        resamples: number of resamples of the patients.

    Returns:
        `malignant` and `all`, which hold for each method `pointing`, `iou`, `heat_inside` and `froc`. `froc`
        holds a score for each number of false positives per image, as text. Each score has `value`, `low` and
        `high`, None where undefined. `counts` holds for both groups the number of `images`, of images
        `with_lesions` and of `lesions`.
    """
    draws = draw_patients(patients, malignant, resamples=resamples, rng=rng)
    groups = {"malignant": malignant == 1, "all": np.ones(len(malignant), bool)}
    result: dict[str, Any] = {group: {} for group in groups}
    counts = np.array([mark.lesions for mark in next(iter(marks.values()))], np.int64)
    for group, included in groups.items():
        for method, found in marks.items():
            measures = _Measures(found, included=included, scores=scores)
            result[group][method] = _nested(bootstrap(measures, draws, patients))
    result["counts"] = {
        group: {
            "images": int(included.sum()),
            "with_lesions": int((counts[included] > 0).sum()),
            "lesions": int(counts[included].sum()),
        }
        for group, included in groups.items()
    }
    return result


def localisation_table(found: Mapping[str, Any]) -> str:
    """Return the result of `localise` as a table to print, with `-` for undefined values."""

    rows = [["lesions", "method", "pointing game", "IoU", "heat inside", "found at 1 false mark"]]
    for group in ("malignant", "all"):
        for method, given in found[group].items():
            cells = [number_and_interval(given[name]) for name in ("pointing", "iou", "heat_inside")]
            rows.append([group, method, *cells, number_and_interval(given["froc"]["1"])])
    return "\n".join(aligned(rows))


class _Measures:
    """Compute the measures of one method by name, for many weightings of the images at once.

    Args:
        marks: marks of the images, N.
        included: N, whether the lesions of an image count; every candidate in the other images is a false
            positive.
        scores: scores of the images, N.
    """

    def __init__(self, marks: Sequence[Marks], *, included: NDArray[np.bool_], scores: Floats) -> None:
        self._lesions = np.array([mark.lesions for mark in marks], np.float64) * included
        self._single = {
            "pointing": np.array([mark.hit for mark in marks]),
            "iou": np.array([mark.iou for mark in marks]),
            "heat_inside": np.array([mark.heat_inside for mark in marks]),
        }
        for values in self._single.values():
            values[~included] = math.nan
        images, ranks, true, false = [], [], [], []
        for index, mark in enumerate(marks):
            found = mark.found if included[index] else mark.found[:, :0]
            best = np.argsort(-mark.scores, kind="stable")
            # only the best candidate of a lesion is a true positive
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
        """Return R values of each measure, NaN where undefined.

        Args:
            weights: weights of the images, R N.
        """
        values = {}
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, single in self._single.items():
                there = np.flatnonzero(~np.isnan(single))
                held = weights[:, there]
                values[name] = held @ single[there] / held.sum(axis=1)
            return values | self._froc(weights)

    def _froc(self, weights: Floats) -> dict[str, Floats]:
        """Return the highest sensitivity at each number of false positives per image.

        The FROC curve is that of Bunch et al. 1977, A free response approach to the measurement and
        characterization of radiographic observer performance, Proceedings of SPIE 127:124.
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
    """Return the estimates as dictionaries, those of the FROC under `froc`, with None for NaN."""
    plain = {name: as_json(found) for name, found in estimates.items()}
    froc = {name.removeprefix("froc "): plain.pop(name) for name in list(plain) if name.startswith("froc ")}
    return {**plain, "froc": froc}
