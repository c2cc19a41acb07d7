import pytest
from sklearn.linear_model import LogisticRegression

from bus_hf.evaluation import weighting
from research import weight_rules
from tests.members import VIEWS, frame


def test_a_member_that_sees_nothing_loses_its_weight():
    held_out = weighting.held_out_logits(frame({"good": 2.0, "blind": 0.0}), ["good", "blind"], list(VIEWS))
    members, views = weight_rules.joint(held_out, VIEWS, shrinkage=0)
    assert members["good"] > 0.95
    assert sum(members.values()) == pytest.approx(1, abs=1e-9)
    assert sum(views.values()) == pytest.approx(1, abs=1e-9)
    shrunk, _ = weight_rules.joint(held_out, VIEWS, shrinkage=0.5)
    assert 0.5 < shrunk["good"] < members["good"]


def test_equal_members_weigh_alike_under_shrinkage():
    held_out = weighting.held_out_logits(frame({"m": 1.0, "n": 1.0}), ["m", "n"], list(VIEWS))
    members, views = weight_rules.joint(held_out, VIEWS, shrinkage=0.02)
    assert members["m"] == pytest.approx(0.5, abs=0.1)
    assert views["whole"] == pytest.approx(0.5, abs=0.1)


def test_the_plain_minimum_is_that_of_logistic_regression():
    # One source, one view, positive coefficients: the pool is logistic regression without an intercept.
    given = frame({"m": 1.5, "n": 0.8})
    given = given[given["view"] == "whole"].assign(source="one")
    held_out = weighting.held_out_logits(given, ["m", "n"], ["whole"])
    members, _ = weight_rules.joint(held_out, {"whole": 1.0}, shrinkage=0)
    weights = LogisticRegression(C=1e9, fit_intercept=False).fit(held_out.logits[:, :, 0], held_out.y_true).coef_[0]
    assert members["m"] == pytest.approx(weights[0] / weights.sum(), abs=2e-3)
