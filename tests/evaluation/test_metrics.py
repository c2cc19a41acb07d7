import doctest

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from bus_hf.evaluation import metrics


@pytest.fixture(params=range(4))
def case(request):
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, 2, 200)
    # Rounded, so that there are ties.
    chances = np.round(np.clip(labels * 0.3 + rng.random(200) * 0.7, 0, 1), 1 + request.param)
    return labels, chances, rng.integers(0, 4, 200).astype(float)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.auroc, reference.roc_auc_score),
        (metrics.auprc, reference.average_precision_score),
        (metrics.brier, reference.brier_score_loss),
    ],
)
def test_scores_against_scikit_learn(case, ours, theirs):
    labels, chances, weights = case
    assert ours(labels, chances) == pytest.approx(theirs(labels, chances))
    assert ours(labels, chances, weights) == pytest.approx(theirs(labels, chances, sample_weight=weights))
    both = ours(labels, chances, np.stack([weights, np.ones(200)]))
    assert both == pytest.approx([ours(labels, chances, weights), ours(labels, chances)])


def test_rates_against_scikit_learn(case):
    labels, chances, weights = case
    called = chances >= 0.5
    options = {"sample_weight": weights}
    assert metrics.sensitivity(labels, called, weights) == pytest.approx(
        reference.recall_score(labels, called, **options)
    )
    assert metrics.specificity(labels, called, weights) == pytest.approx(
        reference.recall_score(labels, called, pos_label=0, **options)
    )
    assert metrics.f1(labels, called, weights) == pytest.approx(reference.f1_score(labels, called, **options))
    assert metrics.accuracy(labels, called, weights) == pytest.approx(
        reference.accuracy_score(labels, called, **options)
    )


def test_calibration_error_of_known_bins():
    labels = np.array([0, 1, 1, 1])
    chances = np.array([0.05, 0.05, 0.95, 0.95])
    assert metrics.ece(labels, chances) == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)
    assert metrics.ece(np.array([0, 1]), np.array([0.0, 1.0])) == 0


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (31, 32), (40, 100)])
def test_wilson_against_scipy(successes, n):
    ours = metrics.wilson(successes, n)
    theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_wilson_of_nothing_is_undefined():
    assert np.isnan(metrics.wilson(0, 0).value)


def test_predictive_values_by_counting():
    ppv, npv = metrics.predictive_values(0.9, 0.8, 0.01)
    assert ppv == pytest.approx(9 / (9 + 198))
    assert npv == pytest.approx(792 / (792 + 1))


def test_one_class_is_undefined_not_an_error():
    assert np.isnan(metrics.auroc(np.ones(5, int), np.arange(5.0)))
    assert metrics.Estimate(float("nan"), 0.0, 1.0).to_dict()["value"] is None


def test_examples_are_right():
    failed, tried = doctest.testmod(metrics)
    assert tried >= 10
    assert failed == 0
