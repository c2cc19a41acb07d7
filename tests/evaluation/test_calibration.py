import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from bus_hf.evaluation import abstention, calibration, combine, metrics


def simulated(n=600, seed=0, strength=2.0):
    """Cases whose true logit is known: probabilities are right when divided by its temperature."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n) * strength
    labels = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(int)
    return labels, true


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("bias", [-3.0, 0.0, 1.5])
def test_temperature_and_bias_are_found_again(temperature, bias):
    labels, true = simulated(20_000)
    result = calibration.fit_scale((true - bias) * temperature, labels)
    assert result.temperature == pytest.approx(temperature, rel=0.06)
    assert result.bias == pytest.approx(bias, abs=0.15)


def test_hundreds_of_cases_outweigh_the_prior():
    labels, true = simulated(600)
    plain = LogisticRegression(C=1e9).fit(true[:, None], labels)
    result = calibration.fit_scale(true, labels, calibration.Scale(3.0, -1.0))
    assert 1 / result.temperature == pytest.approx(plain.coef_[0, 0], rel=0.05)
    assert result.bias == pytest.approx(plain.intercept_[0], abs=0.05)


def test_where_a_threshold_separates_the_classes_the_temperature_stays():
    labels = np.repeat([0, 1], 12)
    result = calibration.fit_scale(
        np.r_[np.linspace(1, 3, 12), np.linspace(4, 6, 12)], labels, calibration.Scale(0.9, 0)
    )
    assert result.temperature == 0.9
    # Every logit lies too high: the bias brings the middle of the gap near even odds.
    assert result.logits(np.array([3.5]))[0] == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("scale", [1e4, 1e12])
def test_a_fit_at_a_bound_is_none(scale):
    labels, true = simulated(300)
    assert calibration.fit_scale(true * scale, labels) is None
    assert calibration.fit_scale(true + scale, labels) is None


def test_one_logit_for_all_keeps_the_temperature_and_gives_the_share():
    labels = np.repeat([0, 1], (300, 100))
    result = calibration.fit_scale(np.full(400, 2.0), labels, calibration.Scale(1.2, 0.0))
    assert result.probabilities(np.array([2.0]))[0] == pytest.approx(0.25, abs=0.01)


def test_temperature_of_many_classes_lowers_the_loss():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    logits = 6 * (np.eye(3)[labels] + rng.normal(size=(500, 3)))

    def loss(temperature):
        raised = np.exp(logits / temperature - (logits / temperature).max(1, keepdims=True))
        return log_loss(labels, raised / raised.sum(1, keepdims=True))

    best = calibration.fit_temperature(logits, labels)
    assert loss(best) <= min(loss(best * 0.8), loss(best * 1.25), loss(1.0))


@pytest.mark.parametrize("target", [0.9, 0.95, 0.975, 1.0])
def test_threshold_is_the_largest_that_reaches_the_target(target):
    labels, true = simulated(333)
    threshold = calibration.threshold_for_sensitivity(labels, true, target)
    assert metrics.sensitivity(labels, true >= threshold) >= target
    assert metrics.sensitivity(labels, true > threshold) < target


@pytest.mark.parametrize(
    "scores", [np.linspace(1e-9, 2e-9, 40), 1 - np.linspace(1e-12, 2e-12, 40), np.arange(40) * 1e9]
)
def test_scores_near_an_end_are_told_apart(scores):
    labels = np.repeat([0, 1], 20)
    ordered = np.sort(scores)
    threshold = calibration.threshold_for_sensitivity(labels, ordered, 1.0)
    assert ((ordered >= threshold) == labels).all()


def test_no_positive_has_no_threshold():
    with pytest.raises(ValueError, match="no positive"):
        calibration.threshold_for_sensitivity(np.zeros(3, int), np.ones(3), 0.9)


def test_operating_points_hold_on_new_cases():
    labels, true = simulated()
    points = calibration.operating_points(labels, true, np.arange(len(labels)))
    new_labels, new_true = simulated(50_000, seed=7)
    assert [point["name"] for point in points] == ["miss_10_in_100", "miss_5_in_100", "miss_25_in_1000"]
    for point in points:
        value, low, high = point["sensitivity"]
        assert low <= value <= high
        assert low <= metrics.sensitivity(new_labels, new_true >= point["logit"]) <= high + 0.01
        low, high = point["specificity"][1:]
        assert low <= metrics.specificity(new_labels, new_true >= point["logit"]) <= high
    assert points[0]["logit"] > points[1]["logit"] > points[2]["logit"]


def test_cross_fits_share_no_group():
    labels, _ = simulated(200)
    groups = np.repeat(np.arange(100), 2)
    seen = []
    for fit, test in calibration.cross_fits(labels, groups):
        assert not set(groups[fit]) & set(groups[test])
        seen += test.tolist()
    assert sorted(seen) == list(range(200))


def test_band_keeps_its_promise_on_new_cases():
    labels, true = simulated(2000)
    result = abstention.fit(labels, true, np.arange(2000))
    assert result["low_logit"] < result["high_logit"]
    new_labels, new_true = simulated(50_000, seed=3)
    # Of the malignant ones, at most 5 % lie below the band; of the benign ones at most 10 % above it.
    assert (new_true[new_labels == 1] < result["low_logit"]).mean() < 0.065
    assert (new_true[new_labels == 0] > result["high_logit"]).mean() < 0.12
    decided = (new_true < result["low_logit"]) | (new_true > result["high_logit"])
    wrong = ((new_true > result["high_logit"]) != (new_labels == 1)) & decided
    assert decided.mean() == pytest.approx(result["coverage"], abs=0.04)
    assert wrong.sum() / decided.sum() == pytest.approx(result["error"], abs=0.02)


def test_answers_by_class_add_up_to_the_interval():
    labels, true = simulated(600)
    groups = np.arange(600) // 2
    result = abstention.fit(labels, true, groups)
    answers = abstention.cross_fitted(labels, true, groups)
    by_class = abstention.answered(labels, answers, groups)
    given = sum(row["n_answered"] for row in by_class.values())
    wrong = sum(row["n_wrong"] for row in by_class.values())
    assert given / 600 == pytest.approx(result["coverage"], abs=1e-6)
    assert wrong / given == pytest.approx(result["error"], abs=1e-6)
    ill = (labels == 1) & (answers != abstention.NOT_SURE)
    assert by_class["malignant"]["n"] == labels.sum()
    assert by_class["malignant"]["right"]["value"] == pytest.approx((answers[ill] == 1).mean(), abs=1e-6)
    nobody = abstention.answered(labels, np.full(600, abstention.NOT_SURE), groups)
    assert nobody["benign"] == {"n": int((labels == 0).sum()), "n_answered": 0, "n_wrong": 0, "right": None}


def test_perfect_logits_still_have_an_ordered_interval():
    labels = np.repeat([0, 1], 50)
    result = abstention.fit(labels, labels * 0.8 + 0.1, np.arange(100))
    assert result["low_logit"] <= result["high_logit"]
    assert result["error"] <= 0.05


def frame():
    rows = [
        {"name": name, "label": label, "group": name, "member": member, "view": view, "logit_0": value}
        for name, label, start in (("b", 1, 10.0), ("a", 0, 0.0))
        for member, more in (("m", 0.0), ("n", 100.0))
        for view, value in (("whole", start + more), ("flip", start + more + 1))
    ]
    return pd.DataFrame(rows)


def test_combine_is_the_weighted_mean_of_views_then_members():
    result = combine.combine(frame(), {"m": 0.75, "n": 0.25}, {"whole": 0.5, "flip": 0.5})
    assert result["name"].tolist() == ["b", "a"]
    assert result["label"].tolist() == [1, 0]
    assert result["logit_0"].tolist() == pytest.approx([35.5, 25.5])
    alone = combine.combine(frame(), {"m": 1.0}, {"flip": 2.0})
    assert alone["logit_0"].tolist() == pytest.approx([11.0, 1.0])


def test_an_image_without_a_view_is_refused():
    with pytest.raises(ValueError, match="lacks"):
        combine.combine(frame().iloc[1:], {"m": 0.5, "n": 0.5}, {"whole": 0.5, "flip": 0.5})


def test_a_point_that_misses_nothing_does_not_promise_to_miss_nothing():
    labels = np.repeat([0, 1], 30)
    # Fitted with a tenth left out, the lowest malignant case still lies above every benign one.
    point = calibration.operating_points(labels, np.where(labels == 1, 0.9, 0.1), np.arange(60))[-1]
    value, low, high = point["sensitivity"]
    assert value == high == 1
    assert 0.85 < low < 0.95
