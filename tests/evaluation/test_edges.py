"""What real collections bring: members that disagree on the box, unread views, classes with few groups, ties."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bus_hf.errors import BusError
from bus_hf.evaluation import abstention, calibration, combine, metrics, report
from bus_hf.evaluation.bootstrap import group_bootstrap
from bus_hf.views import VIEWS

POINTS = [{"name": "miss_5_in_100", "logit": -0.8}]


def logits(n=80, views=VIEWS, members=("light", "other")):
    rng = np.random.default_rng(0)
    rows = []
    for member in members:
        for i in range(n):
            facts = {"name": f"i{i}", "source": "one", "group": f"g{i // 2}", "label": i % 2, "member": member}
            facts |= {"pathology": "malignant" if i % 2 else "benign", "birads": "4", "histology": None, "device": "x"}
            facts |= {"height": 100, "width": 120, "mask_w": 20.0, "mask_h": 10.0}
            # The light member finds no box, the other one a good one.
            facts |= {"box_w": np.nan, "box_iou": 0.0} if member == "light" else {"box_w": 20.0, "box_iou": 0.7}
            facts |= {"pointing_hit": 1.0, "energy_inside": 0.5}
            rows += [facts | {"view": view, "logit_0": float(i % 2 * 2 - 1 + rng.normal())} for view in views]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("backwards", [False, True])
def test_the_box_is_that_of_the_first_member_even_where_it_found_none(backwards):
    frame = logits()
    frame = frame.iloc[::-1] if backwards else frame
    result = combine.combine(frame, {"light": 0.5, "other": 0.5}, {"whole": 1.0})
    assert result["box_w"].isna().all()
    assert (result["box_iou"] == 0).all()
    assert result["name"].tolist() == frame["name"].drop_duplicates().tolist()
    other = combine.combine(frame, {"other": 0.5, "light": 0.5}, {"whole": 1.0})
    assert (other["box_w"] == 20).all()


def test_heat_maps_do_not_find_boxes_that_the_lesion_map_has_not():
    result = report.report(logits(), {"light": 0.5, "other": 0.5}, dict.fromkeys(VIEWS, 0.2), calibration.PLAIN, POINTS)
    assert result["heat_maps"]["light"]["one"]["all"]["box_found"]["value"] == 0


def test_a_view_that_stands_twice_does_not_stand_in_for_a_missing_member():
    frame = logits(members=("light",))
    with pytest.raises(ValueError, match="twice"):
        combine.combine(pd.concat([frame, frame]), {"light": 0.5, "other": 0.5}, {"whole": 1.0})


@pytest.mark.parametrize("weights", [{"whole": 1.0}, {"whole": 0.5, "flip": 0.5, "wider": 0, "lesion": 0, "around": 0}])
def test_views_without_weight_need_not_be_there(weights):
    read = tuple(view for view, weight in weights.items() if weight)
    areas = report.report(logits(views=read), {"light": 0.5, "other": 0.5}, weights, calibration.PLAIN, POINTS)[
        "views"
    ]["one"]
    assert areas["all views"] is not None
    assert areas["all views"] == areas["global views"]
    assert areas["whole"]["value"] > 0.5
    assert areas["lesion crops"] is None
    assert areas["lesion"] is None


@pytest.mark.parametrize("positives", [0, 1, 9, 51, 59, 60])
def test_too_few_groups_of_a_class_is_one_sentence(positives):
    labels = np.repeat([1, 0], (positives, 60 - positives))
    with pytest.raises(BusError, match="a calibration needs 10"):
        calibration.operating_points(labels, np.linspace(-2, 2, 60), np.arange(60))
    with pytest.raises(BusError, match="a calibration needs 10"):
        calibration.operating_points(np.repeat([1, 0], 30), np.linspace(-2, 2, 60), np.repeat([0, 1], 30))


@pytest.mark.parametrize(("malignant", "benign", "points", "ends"), [(10, 10, 1, 0), (19, 40, 1, 0), (20, 10, 2, 1)])
def test_one_rule_says_how_many_cases_each_statement_takes(malignant, benign, points, ends):
    labels = np.repeat([1, 0], (malignant, benign))
    logits = np.random.default_rng(0).normal(size=len(labels)) + labels
    groups = np.arange(len(labels))
    result = calibration.operating_points(labels, logits, groups)
    assert (
        [point["name"] for point in result]
        == list(calibration.POINTS)[:points]
        == list(calibration.supported(labels, groups))
    )
    assert (abstention.fit(labels, logits, groups) is not None) == bool(ends)
    # Images of one patient are one.
    assert abstention.fit(np.repeat(labels, 3), np.repeat(logits, 3), np.repeat(groups, 3)) is None or ends


def test_ties_do_not_flatter_the_specificity():
    labels = np.repeat([1, 0], 50)
    for point in calibration.operating_points(labels, np.full(100, 0.5), np.arange(100)):
        assert point["specificity"] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0, 3.0, 30.0, -3.0])
def test_an_answer_is_given_where_the_prediction_set_holds_that_class_alone(strength):
    rng = np.random.default_rng(int(10 * abs(strength)))
    labels = rng.integers(0, 2, 150)
    logits = strength * (labels - 0.5) + rng.normal(size=150)
    interval = abstention.fit(labels, logits, np.arange(150))
    assert "0.05 for malignant and 0.1 for benign" in interval["method"]
    ordered = np.sort(logits)
    new = np.r_[ordered[0] - 1, (ordered[1:] + ordered[:-1]) / 2, ordered[-1] + 1]
    # A class is in the set of a new case unless too few of its own cases lie as far towards the other class.
    malignant = np.array([1 + (logits[labels == 1] <= at).sum() for at in new]) / (1 + labels.sum()) > 0.05
    benign = np.array([1 + (logits[labels == 0] >= at).sum() for at in new]) / (1 + (1 - labels).sum()) > 0.10
    expected = np.where(malignant == benign, abstention.NOT_SURE, malignant.astype(int))
    assert abstention.answer(new, interval["low_logit"], interval["high_logit"]).tolist() == expected.tolist()
    assert {0, 1, abstention.NOT_SURE} == set(expected)


def test_rates_are_cross_fitted_not_those_of_the_fitted_threshold():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    chances = 1 / (1 + np.exp(-labels - rng.normal(size=60)))
    groups = np.arange(60)
    point = calibration.operating_points(labels, chances, groups)[1]
    called = np.zeros(60, bool)
    for fit, test in calibration.cross_fits(labels, groups):
        threshold = calibration.threshold_for_sensitivity(labels[fit], chances[fit], 0.95)
        called[test] = chances[test] >= threshold
    assert point["sensitivity"][0] == pytest.approx(metrics.sensitivity(labels, called), abs=1e-6)
    assert point["sensitivity"][0] < metrics.sensitivity(labels, chances >= point["logit"])


def test_the_interval_matches_scipy_where_every_image_is_its_own_group():
    from scipy import stats
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 200)
    scores = labels * 1.5 + rng.normal(size=200)
    ours = group_bootstrap(metrics.auroc, labels, scores, np.arange(200))
    theirs = stats.bootstrap(
        (labels, scores), roc_auc_score, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=3
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_about_tab_needs_no_table_or_plot_library():
    code = (
        "import sys, bus_hf.reporting.cards, bus_hf.evaluation.report, bus_hf.reporting.plots, "
        "bus_hf.evaluation.abstention; "
        "print(*{'pandas', 'scipy', 'sklearn', 'matplotlib', 'crepes', 'huggingface_hub'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.split() == []
