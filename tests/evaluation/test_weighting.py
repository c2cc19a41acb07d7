import dataclasses
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from bus_hf.errors import BusError
from bus_hf.evaluation import calibration, combine, weighting
from tests.members import VIEWS, frame


def test_readings_are_the_frame():
    given = frame({"m": 1.0, "n": 0.5}, n=20).sample(frac=1, random_state=0)
    held_out = weighting.held_out_logits(given, ["n", "m"], ["lesion", "whole"])
    row = given.iloc[0]
    at = list(dict.fromkeys(given["name"])).index(row["name"])
    value = held_out.logits[at, held_out.members.index(row["member"]), held_out.views.index(row["view"])]
    assert value == row["logit_0"]
    assert held_out.y_true[at] == row["label"]


def test_half_given_readings_are_refused():
    given = frame({"m": 1.0}, n=4)
    with pytest.raises(BusError, match="lacks a member or a view"):
        weighting.held_out_logits(given.iloc[1:], ["m"], list(VIEWS))
    with pytest.raises(BusError, match="twice"):
        weighting.held_out_logits(pd.concat([given, given.iloc[:1]]), ["m"], list(VIEWS))


def test_weights_follow_dprime_whatever_the_scale_of_the_logits():
    given = frame({"good": 1.0, "fair": 0.5}, n=4000)
    given.loc[given["member"] == "fair", "logit_0"] *= 0.01
    held_out = weighting.held_out_logits(given, ["good", "fair"], list(VIEWS))
    members, views = weighting.by_dprime(held_out, VIEWS, power=2)
    # The mean of two views has a spread of sqrt(2) within a class, so that d is strength times sqrt(2).
    assert members["good"] / members["fair"] == pytest.approx(4, rel=0.15)
    assert views == VIEWS
    dprimes = []
    for member in held_out.members:
        mean = (
            given[given["member"] == member]
            .groupby("name")
            .agg(source=("source", "first"), label=("label", "first"), logit=("logit_0", "mean"))
        )
        each = [roc_auc_score(part["label"], part["logit"]) for _, part in mean.groupby("source")]
        dprimes.append(np.mean(np.sqrt(2) * norm.ppf(each)))
    for power in (1, 2, weighting.POWER):
        members, _ = weighting.by_dprime(held_out, VIEWS, power=power)
        assert members["good"] == pytest.approx(1 / (1 + (dprimes[1] / dprimes[0]) ** power), abs=1e-4)
    assert weighting.by_dprime(held_out, VIEWS) == weighting.by_dprime(held_out, VIEWS, power=weighting.POWER)
    assert weighting.by_dprime(held_out, VIEWS, power=0) == weighting.equal(held_out, VIEWS)


def test_a_member_that_is_worse_than_chance_has_no_weight_and_where_all_are_the_weights_are_equal():
    held_out = weighting.held_out_logits(frame({"good": 2.0, "wrong": -2.0}), ["good", "wrong"], list(VIEWS))
    assert weighting.by_dprime(held_out, VIEWS)[0] == {"good": 1.0, "wrong": 0.0}
    held_out = weighting.held_out_logits(frame({"wrong": -2.0, "worse": -3.0}), ["wrong", "worse"], list(VIEWS))
    assert (
        weighting.by_dprime(held_out, VIEWS)
        == weighting.equal(held_out, VIEWS)
        == ({"wrong": 0.5, "worse": 0.5}, VIEWS)
    )


def test_a_member_without_an_error_on_few_images_does_not_silence_the_others():
    given = frame({"sure": 30.0, "good": 1.5}, n=40)
    members, _ = weighting.by_dprime(weighting.held_out_logits(given, ["sure", "good"], list(VIEWS)), VIEWS)
    assert 0.5 < members["sure"] < 0.99


def _slopes(held_out, logits, calibrated):
    """Slope of the calibration of each part, which is a straight line."""
    for _, test in calibration.cross_fits(held_out.y_true, held_out.groups):
        line = np.polyfit(logits[test], calibrated[test], 1)
        assert calibrated[test] == pytest.approx(np.polyval(line, logits[test]))
        yield line[0]


def test_gain_is_seen_where_there_is_one_and_not_on_shuffled_labels():
    given = frame({"good": 1.5, "blind": 0.0, "blind2": 0.0})
    held_out = weighting.held_out_logits(given, ["good", "blind", "blind2"], list(VIEWS))
    result = weighting.gain(held_out, VIEWS)
    assert result["pays"]
    assert result["auroc_difference"]["low"] > 0
    # Images are ordered by the logits, not by what each part's own calibration makes of them.
    logits, calibrated = weighting.cross_fitted(held_out, partial(weighting.by_dprime, default_views=VIEWS))
    assert result["auroc"]["fitted"] == pytest.approx(roc_auc_score(held_out.y_true, logits), abs=1e-6)
    slopes = {round(slope, 9) for slope in _slopes(held_out, logits, calibrated)}
    assert len(slopes) == 10
    assert calibrated != pytest.approx(logits)
    result = []
    for seed in range(6):
        labels = np.random.default_rng(seed).permutation(held_out.y_true)
        shuffled = dataclasses.replace(held_out, y_true=labels)
        result.append(weighting.gain(shuffled, VIEWS)["auroc"]["fitted"])
    assert np.mean(result) == pytest.approx(0.5, abs=0.05)


def test_fitted_weights_are_those_that_the_detector_combines():
    given = frame({"good": 1.5, "blind": 0.2})
    held_out = weighting.held_out_logits(given, ["good", "blind"], list(VIEWS))
    members, views = weighting.by_dprime(held_out, VIEWS)
    images = combine.combine(given, members, views)
    assert images["logit_0"].to_numpy() == pytest.approx(held_out.averaged(members, views), abs=1e-9)
