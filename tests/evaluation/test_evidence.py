import json

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from scipy import stats
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from bus_hf.evaluation import calibration, delong, evidence, metrics, report, weighting
from bus_hf.reporting import cards, tables
from bus_hf.views import VIEW_WEIGHTS, VIEWS

MEMBERS = {"good": 0.55, "fair": 0.43, "blind": 0.02}
STRENGTH = {"good": 2.0, "fair": 1.7, "blind": 0.0}
POINT = "miss_5_in_100"


def logits(members=MEMBERS, shuffled=False, n=240):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    shown = rng.permutation(labels) if shuffled else labels
    rows = []
    for i in range(n):
        facts = {
            "name": f"i{i}",
            "source": "one" if i < n // 2 else "two",
            "group": f"g{i // 2}",
            "label": int(shown[i]),
        }
        facts |= {"pathology": "malignant" if labels[i] else "benign", "birads": None, "histology": None, "device": "x"}
        facts |= {"height": 100, "width": 120, "peak": 0.7, "box_iou": 0.6, "pointing_hit": 1.0, "energy_inside": 0.5}
        facts |= dict.fromkeys(("box_x", "box_y", "box_w", "box_h", "mask_x", "mask_y", "mask_w", "mask_h"), 20.0)
        for member in members:
            own = STRENGTH[member] * (2 * labels[i] - 1) + 2 * rng.normal()
            rows += [facts | {"member": member, "view": view, "logit_0": own + 0.5 * rng.normal()} for view in VIEWS]
    return pd.DataFrame(rows)


def held_out_of(frame, members=MEMBERS):
    return weighting.held_out_logits(frame, list(members), list(VIEWS))


@pytest.fixture(scope="module")
def held_out():
    return held_out_of(logits())


@pytest.fixture(scope="module")
def actual(held_out):
    return evidence.evidence(held_out, MEMBERS, VIEW_WEIGHTS, POINT)


@pytest.fixture(scope="module")
def chance():
    return evidence.evidence(held_out_of(logits(shuffled=True)), MEMBERS, VIEW_WEIGHTS, POINT)


def combined(held_out, members=MEMBERS, views=VIEW_WEIGHTS):
    m, v = (
        np.array([weights.get(name, 0) for name in names])
        for weights, names in ((members, held_out.members), (views, held_out.views))
    )
    return np.einsum("nmv,m,v->n", held_out.logits, m / m.sum(), v / v.sum())


def test_models_against_scikit_learn(held_out, actual):
    for name, members in (("ensemble", MEMBERS), ("good", {"good": 1.0})):
        scores = combined(held_out, members)
        row = actual["models"][name]["all"]
        assert row["auroc"]["value"] == pytest.approx(roc_auc_score(held_out.y_true, scores), abs=1e-6)
        assert row["auprc"]["value"] == pytest.approx(average_precision_score(held_out.y_true, scores), abs=1e-6)
        called = calibration.cross_fitted_predictions(held_out.y_true, scores, held_out.groups, 0.95)
        rates = row["operating_points"][POINT]
        assert rates["sensitivity"]["value"] == pytest.approx(recall_score(held_out.y_true, called), abs=1e-6)
        assert rates["specificity"]["value"] == pytest.approx(recall_score(1 - held_out.y_true, ~called), abs=1e-6)
        assert rates["ppv"]["value"] == pytest.approx(precision_score(held_out.y_true, called), abs=1e-6)
        assert rates["npv"]["value"] == pytest.approx(precision_score(1 - held_out.y_true, ~called), abs=1e-6)
        assert rates["f1"]["value"] == pytest.approx(f1_score(held_out.y_true, called), abs=1e-6)
        assert rates["missed"] == int(((held_out.y_true == 1) & ~called).sum())
        for figure in (row["auroc"], rates["ppv"], rates["npv"], rates["ppv at"]["0.1"]):
            assert figure["low"] <= figure["value"] <= figure["high"]


def test_predictive_values_at_a_share_are_bayes(actual):
    rates = actual["models"]["ensemble"]["all"]["operating_points"][POINT]
    ill, well = 0.1 * rates["sensitivity"]["value"], 0.9 * (1 - rates["specificity"]["value"])
    assert rates["ppv at"]["0.1"]["value"] == pytest.approx(ill / (ill + well), abs=1e-5)
    # The rarer the disease, the less a call means.
    assert rates["ppv at"]["0.005"]["value"] < rates["ppv at"]["0.1"]["value"] < rates["ppv"]["value"]


def test_cross_fitted_probabilities_do_not_know_their_own_labels(held_out):
    scores = combined(held_out)
    chances = calibration.cross_fitted_probabilities(scores, held_out.y_true, held_out.groups)
    changed = held_out.y_true.copy()
    fit, test = calibration.cross_fits(held_out.y_true, held_out.groups)[0]
    # Labels of one part decide nothing about its own probabilities; they do about the others'.
    changed[test] = 1 - changed[test]
    scale = calibration.fit_scale(scores[fit], held_out.y_true[fit])
    assert chances[test] == pytest.approx(1 / (1 + np.exp(-scores[test] / scale.temperature - scale.bias)))


def test_delong_against_its_structure_and_resampling(held_out):
    one, other = combined(held_out, {"good": 1.0}), combined(held_out, {"fair": 1.0})
    difference, p = delong.delong(held_out.y_true, one, other)
    expected = roc_auc_score(held_out.y_true, one) - roc_auc_score(held_out.y_true, other)
    assert difference == pytest.approx(expected, abs=1e-9)
    # Independent of the formula: the spread of the difference over resampled images.
    rng = np.random.default_rng(0)
    ill, well = np.flatnonzero(held_out.y_true == 1), np.flatnonzero(held_out.y_true == 0)
    draws = []
    for _ in range(1500):
        rows = np.r_[rng.choice(ill, len(ill)), rng.choice(well, len(well))]
        draws.append(
            metrics.auroc(held_out.y_true[rows], one[rows]) - metrics.auroc(held_out.y_true[rows], other[rows])
        )
    assert p == pytest.approx(2 * stats.norm.sf(abs(expected) / np.std(draws)), rel=0.5, abs=0.01)
    assert delong.delong(held_out.y_true, one, one) == (0.0, 1.0)


def test_the_ensemble_beats_its_best_single_member(actual):
    assert actual["comparison"]["best"] == "good"
    row = actual["comparison"]["all"]
    assert row["difference"]["value"] == pytest.approx(row["ensemble"] - row["single"], abs=1e-5)
    assert row["difference"]["low"] > 0
    assert max(row["p_bootstrap"], row["p_delong"]) < 0.05


def test_leaving_out_the_best_costs_and_the_blind_nothing(actual, held_out):
    left = actual["leave_out"]
    assert left["member good"]["all"]["adds"]["low"] > 0
    assert abs(left["member blind"]["all"]["adds"]["value"]) < 0.01
    without = combined(held_out, {"fair": 0.43, "blind": 0.02})
    assert left["member good"]["all"]["without"] == pytest.approx(roc_auc_score(held_out.y_true, without), abs=1e-6)
    assert {"global views", "lesion crops", *(f"view {view}" for view in VIEWS)} < set(left)


def test_thresholds_of_the_other_source(actual, held_out):
    scores = combined(held_out)
    one, two = held_out.sources == "one", held_out.sources == "two"
    threshold = calibration.threshold_for_sensitivity(held_out.y_true[two], scores[two], 0.95)
    row = actual["across_sources"]["one"][POINT]
    expected = recall_score(held_out.y_true[one], scores[one] >= threshold)
    assert row["sensitivity"]["value"] == pytest.approx(expected, abs=1e-6)


def test_disagreement_is_compared_with_closeness(actual):
    row = actual["disagreement"]
    assert row["by_closeness"]["low"] > 0.5
    assert row["difference"]["value"] == pytest.approx(
        row["by_disagreement"]["value"] - row["by_closeness"]["value"], abs=1e-5
    )


def test_shuffled_labels_destroy_every_metric(actual, chance):
    assert actual["models"]["ensemble"]["all"]["auroc"]["low"] > 0.8
    for name, parts in chance["models"].items():
        for part, row in parts.items():
            assert row["auroc"]["low"] < 0.5 < row["auroc"]["high"], (name, part)
            rates = row["operating_points"][POINT]
            # Informedness of chance is 0.
            assert abs(rates["sensitivity"]["value"] + rates["specificity"]["value"] - 1) < 0.2, (name, part)
    assert chance["comparison"]["all"]["difference"]["low"] < 0.05
    for row in chance["across_sources"].values():
        rates = row[POINT]
        assert abs(rates["sensitivity"]["value"] + rates["specificity"]["value"] - 1) < 0.2
    assert chance["leave_out"]["member good"]["all"]["adds"]["low"] < 0


def test_one_member_has_nothing_to_compare_and_says_so():
    held_out = held_out_of(logits({"good": 1.0}), {"good": 1.0})
    actual = evidence.evidence(held_out, {"good": 1.0}, VIEW_WEIGHTS, POINT)
    assert list(actual["models"]) == ["ensemble"]
    assert actual["comparison"] is actual["disagreement"] is None
    assert "one member" in tables.comparison_text(actual)
    assert "one member" in tables.disagreement_text(actual)
    assert "member good" not in actual["leave_out"]


@pytest.fixture(scope="module")
def whole(actual, held_out):
    points = [{"name": name, "logit": 0.0} for name in calibration.POINTS]
    points = [point | {"sensitivity": [0.9, 0.8, 1.0], "specificity": [0.5, 0.4, 0.6]} for point in points]
    weights = {"how": "by d'", **weighting.gain(held_out, VIEW_WEIGHTS)}
    interval = {"low": 0.1, "high": 0.4, "coverage": 0.7, "error": 0.1, "method": "conformal"}
    made = report.report(logits(), MEMBERS, VIEW_WEIGHTS, calibration.PLAIN, points) | actual
    return json.loads(json.dumps(made | {"weights": weights, "abstain": interval, "default_operating_point": POINT}))


RECORD = {
    "architecture": "test_resnet",
    "input_size": 64,
    "sources": {"one": 60},
    "start": {"kind": "random", "source": "random", "licence": "none needed", "taken": 0, "fresh": 9},
    "epochs": 3,
    "kept": "last epoch, averaged weights",
    "fold": 0,
    "folds": 5,
    "n_train": 60,
    "n_held_out": 240,
    "n_left_out": 2,
    "near_duplicate_pairs": 7,
    "seconds": 90,
    "config": {"lr": 1e-3, "batch_size": 8, "lesion_weight": 0.5, "inside_weight": 0.1, "lesion_crop_prob": 0.4},
}


def test_rates_carry_wilsons_intervals_too(held_out, actual):
    row = actual["models"]["ensemble"]["all"]
    for rates in row["operating_points"].values():
        missed, n = rates["missed"], row["n_malignant"]
        theirs = stats.binomtest(n - missed, n).proportion_ci(method="wilson")
        ours = rates["wilson"]["sensitivity"]
        assert ours["value"] == rates["sensitivity"]["value"]
        assert (ours["low"], ours["high"]) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_what_members_add_is_said_in_words(whole):
    text = tables.leave_out_text(whole)
    adds = {name: row["all"]["adds"] for name, row in whole["leave_out"].items()}
    assert adds["member good"]["low"] > 0
    assert f"shown for `good` ({tables.signed(adds['member good'])})" in text
    assert f"smallest weight is that of `blind`, which adds {tables.signed(adds['member blind'])}" in text
    none = json.loads(json.dumps(whole))
    for name in ("good", "fair", "blind"):
        none["leave_out"][f"member {name}"]["all"]["adds"] = {"value": -0.01, "low": -0.02, "high": 0.01}
    none["leave_out"]["member fair"]["all"]["adds"]["high"] = -0.001
    text = tables.leave_out_text(none)
    assert "shown for none of them" in text
    assert "Without `fair` (-0.010 (-0.020 to -0.001)) the AUROC is higher, by one of 3 such intervals" in text


def test_thresholds_that_do_not_travel_are_named(whole):
    travels = json.loads(json.dumps(whole))
    for points in travels["across_sources"].values():
        for row in points.values():
            row["sensitivity"] = {"value": 0.97, "low": 0.9, "high": 0.99}
    assert "shown to find fewer" not in tables.across_verdict(travels)
    assert "not fitted on is not shown" in tables.across_verdict(travels)
    for points in travels["across_sources"].values():
        points[whole["default_operating_point"]]["sensitivity"]["low"] = 0.96
    assert "is not shown" not in tables.across_verdict(travels)
    travels["across_sources"]["two"]["miss_10_in_100"]["sensitivity"] = {"value": 0.6, "low": 0.5, "high": 0.7}
    text = tables.across_verdict(travels)
    assert "wanted 0.9, measured 0.600 (0.500–0.700) on two" in text
    assert "for a sensitivity of 0.95 reaches 0.970 (0.960–0.990) on one and" in text
    assert "bus-hf calibrate" in text
    assert "one source" in tables.across_verdict(whole | {"across_sources": {}})


def test_a_member_card_tells_its_own_metrics_and_its_weight(whole):
    card = ModelCard(cards.member_card(whole, RECORD, "fair"))
    assert "weight in the ensemble is 0.430. It adds " in card.text
    assert tables.points_table(whole, "fair") in card.text
    assert "near zero" not in card.text
    for plot in (*cards.PLOTS, "training_history"):
        assert f"(plots/{plot}.png)" in card.text
    assert "the thresholds are the member's own" in card.text
    alone = cards.member_card(whole, RECORD, "fair", lone=True)
    assert cards.PLOTS_NOTE in alone
    assert "of its own lesion map" in alone
    values = {result.metric_value for result in card.data.eval_results}
    assert whole["models"]["fair"]["one"]["auroc"]["value"] in values
    assert whole["by_source"]["one"]["auroc"]["value"] not in values


def test_what_a_member_adds_is_told_with_whether_it_is_shown(whole):
    shown = json.loads(json.dumps(whole))
    shown["leave_out"]["member fair"]["all"]["adds"] = {"value": 0.02, "low": 0.01, "high": 0.03}
    assert tables.adds_text(shown, "fair") == "It adds +0.020 (+0.010 to +0.030) to the AUROC of the others."
    shown["leave_out"]["member fair"]["all"]["adds"]["low"] = -0.01
    assert "No gain from this member is shown" in tables.adds_text(shown, "fair")
    assert "AUROC is higher" not in tables.adds_text(shown, "fair")
    shown["leave_out"]["member fair"]["all"]["adds"] |= {"low": -0.02, "high": -0.001}
    assert "Without it the AUROC is higher, by one of 3 such intervals" in tables.adds_text(shown, "fair")
    assert tables.adds_text(shown, "unknown") == ""


def test_a_silent_member_is_called_silent(whole):
    quiet = json.loads(json.dumps(whole))
    quiet["member_weights"]["blind"] = 0.001
    assert "near zero" in cards.member_card(quiet, RECORD, "blind")
    assert "`blind` is near zero" in cards.ensemble_card(quiet, "bus", dict.fromkeys(MEMBERS, RECORD))


def test_the_ensemble_card_holds_every_table(whole):
    text = cards.ensemble_card(whole, "bus", dict.fromkeys(MEMBERS, RECORD))
    for table in (
        tables.models_table(whole),
        tables.rates_table(whole),
        tables.comparison_text(whole),
        tables.leave_out_table(whole),
        tables.leave_out_text(whole),
        tables.models_title(whole),
        tables.across_text(whole),
        tables.across_verdict(whole),
        tables.abstention_text(whole),
        cards.PLOTS_NOTE,
        "(plots/roc_curve.png)",
        tables.disagreement_text(whole),
        tables.strata_table(whole),
        tables.weights_text(whole),
    ):
        assert table in text
    for heading in ("Intended use", "Data and participants", "Ethics", "Reproduce", "Limits"):
        assert f"## {heading}" in text
    # Every row of a table has the cells of its head.
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, block


def test_cards_tell_out_of_fold_metrics_from_out_of_hospital_ones(whole):
    config = RECORD["config"] | {"hold_out": "each source", "birads_weight": 0.5}
    left_out = cards.ensemble_card(whole | {"hold_out": "each source"}, "bus", {"good": RECORD | {"config": config}})
    for words in ("were trained without that source", "trained on all of them", "networks that saw no image of theirs"):
        assert words in " ".join(left_out.split())
    assert "fold 0 of" not in left_out
    assert "BI-RADS term 0.5" in left_out
    one = RECORD | {"config": RECORD["config"] | {"hold_out": "busi"}}
    assert "(all of busi)" in cards.ensemble_card(whole, "bus", {"good": one})
    by_fold = cards.ensemble_card(whole, "bus", dict.fromkeys(MEMBERS, RECORD))
    assert "of images whose groups no member saw" in by_fold
    assert "without that source" not in by_fold


@pytest.mark.parametrize(
    ("sources", "present", "absent"),
    [
        (
            ("brest", "busbra", "busi"),
            ("BUSI", "BUS-BRA", "BrEaST", "make ensemble", "Known leaks", "Al-Dhabyani"),
            ("phantom",),
        ),
        (("busi",), ("BUSI", "Known leaks", "Al-Dhabyani"), ("BUS-BRA (Rio", "make ensemble")),
        (("brest",), ("BrEaST", "2024"), ("BUSI (", "Known leaks")),
        (
            ("phantoms",),
            ("generated pictures", "No image of a patient"),
            ("BUSI (", "## Cite", "published"),
        ),
        (("clinic <b>",), ("does not know",), ("BUSI (", "Known leaks", "Only published")),
    ],
)
def test_cards_speak_of_the_data_that_was_used(whole, sources, present, absent):
    rows = next(iter(whole["by_source"].values()))
    given = whole | {"by_source": dict.fromkeys(sources, rows)}
    for text in (
        cards.ensemble_card(given, "bus", dict.fromkeys(MEMBERS, RECORD)),
        cards.member_card(given, RECORD, "good"),
    ):
        plain = text.replace("**", "")
        for word in present:
            assert word in plain, word
        for word in absent:
            assert word not in plain, word
