import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bus_hf.errors import BusError
from bus_hf.evaluation import weighting
from bus_hf.evaluation.combine import combine
from research import comparison

VIEWS = {"whole": 0.5, "lesion": 0.5}


def run(strength, seed=0, n=160):
    rng = np.random.default_rng(seed)
    labels = np.random.default_rng(99).integers(0, 2, n)
    rows = [
        {
            "name": f"i{i:03}",
            "source": "a" if i < n // 4 else "b",
            "group": f"g{i // 2}",
            "label": labels[i],
            "member": "net",
            "view": view,
            "logit_0": strength * labels[i] + rng.normal(),
        }
        for i in range(n)
        for view in VIEWS
    ]
    return pd.DataFrame(rows)


def single(logits, n):
    """Rows of trials that stand by themselves."""
    return comparison.compare({name: [each] for name, each in logits.items()}, VIEWS, n=n)


def test_areas_are_those_of_scikit_learn_and_the_mean_is_theirs():
    weak = {"a": run(0.5, 1), "b": run(0.8, 2)}
    row = single({"baseline": weak}, n=50)[0]
    assert list(row["auroc"]) == ["a > a", "a > b", "b > a", "b > b"]
    part = weak["b"][weak["b"]["source"] == "a"]
    images = part.groupby("name").agg(label=("label", "first"), logit=("logit_0", "mean"))
    assert row["auroc"]["b > a"]["value"] == pytest.approx(roc_auc_score(images["label"], images["logit"]), abs=1e-6)
    mean = np.mean([area["value"] for area in row["auroc"].values()])
    assert row["mean"]["value"] == pytest.approx(mean, abs=1e-5)
    assert row["gain"] == {"value": 0, "low": 0, "high": 0}


def test_a_better_trial_gains_and_the_same_again_does_not():
    weak = {"a": run(0.4, 1), "b": run(0.4, 2)}
    rng = np.random.default_rng(0)
    other = {
        key: frame.assign(logit_0=frame["logit_0"] + 0.3 * rng.normal(size=len(frame))) for key, frame in weak.items()
    }
    strong = {"a": run(2.0, 5), "b": run(2.0, 6)}
    rows = single({"baseline": weak, "again": other, "strong": strong}, n=200)
    assert rows[1]["gain"]["low"] < 0 < rows[1]["gain"]["high"]
    assert rows[2]["gain"]["low"] > 0
    areas = [{key: area["value"] for key, area in row["auroc"].items()} for row in rows]
    for key, pairs in (("gain_in_source", ("a > a", "b > b")), ("gain_cross_source", ("a > b", "b > a"))):
        gained = np.mean([areas[2][pair] - areas[0][pair] for pair in pairs])
        assert rows[2][key]["value"] == pytest.approx(gained, abs=2e-6)
        assert rows[2][key]["low"] <= rows[2][key]["value"] <= rows[2][key]["high"]


def test_shuffled_labels_destroy_the_areas():
    frame = run(2.0)
    shuffled = dict(zip(frame["name"].unique(), np.random.default_rng(0).permutation(frame["label"][::2]), strict=True))
    frame["label"] = frame["name"].map(shuffled)
    row = single({"baseline": {"a": frame, "b": frame}}, n=200)[0]
    assert row["mean"]["low"] < 0.5 < row["mean"]["high"]


def test_trials_of_other_images_are_not_compared():
    whole = {"a": run(1.0), "b": run(1.0)}
    part = {"a": run(1.0), "b": run(1.0)[2:]}
    with pytest.raises(BusError, match="did not predict the images"):
        single({"baseline": whole, "other": part}, n=10)
    with pytest.raises(BusError, match="trial 'set' did not predict the images of trial 'set'"):
        comparison.compare({"set": [whole, part]}, VIEWS, n=10)


def test_a_threshold_is_fitted_in_source_and_measured_cross_source():
    runs = {"a": run(1.5, 1), "b": run(1.5, 2)}
    rows = comparison.thresholds(runs, VIEWS, target=0.9)
    assert [(row["trained"], row["measured"]) for row in rows] == [("a", "b"), ("b", "a")]
    images = (
        runs["a"].groupby("name").agg(label=("label", "first"), source=("source", "first"), logit=("logit_0", "mean"))
    )
    home, abroad = images[images["source"] == "a"], images[images["source"] == "b"]
    scores = home["logit"][home["label"] == 1].sort_values(ascending=False)
    threshold = scores.iloc[int(np.ceil(0.9 * len(scores))) - 1]
    predicted = abroad["logit"] >= threshold - 1e-6
    assert rows[0]["sensitivity"]["value"] == pytest.approx(predicted[abroad["label"] == 1].mean(), abs=1e-6)
    assert rows[0]["specificity"]["value"] == pytest.approx(1 - predicted[abroad["label"] == 0].mean(), abs=1e-6)
    assert rows[0]["n_fit"] == len(scores)


def test_groups_of_views_are_weighed_among_themselves():
    runs = {"a": run(0.8, 1), "b": run(0.8, 2)}
    rows = {row["name"]: row for row in comparison.compare_views(runs, VIEWS, n=50)}
    assert list(rows) == ["all views", "global views", "lesion crops", "view whole", "view lesion"]
    part = runs["b"][(runs["b"]["source"] == "a") & (runs["b"]["view"] == "lesion")]
    area = roc_auc_score(part["label"], part["logit_0"])
    assert rows["lesion crops"]["auroc"]["b > a"]["value"] == pytest.approx(area, abs=1e-6)
    assert rows["view lesion"]["auroc"] == rows["lesion crops"]["auroc"]
    both = single({"x": runs}, n=50)[0]
    assert rows["all views"]["auroc"] == both["auroc"]


def test_pooled_trials_give_the_mean_logit():
    one, other = {"a": run(0.8, 1), "b": run(0.8, 2)}, {"a": run(0.8, 3), "b": run(0.8, 4)}
    row = single({"both": comparison.pooled({"one": one, "other": other})}, n=20)[0]
    frames = pd.concat([one["a"], other["a"]])
    part = frames[frames["source"] == "b"].groupby("name").agg(label=("label", "first"), logit=("logit_0", "mean"))
    assert row["auroc"]["a > b"]["value"] == pytest.approx(roc_auc_score(part["label"], part["logit"]), abs=1e-6)
    alone = single({"twice": comparison.pooled({"one": one, "again": one}), "one": one}, n=20)
    assert alone[0]["auroc"] == alone[1]["auroc"]


def test_seeds_give_the_mean_of_the_metrics():
    one, other = {"a": run(0.8, 1), "b": run(0.8, 2)}, {"a": run(0.8, 3), "b": run(0.8, 4)}
    rows = comparison.compare({"one": [one], "both": [one, other]}, VIEWS, n=50)
    alone = [single({"x": runs}, n=50)[0] for runs in (one, other)]
    assert rows[0] == alone[0] | {"name": "one"}
    mean = np.mean([row["mean"]["value"] for row in alone])
    assert rows[1]["mean"]["value"] == pytest.approx(mean, abs=2e-6)
    assert rows[1]["gain"]["value"] == pytest.approx(mean - alone[0]["mean"]["value"], abs=3e-6)


def test_trials_of_other_images_are_not_pooled():
    one = {"a": run(1.0), "b": run(1.0)}
    with pytest.raises(BusError, match="did not predict the same images"):
        comparison.pooled({"one": one, "other": {"a": run(1.0), "b": run(1.0)[2:]}})
    with pytest.raises(BusError, match="same sources"):
        comparison.pooled({"one": one, "other": {"a": run(1.0)}})


def test_weight_rules_are_fitted_in_source_and_measured_cross_source():
    strong, blind = {"a": run(1.5, 1), "b": run(1.5, 2)}, {"a": run(0.0, 3), "b": run(0.0, 4)}
    runs = comparison.pooled({"strong": strong, "blind": blind})
    rows = {row["name"]: row for row in comparison.compare_rules(runs, VIEWS, n=100)}
    assert list(rows)[:2] == ["equal weights", "by d', power 1"]
    assert rows["equal weights"]["auroc"]["a > b"] == single({"x": runs}, n=100)[0]["auroc"]["a > b"]
    assert rows["by d', power 4"]["gain"]["low"] > 0
    home = runs["a"][runs["a"]["source"] == "a"]
    members, views = weighting.by_dprime(
        weighting.held_out_logits(home, ["strong", "blind"], list(VIEWS)), VIEWS, power=4
    )
    abroad = combine(runs["a"][runs["a"]["source"] == "b"], members, views)
    area = roc_auc_score(abroad["label"], abroad["logit_0"])
    assert rows["by d', power 4"]["auroc"]["a > b"]["value"] == pytest.approx(area, abs=1e-6)
