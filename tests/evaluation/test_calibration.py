import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from bus_hf.evaluation import abstention, calibration, combine, figures


def reader(n=600, seed=0, strength=2.0):
    """A reader whose true logit is known: chances are right when divided by its temperature."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=n) * strength
    labels = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(int)
    return labels, true


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_found_again(temperature):
    labels, true = reader(20_000)
    assert calibration.fit_temperature((true * temperature)[:, None], labels) == pytest.approx(temperature, rel=0.06)


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
    labels, true = reader(333)
    chances = 1 / (1 + np.exp(-true))
    threshold = calibration.threshold_for_sensitivity(labels, chances, target)
    assert figures.sensitivity(labels, chances >= threshold) >= target
    assert figures.sensitivity(labels, chances >= threshold + 2e-6) < target or target < 1


def test_no_positive_has_no_threshold():
    with pytest.raises(ValueError, match="no positive"):
        calibration.threshold_for_sensitivity(np.zeros(3, int), np.ones(3), 0.9)


def test_operating_points_hold_on_new_cases():
    labels, true = reader()
    chances = 1 / (1 + np.exp(-true))
    points = calibration.operating_points(labels, chances, np.arange(len(labels)))
    new_labels, new_true = reader(50_000, seed=7)
    new_chances = 1 / (1 + np.exp(-new_true))
    assert [point["name"] for point in points] == ["miss_10_in_100", "miss_5_in_100", "miss_25_in_1000"]
    for point in points:
        value, low, high = point["sensitivity"]
        assert low <= value <= high
        assert low <= figures.sensitivity(new_labels, new_chances >= point["threshold"]) <= high + 0.01
        low, high = point["specificity"][1:]
        assert low <= figures.specificity(new_labels, new_chances >= point["threshold"]) <= high
    assert points[0]["threshold"] > points[1]["threshold"] > points[2]["threshold"]


def test_cross_fits_share_no_group():
    labels, _ = reader(200)
    groups = np.repeat(np.arange(100), 2)
    seen = []
    for fit, test in calibration.cross_fits(labels, groups):
        assert not set(groups[fit]) & set(groups[test])
        seen += test.tolist()
    assert sorted(seen) == list(range(200))


def test_band_keeps_its_promise_on_new_cases():
    labels, true = reader(2000)
    found = abstention.band(labels, 1 / (1 + np.exp(-true)), np.arange(2000))
    assert found["low"] < found["high"]
    new_labels, new_true = reader(50_000, seed=3)
    chances = 1 / (1 + np.exp(-new_true))
    # Of the malignant ones, at most 5 % lie below the band; of the benign ones at most 10 % above it.
    assert (chances[new_labels == 1] < found["low"]).mean() < 0.065
    assert (chances[new_labels == 0] > found["high"]).mean() < 0.12
    decided = (chances < found["low"]) | (chances > found["high"])
    wrong = ((chances > found["high"]) != (new_labels == 1)) & decided
    assert decided.mean() == pytest.approx(found["coverage"], abs=0.04)
    assert wrong.sum() / decided.sum() == pytest.approx(found["error"], abs=0.02)


def test_answers_by_class_add_up_to_the_band():
    labels, true = reader(600)
    groups, chances = np.arange(600) // 2, 1 / (1 + np.exp(-true))
    found = abstention.band(labels, chances, groups)
    answers = abstention.cross_fitted(labels, chances, groups)
    by_class = abstention.answered(labels, answers, groups)
    given = sum(row["n_answered"] for row in by_class.values())
    wrong = sum(row["n_wrong"] for row in by_class.values())
    assert given / 600 == pytest.approx(found["coverage"], abs=1e-6)
    assert wrong / given == pytest.approx(found["error"], abs=1e-6)
    ill = (labels == 1) & (answers != abstention.NOT_SURE)
    assert by_class["malignant"]["n"] == labels.sum()
    assert by_class["malignant"]["right"]["value"] == pytest.approx((answers[ill] == 1).mean(), abs=1e-6)
    nobody = abstention.answered(labels, np.full(600, abstention.NOT_SURE), groups)
    assert nobody["benign"] == {"n": int((labels == 0).sum()), "n_answered": 0, "n_wrong": 0, "right": None}


def test_a_perfect_reader_still_has_an_ordered_band():
    labels = np.repeat([0, 1], 50)
    found = abstention.band(labels, labels * 0.8 + 0.1, np.arange(100))
    assert found["low"] <= found["high"]
    assert found["error"] <= 0.05


def frame():
    rows = [
        {"name": name, "label": label, "group": name, "member": member, "view": view, "logit_0": value}
        for name, label, start in (("b", 1, 10.0), ("a", 0, 0.0))
        for member, more in (("m", 0.0), ("n", 100.0))
        for view, value in (("whole", start + more), ("flip", start + more + 1))
    ]
    return pd.DataFrame(rows)


def test_combine_is_the_weighted_mean_of_views_then_members():
    found = combine.combine(frame(), {"m": 0.75, "n": 0.25}, {"whole": 0.5, "flip": 0.5})
    assert found["name"].tolist() == ["b", "a"]
    assert found["label"].tolist() == [1, 0]
    assert found["logit_0"].tolist() == pytest.approx([35.5, 25.5])
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
