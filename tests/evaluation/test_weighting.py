from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from bus_hf.errors import BusError
from bus_hf.evaluation import calibration, combine, weighting

VIEWS = {"whole": 0.5, "lesion": 0.5}


def frame(strength, n=400, seed=0):
    """Logits of members that see a malignancy with the given strengths."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    rows = [
        {
            "name": f"i{i}",
            "source": "one" if i % 4 else "two",
            "group": f"g{i // 2}",
            "label": labels[i],
            "member": member,
            "view": view,
            "logit_0": power * (2 * labels[i] - 1) + 2 * rng.normal(),
        }
        for i in range(n)
        for member, power in strength.items()
        for view in VIEWS
    ]
    return pd.DataFrame(rows)


def test_readings_are_the_frame():
    given = frame({"m": 1.0, "n": 0.5}, n=20).sample(frac=1, random_state=0)
    read = weighting.readings(given, ["n", "m"], ["lesion", "whole"])
    row = given.iloc[0]
    at = list(dict.fromkeys(given["name"])).index(row["name"])
    value = read.logits[at, read.members.index(row["member"]), read.views.index(row["view"])]
    assert value == row["logit_0"]
    assert read.labels[at] == row["label"]


def test_half_given_readings_are_refused():
    given = frame({"m": 1.0}, n=4)
    with pytest.raises(BusError, match="lacks a member or a view"):
        weighting.readings(given.iloc[1:], ["m"], list(VIEWS))
    with pytest.raises(BusError, match="twice"):
        weighting.readings(pd.concat([given, given.iloc[:1]]), ["m"], list(VIEWS))


def test_a_member_that_sees_nothing_loses_its_vote():
    read = weighting.readings(frame({"good": 2.0, "blind": 0.0}), ["good", "blind"], list(VIEWS))
    members, views = weighting.joint(read, VIEWS, shrinkage=0)
    assert members["good"] > 0.95
    assert sum(members.values()) == pytest.approx(1, abs=1e-9)
    assert sum(views.values()) == pytest.approx(1, abs=1e-9)
    shrunk, _ = weighting.joint(read, VIEWS, shrinkage=0.5)
    assert 0.5 < shrunk["good"] < members["good"]


def test_equal_members_vote_alike_under_shrinkage():
    read = weighting.readings(frame({"m": 1.0, "n": 1.0}), ["m", "n"], list(VIEWS))
    members, views = weighting.joint(read, VIEWS, shrinkage=0.02)
    assert members["m"] == pytest.approx(0.5, abs=0.1)
    assert views["whole"] == pytest.approx(0.5, abs=0.1)


def test_votes_follow_the_separation_whatever_the_scale_of_the_logits():
    given = frame({"good": 1.0, "fair": 0.5}, n=4000)
    given.loc[given["member"] == "fair", "logit_0"] *= 0.01
    read = weighting.readings(given, ["good", "fair"], list(VIEWS))
    members, views = weighting.by_separation(read, VIEWS, power=2)
    # The mean of two views has a spread of sqrt(2) within a class, so that d is strength times sqrt(2).
    assert members["good"] / members["fair"] == pytest.approx(4, rel=0.15)
    assert views == VIEWS
    separations = []
    for member in read.members:
        mean = (
            given[given["member"] == member]
            .groupby("name")
            .agg(source=("source", "first"), label=("label", "first"), logit=("logit_0", "mean"))
        )
        each = [roc_auc_score(part["label"], part["logit"]) for _, part in mean.groupby("source")]
        separations.append(np.mean(np.sqrt(2) * norm.ppf(each)))
    for power in (1, 2, weighting.POWER):
        members, _ = weighting.by_separation(read, VIEWS, power=power)
        assert members["good"] == pytest.approx(1 / (1 + (separations[1] / separations[0]) ** power), abs=1e-4)
    assert weighting.by_separation(read, VIEWS) == weighting.by_separation(read, VIEWS, power=weighting.POWER)
    assert weighting.by_separation(read, VIEWS, power=0) == weighting.equal(read, VIEWS)


def test_a_member_that_is_worse_than_chance_has_no_vote_and_none_at_all_vote_alike():
    read = weighting.readings(frame({"good": 2.0, "wrong": -2.0}), ["good", "wrong"], list(VIEWS))
    assert weighting.by_separation(read, VIEWS)[0] == {"good": 1.0, "wrong": 0.0}
    read = weighting.readings(frame({"wrong": -2.0, "worse": -3.0}), ["wrong", "worse"], list(VIEWS))
    assert weighting.by_separation(read, VIEWS) == weighting.equal(read, VIEWS) == ({"wrong": 0.5, "worse": 0.5}, VIEWS)


def test_a_member_without_an_error_on_few_images_does_not_silence_the_others():
    given = frame({"sure": 30.0, "good": 1.5}, n=40)
    members, _ = weighting.by_separation(weighting.readings(given, ["sure", "good"], list(VIEWS)), VIEWS)
    assert 0.5 < members["sure"] < 0.99


def test_the_plain_minimum_is_that_of_logistic_regression():
    # One source, one view, positive coefficients: the pool is logistic regression without an intercept.
    given = frame({"m": 1.5, "n": 0.8})
    given = given[given["view"] == "whole"].assign(source="one")
    read = weighting.readings(given, ["m", "n"], ["whole"])
    members, _ = weighting.joint(read, {"whole": 1.0}, shrinkage=0)
    weights = LogisticRegression(C=1e9, fit_intercept=False).fit(read.logits[:, :, 0], read.labels).coef_[0]
    assert members["m"] == pytest.approx(weights[0] / weights.sum(), abs=2e-3)


def _slopes(read, logits, calibrated):
    """Slope of the calibration of each part, which is a straight line."""
    for _, test in calibration.cross_fits(read.labels, read.groups):
        line = np.polyfit(logits[test], calibrated[test], 1)
        assert calibrated[test] == pytest.approx(np.polyval(line, logits[test]))
        yield line[0]


def test_gain_is_seen_where_there_is_one_and_not_on_shuffled_labels():
    given = frame({"good": 1.5, "blind": 0.0, "blind2": 0.0})
    read = weighting.readings(given, ["good", "blind", "blind2"], list(VIEWS))
    found = weighting.gain(read, VIEWS)
    assert found["pays"]
    assert found["auroc_difference"]["low"] > 0
    # Images are ordered by the logits, not by what each part's own calibration makes of them.
    logits, calibrated = weighting.cross_fitted(read, partial(weighting.by_separation, default_views=VIEWS))
    assert found["auroc"]["fitted"] == pytest.approx(roc_auc_score(read.labels, logits), abs=1e-6)
    slopes = {round(slope, 9) for slope in _slopes(read, logits, calibrated)}
    assert len(slopes) == 10
    assert calibrated != pytest.approx(logits)
    found = []
    for seed in range(6):
        labels = np.random.default_rng(seed).permutation(read.labels)
        shuffled = weighting.Readings(read.logits, labels, read.groups, read.sources, read.members, read.views)
        found.append(weighting.gain(shuffled, VIEWS)["auroc"]["fitted"])
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_fitted_weights_are_those_that_the_detector_combines():
    given = frame({"good": 1.5, "blind": 0.2})
    read = weighting.readings(given, ["good", "blind"], list(VIEWS))
    members, views = weighting.by_separation(read, VIEWS)
    images = combine.combine(given, members, views)
    assert images["logit_0"].to_numpy() == pytest.approx(weighting.combined(read, (members, views)), abs=1e-9)
