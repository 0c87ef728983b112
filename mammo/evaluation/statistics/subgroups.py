"""Metrics by subgroup, and a test for each column of whether its subgroups have equal AUCs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from mammo.data.samples import PLURALS
from mammo.data.tables.table_files import shown
from mammo.data.tasks import MALIGNANCY, Task
from mammo.errors import DataError
from mammo.evaluation.combined_predictions import aligned
from mammo.evaluation.number_format import aligned as as_columns
from mammo.evaluation.number_format import as_json, finite, number, number_and_interval, p_value
from mammo.evaluation.predictions import Predictions, Reduce, Unit
from mammo.evaluation.statistics.clinical_metrics import calibration_in_the_large
from mammo.evaluation.statistics.comparison import compare, holm
from mammo.evaluation.statistics.headline_intervals import FEW
from mammo.evaluation.statistics.intervals import bootstrap, draw_patients
from mammo.evaluation.statistics.proportions import clustered_wilson
from mammo.evaluation.statistics.weighted_metrics import Floats, at_threshold, logit
from mammo.metrics import clustered_auc, patient_influence

COLUMNS = ("density", "abnormality_type", "view", "subtlety", "assessment", "laterality")
# Columns that the tables of some data sets have, and that are subgroups there.
FURTHER_COLUMNS = ("dataset", "cohort", "diagnosis", "manufacturer", "implant")
_MOST_GROUPS = 20  # of one column
Chosen: TypeAlias = Mapping[str, Sequence[float]]
_NO_GROUPS = ("sample_id", "unit", "image_id", "patient_id", "label", "fold")
_YEARS = r"^0*(\d+)[Yy]$"  # an age in a DICOM header, 045Y
_METRICS = ("auc", "sensitivity", "specificity", "calibration_in_the_large")


class _GroupMetrics:
    """Sensitivity and specificity at a threshold, and calibration-in-the-large, for each weighting.

    Args:
        scores: N.
        labels: N, 1 for positive and 0 for negative.
        threshold: score at or above which an image is called positive; NaN for none.
        probability: N, the scores that are meant as probabilities.
    """

    def __init__(
        self, scores: Floats, labels: NDArray[np.int64], *, threshold: float, probability: Floats
    ) -> None:
        self._labels = labels
        self._called = None if math.isnan(threshold) else scores >= threshold
        self._log_odds = logit(probability)

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        with np.errstate(divide="ignore", invalid="ignore"):
            values = {
                "calibration_in_the_large": calibration_in_the_large(self._log_odds, self._labels, weights),
            }
            if self._called is not None:
                decided = at_threshold(self._called, self._labels, weights)
                values |= {name: decided[name] for name in ("sensitivity", "specificity")}
        return values


def measure_subgroups(
    predictions: Predictions,
    *,
    probability: Floats,
    threshold: float,
    resamples: int,
    seed: int,
    columns: Chosen | None = None,
) -> list[dict[str, Any]]:
    """Return the metrics of each value of each non-empty column; missing values are the group None.

    A group without enough women of one kind has the metrics that need the other kind only.

    Args:
        predictions: predictions of the images.
        probability: N, the scores that are meant as probabilities: the calibrated ones, if there are any.
        threshold: operating threshold for images; NaN for none.
        resamples: number of resamples of the patients of each group.
        seed: seed of the resamples.
        columns: columns of the table of predictions -> ascending numbers at which its values are cut, empty
            for a group for each value; None for `COLUMNS`, and those of `FURTHER_COLUMNS` that there are with
            at most 20 values.

    Raises:
        DataError: there is no such column, or it has too many values or no numbers.

    Returns:
        For each group `column`, `value`, the numbers of samples `n` and `malignant`, of women `patients`,
        `malignant_patients` and `benign_patients` (a woman with samples of both kinds counts in both), and
        `auc`, `sensitivity`, `specificity` and `calibration_in_the_large` as `{"value", "low", "high"}` or
        None, with the reason as `note`.
    """
    groups: list[dict[str, Any]] = []
    for column, value, rows in _groups(predictions, columns):
        patients, labels = predictions.patients[rows], predictions.malignant[rows]
        women, note = _women(predictions, rows)
        group: dict[str, Any] = {
            "column": column,
            "value": value,
            "n": len(labels),
            "malignant": int(labels.sum()),
            "patients": len(np.unique(patients)),
            "malignant_patients": women["malignant"],
            "benign_patients": women["benign"],
            **dict.fromkeys(_METRICS),
            "note": note,
        }
        estimates: dict[str, Any] = {}
        if note is None:
            metrics = _GroupMetrics(
                predictions.malignancy[rows], labels, threshold=threshold, probability=probability[rows]
            )
            draws = draw_patients(patients, labels, resamples=resamples, rng=np.random.default_rng(seed))
            estimates = bootstrap(metrics, draws, patients)
            estimates["auc"] = clustered_auc(predictions.malignancy[rows], labels, patients)
        if not math.isnan(threshold):
            above = predictions.malignancy[rows] >= threshold
            for name, kind, held, right in (
                ("sensitivity", "malignant", 1, above),
                ("specificity", "benign", 0, ~above),
            ):
                if women[kind] >= FEW:
                    estimates[name] = clustered_wilson(right[labels == held], patients[labels == held])
        group |= {name: as_json(estimate) for name, estimate in estimates.items()}
        groups.append(group)
    return groups


def compare_subgroups(predictions: Predictions, *, columns: Chosen | None = None) -> list[dict[str, Any]]:
    """Test for each column whether the AUCs of its subgroups are equal.

    Wald's chi-square test of the differences of the logit AUCs. Each variance is that of `clustered_auc`;
    the correlations are those of the influence of each woman on the AUCs, so that the test holds for
    groups that share women, such as the views. The p-values of the columns are adjusted by Holm (1979).
    Missing values and groups that are too small are left out.

    Args:
        predictions: predictions of the images.
        columns: see `measure_subgroups`.

    Returns:
        For each column `column`, `groups` (number of groups compared), `chi_square`, `df`, `p` and `p_holm`;
        None where undefined, with the reason as `note`.
    """
    areas: dict[str, list[tuple[float, Floats]]] = {}
    _, woman = np.unique(predictions.patients, return_inverse=True)
    count = int(woman.max()) + 1
    for column, value, rows in _groups(predictions, columns):
        compared = areas.setdefault(column, [])
        if value is not None and _women(predictions, rows)[1] is None:
            scores, labels = predictions.malignancy[rows], predictions.malignant[rows]
            compared.append(_influence(scores, labels, woman[rows], count))
    tests: list[dict[str, Any]] = []
    for column, compared in areas.items():
        chi_square, p, note = math.nan, math.nan, None
        if len(compared) < 2:
            note = f"{len(compared)} groups of sufficient size, 2 needed"
        else:
            chi_square, p = _wald(
                np.array([area for area, _ in compared]), np.stack([u for _, u in compared])
            )
            if math.isnan(p):
                note = "an AUC is 0 or 1, or the groups do not differ"
        df = max(0, len(compared) - 1)
        tests.append(
            {
                "column": column,
                "groups": len(compared),
                "chi_square": chi_square,
                "df": df,
                "p": p,
                "note": note,
            }
        )
    for test, adjusted in zip(tests, holm(np.array([test["p"] for test in tests])).tolist(), strict=True):
        test |= {"chi_square": finite(test["chi_square"]), "p": finite(test["p"]), "p_holm": finite(adjusted)}
    return tests


def compare_in_subgroups(
    runs: Mapping[str, Predictions],
    *,
    columns: Chosen | None,
    unit: Unit | None = None,
    reduce: Reduce = "mean",
) -> list[dict[str, Any]]:
    """Compare models within each subgroup of their samples, as `compare` does on all of them.

    Args:
        runs: predictions of the same samples, by name of the model.
        columns: columns of the first table, see `measure_subgroups`; empty for none.
        unit: see `compare`.
        reduce: see `compare`.

    Returns:
        For each group `column`, `value`, `n`, `models` and `pairs`, see `compare`; `p_holm` is adjusted over
        the pairs of all groups of a column. A group without enough women of each kind has no `models` and
        `pairs`, and the reason as `note`.

    Raises:
        DataError: the models have different samples, or see `measure_subgroups`.
    """
    first = next(iter(runs.values()))
    check_subgroups(columns, first.table, task=first.task)
    if columns == {} or not first.task.positive:
        return []
    tables = aligned(list(runs.values()))
    groups: list[dict[str, Any]] = []
    for column, value, rows in _groups(first, columns):
        _, note = _women(first, rows)
        if note is not None:
            groups.append({"column": column, "value": value, "models": [], "pairs": [], "note": note})
            continue
        own = {name: table.take(rows) for name, table in zip(runs, tables, strict=True)}
        found = compare(own, unit=unit, reduce=reduce)
        kept = {name: found[name] for name in ("n", "models", "pairs")}
        groups.append({"column": column, "value": value, **kept, "note": None})
    for column in dict.fromkeys(group["column"] for group in groups):
        pairs = [pair for group in groups if group["column"] == column for pair in group["pairs"]]
        p = np.array([math.nan if pair["p"] is None else pair["p"] for pair in pairs])
        for pair, adjusted in zip(pairs, holm(p).tolist(), strict=True):
            pair["p_holm"] = finite(adjusted)
    return groups


def group_name(group: Mapping[str, Any]) -> str:
    """Return the column and the value of a group.

    Example:
        >>> group_name({"column": "density", "value": 2}), group_name({"column": "view", "value": None})
        ('density 2', 'view unknown')
    """
    return f"{group['column']} {'unknown' if group['value'] is None else group['value']}"


def compared_subgroups_table(groups: Sequence[Mapping[str, Any]]) -> str:
    """Format the result of `compare_in_subgroups` as a table to print."""
    rows = [["subgroup", "units", "a minus b", "difference", "p", "p (Holm)"]]
    for group in groups:
        name = group_name(group)
        if group["note"]:
            rows.append([name, "too few", *[""] * 4])
        for pair in group["pairs"]:
            p = [p_value(pair[key], missing="-") for key in ("p", "p_holm")]
            both = f"{pair['a']} - {pair['b']}"
            rows.append([name, str(group["n"]["units"]), both, number_and_interval(pair["difference"]), *p])
    return "\n".join(as_columns(rows))


def check_subgroups(columns: Chosen | None, table: pd.DataFrame, *, task: Task) -> None:
    """Check columns that are chosen for subgroups before anything is scored.

    Args:
        columns: see `measure_subgroups`.
        table: table of predictions, which may lack the scores.
        task: task of the scores.

    Raises:
        DataError: the task has no positive class, or see `measure_subgroups`.
    """
    for column, cuts in (columns or {}).items():
        if not task.positive:
            raise DataError(f"subgroups=[{column}]: the task {task.name} has no positive class; leave it out")
        if column not in table:
            known = [n for n in map(str, table) if not n.startswith("score_") and n not in _NO_GROUPS]
            choice = f"choose from {', '.join(known)}"
            raise DataError(f"subgroups=[{column}]: the data have no such column; {choice}")
        if table[column].isna().all():
            raise DataError(f"subgroups=[{column}]: is empty, or differs within each sample; leave it out")
        _cut(table[column], cuts)


def _women(predictions: Predictions, rows: NDArray[np.bool_]) -> tuple[dict[str, int], str | None]:
    """Return the number of women with benign and with malignant samples, and why these are too few, if so."""
    patients, labels = predictions.patients[rows], predictions.malignant[rows]
    women = {
        name: len(np.unique(patients[labels == label])) for label, name in enumerate(("benign", "malignant"))
    }
    words, samples = predictions.task.words, PLURALS[predictions.unit]
    called = {"benign": words["negative"], "malignant": words["positive"]}
    few = [(n, called[name]) for name, n in women.items() if n < FEW]
    each = " and ".join(f"{n} {'woman' if n == 1 else 'women'} with {name} {samples}" for n, name in few)
    return women, f"too few: {each}, {FEW} needed" if few else None


def _groups(
    predictions: Predictions, columns: Chosen | None
) -> Iterator[tuple[str, str | int | None, NDArray[np.bool_]]]:
    """Yield column, value and rows of each group that is not empty."""
    table = predictions.table
    if columns is None:
        further = [
            name for name in FURTHER_COLUMNS if name in table and table[name].nunique() <= _MOST_GROUPS
        ]
        columns = dict.fromkeys((*COLUMNS, *further), ())
    for column, cuts in columns.items():
        values, order = _cut(table[column], cuts)
        if values.isna().all() or (column == "view" and predictions.unit in ("breast", "exam")):
            continue
        for value in [*order, None]:
            rows = (values.isna() if value is None else values == value).fillna(value=False)
            if rows.any():
                yield column, value, rows.to_numpy(dtype=bool)


def _cut(values: "pd.Series[Any]", cuts: Sequence[float]) -> tuple["pd.Series[Any]", list[Any]]:
    """Return the group of each value, and all groups in their order."""
    if not cuts:
        order = sorted(values.dropna().unique().tolist())
        if len(order) > _MOST_GROUPS:
            raise DataError(
                f"subgroups=[{values.name}]: has {len(order)} values, at most {_MOST_GROUPS} are compared; "
                f"give numbers at which to cut it, subgroups=[{{{values.name}:[50,70]}}]"
            )
        return values, order
    text = values.astype("string").str.replace(_YEARS, r"\1", regex=True)
    numbers = pd.to_numeric(text, errors="coerce")
    wrong = text[text.notna() & numbers.isna()]
    if len(wrong):
        word = shown(wrong.iloc[0])
        raise DataError(f"subgroups=[{values.name}]: '{word}' is no number; leave out the cut points")
    inner = [f"{low:g} to < {high:g}" for low, high in pairwise(cuts)]
    order = [f"< {cuts[0]:g}", *inner, f">= {cuts[-1]:g}"]
    place = np.searchsorted(np.asarray(cuts, float), numbers.fillna(0).to_numpy(float), side="right")
    return pd.Series(np.array(order)[place], values.index, "string").mask(numbers.isna()), order


def _influence(
    scores: Floats, labels: NDArray[np.int64], woman: NDArray[np.intp], count: int
) -> tuple[float, Floats]:
    """Return the AUC of a group, and the influence of each of `count` women on it.

    The sum of the squared influences is the variance of `clustered_auc`.
    """
    estimate = clustered_auc(scores, labels, woman)
    shift = patient_influence(scores, labels, woman, count, estimate.value).sum(axis=0)
    length = float(np.linalg.norm(shift))
    return estimate.value, shift * (estimate.standard_error / length if length else 0.0)


def _wald(areas: Floats, influence: Floats) -> tuple[float, float]:
    """Return chi-square and p-value of the hypothesis that G logit AUCs are equal; NaN if undefined.

    Args:
        areas: G.
        influence: G P, of each woman on each AUC.
    """
    if ((areas <= 0) | (areas >= 1)).any():
        return math.nan, math.nan
    scaled = influence / (areas * (1 - areas))[:, None]
    differences = np.diff(logit(areas))
    covariance = np.diff(scaled, axis=0) @ np.diff(scaled, axis=0).T
    if np.linalg.matrix_rank(covariance, hermitian=True) < len(differences):
        return math.nan, math.nan
    chi_square = float(differences @ np.linalg.solve(covariance, differences))
    return chi_square, float(chdtrc(len(differences), chi_square))


def subgroups_table(
    groups: Sequence[Mapping[str, Any]],
    tests: Sequence[Mapping[str, Any]],
    words: Mapping[str, str] = MALIGNANCY,
    *,
    samples: str = "images",
) -> list[str]:
    """Format the results of `measure_subgroups` and `compare_subgroups` as the lines of two tables.

    Args:
        groups: result of `measure_subgroups`.
        tests: result of `compare_subgroups`.
        words: what positive and negative samples are called.
        samples: what the samples are called.
    """
    positive, negative = words["positive"], words["negative"]
    if not groups:
        return []
    rows = [["subgroup", "women", "AUC", "sensitivity", "specificity", "level"]]
    for group in groups:
        if [group["column"]] not in [row[:1] for row in rows]:
            rows.append([group["column"], *[""] * 5])
        value = "unknown" if group["value"] is None else group["value"]
        women = f"{group['malignant_patients']}, {group['benign_patients']}"
        found = [number_and_interval(group[name]) for name in _METRICS]
        rows.append([f"  {value}", women, *(["too few", *found[1:]] if group["note"] else found)])
    lines = ["", *as_columns(rows)]
    lines.append(
        f"women: with {positive} {samples}, with {negative} {samples}; level: calibration-in-the-large;"
    )
    lines.append(f"too few: fewer than {FEW} women with {positive} or with {negative} {samples}")
    rows = [["equal AUCs of the groups of", "groups", "chi-square", "p", "p, Holm"]]
    for test in tests:
        figures = [number(test[name], missing="-") for name in ("chi_square", "p", "p_holm")]
        rows.append([test["column"], str(test["groups"]), *figures])
    return [*lines, "", *as_columns(rows)]
