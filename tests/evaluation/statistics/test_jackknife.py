"""The jackknife by patient against its definition, computed patient by patient."""

import math

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mammo.evaluation.statistics.jackknife import jackknife
from mammo.evaluation.statistics.weighted_metrics import BinaryMetrics


@pytest.mark.slow
@given(st.integers(0, 10_000))
def test_average_precision_as_by_leaving_out_each_patient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patients = rng.integers(12, size=40).astype(str)
    labels = rng.integers(2, size=40) * (patients.astype(int) < 8)
    scores = (rng.random(40) + 0.3 * labels).round(1) / 2
    found = jackknife(BinaryMetrics(scores, labels).discrimination, labels, patients)["average_precision"]
    malignant = {patient: bool(labels[patients == patient].any()) for patient in np.unique(patients)}
    sizes = [list(malignant.values()).count(side) for side in (True, False)]
    if min(sizes) < 2 or labels.sum() == 0:
        assert math.isnan(found.low)
        return
    variances = []
    for side, size in zip((True, False), sizes, strict=True):
        left = [
            reference.average_precision_score(labels[patients != patient], scores[patients != patient])
            for patient, has in malignant.items()
            if has == side
        ]
        variances.append((size - 1) / size * sum((value - np.mean(left)) ** 2 for value in left))
    value = reference.average_precision_score(labels, scores)
    assert found.value == pytest.approx(value)
    if not 0 < value < 1 or sum(variances) == 0:
        assert math.isnan(found.low)
        return
    assert found.standard_error == pytest.approx(math.sqrt(sum(variances)))
    degrees = sum(variances) ** 2 / sum(v**2 / (n - 1) for v, n in zip(variances, sizes, strict=True))
    reach = stats.t.ppf(0.975, degrees) * found.standard_error / (value * (1 - value))
    assert math.log(found.high / (1 - found.high)) == pytest.approx(math.log(value / (1 - value)) + reach)
    assert math.log(found.low / (1 - found.low)) == pytest.approx(math.log(value / (1 - value)) - reach)


def test_a_perfect_ranking_and_a_single_malignant_patient_have_no_interval() -> None:
    for scores, patients in (([0.1, 0.2, 0.8, 0.9], "abcd"), ([0.1, 0.8, 0.2, 0.9], "abcc")):
        labels = np.array([0, 0, 1, 1])
        metrics = BinaryMetrics(np.array(scores), labels)
        found = jackknife(metrics.discrimination, labels, np.array(list(patients)))
        assert math.isnan(found["average_precision"].low)
        assert found["average_precision"].value > 0.5
