import numpy as np
import pytest
from scipy import stats

from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import group_bootstrap, interval, paired_difference, resamples, settled


def simulated(n, seed=0, strength=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return labels, labels * strength + rng.normal(size=n)


def test_interval_against_a_plain_loop():
    labels, scores = simulated(60)
    groups = np.repeat(np.arange(30), 2)
    result = group_bootstrap(metrics.auroc, labels, scores, groups, n=400, seed=1)
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in rng.integers(0, 30, 30)])
        draws.append(metrics.auroc(labels[rows], scores[rows]))
    low, high = np.percentile(draws, (2.5, 97.5))
    assert result.value == metrics.auroc(labels, scores)
    assert (result.low, result.high) == pytest.approx((low, high), abs=0.02)


def test_groups_widen_the_interval():
    labels, scores = simulated(50)
    # Every case ten times over: no more is known than from the fifty.
    many_labels, many_scores, groups = np.repeat(labels, 10), np.repeat(scores, 10), np.repeat(np.arange(50), 10)
    by_group = group_bootstrap(metrics.auroc, many_labels, many_scores, groups, n=500)
    by_row = group_bootstrap(metrics.auroc, many_labels, many_scores, np.arange(500), n=500)
    assert by_group.high - by_group.low > 2 * (by_row.high - by_row.low)


def test_coverage_of_the_interval():
    truth = metrics.auroc(*simulated(200_000, seed=99))
    inside = 0
    for seed in range(60):
        result = group_bootstrap(metrics.auroc, *simulated(120, seed=seed), np.arange(120), n=200)
        inside += result.low <= truth <= result.high
    assert inside >= 50


def test_whole_groups_are_drawn():
    groups = np.array(["a", "a", "b", "c", "c", "c"])
    for weights in resamples(groups, 20):
        assert (weights[:, 0] == weights[:, 1]).all()
        assert (weights[:, 3] == weights[:, 5]).all()
        assert (weights[:, [0, 2, 3]].sum(1) == 3).all()


def test_paired_difference():
    labels, scores = simulated(300)
    worse = scores + np.random.default_rng(1).normal(size=300) * 3
    difference, p = paired_difference(metrics.auroc, labels, scores, worse, np.arange(300), n=400)
    assert difference.low > 0
    assert p < 0.05
    same, p = paired_difference(metrics.auroc, labels, scores, scores, np.arange(300), n=100)
    assert same.value == 0
    assert p == 1


@pytest.mark.parametrize("value", [0, 1])
def test_a_rate_whose_cases_all_agree_is_not_certain(value):
    groups = np.repeat(np.arange(12), 3)
    labels, called = np.ones(36, int), np.full(36, bool(value))
    result = group_bootstrap(metrics.sensitivity, labels, called, groups, n=50)
    assert result == (value, value, value)
    wilson = stats.binomtest(12 * value, 12).proportion_ci(method="wilson")
    assert settled(result, groups) == pytest.approx((value, wilson.low, wilson.high))


def test_other_rates_keep_their_bootstrap():
    result = metrics.Estimate(0.9, 0.8, 0.95)
    assert settled(result, np.arange(9)) == result


def test_undefined_draws():
    assert interval(np.array([np.nan, np.nan, 1.0])) == pytest.approx((np.nan, np.nan), nan_ok=True)
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1, 1)


def test_resamples_are_drawn_once_and_cannot_be_changed():
    groups = np.array(["b", "a", "b", "c"])
    first, again = resamples(groups, 20), resamples(list(groups), 20)
    assert first[0] is again[0]
    assert resamples(groups, 20, seed=1)[0] is not first[0]
    with pytest.raises(ValueError, match="read-only"):
        first[0][0, 0] = 1
