import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from bus_hf.errors import BusError
from bus_hf.evaluation import combine, votes

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
    read = votes.readings(given, ["n", "m"], ["lesion", "whole"])
    row = given.iloc[0]
    at = list(dict.fromkeys(given["name"])).index(row["name"])
    value = read.logits[at, read.members.index(row["member"]), read.views.index(row["view"])]
    assert value == row["logit_0"]
    assert read.labels[at] == row["label"]


def test_half_given_readings_are_refused():
    given = frame({"m": 1.0}, n=4)
    with pytest.raises(BusError, match="lacks a member or a view"):
        votes.readings(given.iloc[1:], ["m"], list(VIEWS))
    with pytest.raises(BusError, match="twice"):
        votes.readings(pd.concat([given, given.iloc[:1]]), ["m"], list(VIEWS))


def test_a_member_that_sees_nothing_loses_its_vote():
    read = votes.readings(frame({"good": 2.0, "blind": 0.0}), ["good", "blind"], list(VIEWS))
    members, views = votes.fit(read, VIEWS, shrinkage=0)
    assert members["good"] > 0.95
    assert sum(members.values()) == pytest.approx(1, abs=1e-9)
    assert sum(views.values()) == pytest.approx(1, abs=1e-9)
    shrunk, _ = votes.fit(read, VIEWS, shrinkage=0.5)
    assert 0.5 < shrunk["good"] < members["good"]


def test_equal_members_vote_alike_under_shrinkage():
    read = votes.readings(frame({"m": 1.0, "n": 1.0}), ["m", "n"], list(VIEWS))
    members, views = votes.fit(read, VIEWS)
    assert members["m"] == pytest.approx(0.5, abs=0.1)
    assert views["whole"] == pytest.approx(0.5, abs=0.1)


def test_the_plain_minimum_is_that_of_logistic_regression():
    # One source, one view, positive coefficients: the pool is logistic regression without an intercept.
    given = frame({"m": 1.5, "n": 0.8})
    given = given[given["view"] == "whole"].assign(source="one")
    read = votes.readings(given, ["m", "n"], ["whole"])
    members, _ = votes.fit(read, {"whole": 1.0}, shrinkage=0)
    weights = LogisticRegression(C=1e9, fit_intercept=False).fit(read.logits[:, :, 0], read.labels).coef_[0]
    assert members["m"] == pytest.approx(weights[0] / weights.sum(), abs=2e-3)


def test_gain_is_seen_where_there_is_one_and_not_on_shuffled_labels():
    given = frame({"good": 1.5, "blind": 0.0, "blind2": 0.0})
    read = votes.readings(given, ["good", "blind", "blind2"], list(VIEWS))
    found = votes.gain(read, VIEWS)
    assert found["pays"]
    assert found["auroc_difference"]["low"] > 0
    found = []
    for seed in range(6):
        labels = np.random.default_rng(seed).permutation(read.labels)
        shuffled = votes.Readings(read.logits, labels, read.groups, read.sources, read.members, read.views)
        found.append(votes.gain(shuffled, VIEWS)["auroc"]["fitted"])
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)


def test_fitted_weights_are_those_that_the_detector_combines():
    given = frame({"good": 1.5, "blind": 0.2})
    read = votes.readings(given, ["good", "blind"], list(VIEWS))
    members, views = votes.fit(read, VIEWS)
    images = combine.combine(given, members, views)
    by_hand = np.einsum("nmv,m,v->n", read.logits, [*members.values()], [*views.values()])
    assert images["logit_0"].to_numpy() == pytest.approx(by_hand, abs=1e-9)
