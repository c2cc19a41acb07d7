import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bus_hf.errors import BusError
from bus_hf.evaluation import weighting
from bus_hf.evaluation.combine import combine
from bus_hf.reporting import trials

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


def test_areas_are_those_of_scikit_learn_and_the_mean_is_theirs():
    weak = {"a": run(0.5, 1), "b": run(0.8, 2)}
    row = trials.table({"baseline": weak}, VIEWS, n=50)[0]
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
    rows = trials.table({"baseline": weak, "again": other, "strong": strong}, VIEWS, n=200)
    assert rows[1]["gain"]["low"] < 0 < rows[1]["gain"]["high"]
    assert rows[2]["gain"]["low"] > 0
    areas = [{key: area["value"] for key, area in row["auroc"].items()} for row in rows]
    for key, pairs in (("gain_in_source", ("a > a", "b > b")), ("gain_cross_source", ("a > b", "b > a"))):
        gained = np.mean([areas[2][pair] - areas[0][pair] for pair in pairs])
        assert rows[2][key]["value"] == pytest.approx(gained, abs=2e-6)
        assert rows[2][key]["low"] <= rows[2][key]["value"] <= rows[2][key]["high"]
    text = trials.markdown(rows, {"baseline": "none", "again": "seed=1", "strong": "x=2"})
    assert f"{rows[2]['gain']['value']:+.3f}" in text
    assert f"{rows[2]['gain_cross_source']['value']:+.3f}" in text
    assert "| gain | gain in-source | gain cross-source |" in text
    assert text.count("\n") == 4


def test_shuffled_labels_destroy_the_areas():
    frame = run(2.0)
    shuffled = dict(zip(frame["name"].unique(), np.random.default_rng(0).permutation(frame["label"][::2]), strict=True))
    frame["label"] = frame["name"].map(shuffled)
    row = trials.table({"baseline": {"a": frame, "b": frame}}, VIEWS, n=200)[0]
    assert row["mean"]["low"] < 0.5 < row["mean"]["high"]


def test_trials_of_other_images_are_not_compared():
    whole = {"a": run(1.0), "b": run(1.0)}
    part = {"a": run(1.0), "b": run(1.0)[2:]}
    with pytest.raises(BusError, match="did not read the images"):
        trials.table({"baseline": whole, "other": part}, VIEWS, n=10)
    with pytest.raises(BusError, match="trial 'set' did not read the images of trial 'set'"):
        trials.repeats({"set": [whole, part]}, VIEWS, n=10)


def test_a_threshold_is_fitted_at_home_and_read_abroad():
    runs = {"a": run(1.5, 1), "b": run(1.5, 2)}
    rows = trials.thresholds(runs, VIEWS, target=0.9)
    assert [(row["trained"], row["read"]) for row in rows] == [("a", "b"), ("b", "a")]
    images = (
        runs["a"].groupby("name").agg(label=("label", "first"), source=("source", "first"), logit=("logit_0", "mean"))
    )
    home, abroad = images[images["source"] == "a"], images[images["source"] == "b"]
    scores = home["logit"][home["label"] == 1].sort_values(ascending=False)
    threshold = scores.iloc[int(np.ceil(0.9 * len(scores))) - 1]
    called = abroad["logit"] >= threshold - 1e-6
    assert rows[0]["sensitivity"]["value"] == pytest.approx(called[abroad["label"] == 1].mean(), abs=1e-6)
    assert rows[0]["specificity"]["value"] == pytest.approx(1 - called[abroad["label"] == 0].mean(), abs=1e-6)
    assert rows[0]["n_fit"] == len(scores)
    assert trials.thresholds_markdown(rows).count("\n") == 3


def test_looks_are_the_views_weighed_among_themselves():
    runs = {"a": run(0.8, 1), "b": run(0.8, 2)}
    rows = {row["name"]: row for row in trials.looks(runs, VIEWS, n=50)}
    assert list(rows) == ["all views", "global views", "lesion crops", "view whole", "view lesion"]
    part = runs["b"][(runs["b"]["source"] == "a") & (runs["b"]["view"] == "lesion")]
    area = roc_auc_score(part["label"], part["logit_0"])
    assert rows["lesion crops"]["auroc"]["b > a"]["value"] == pytest.approx(area, abs=1e-6)
    assert rows["view lesion"]["auroc"] == rows["lesion crops"]["auroc"]
    both = trials.table({"x": runs}, VIEWS, n=50)[0]
    assert rows["all views"]["auroc"] == both["auroc"]
    assert trials.markdown(list(rows.values())).startswith("| read | a > a |")


def test_trials_together_give_the_mean_logit():
    one, other = {"a": run(0.8, 1), "b": run(0.8, 2)}, {"a": run(0.8, 3), "b": run(0.8, 4)}
    row = trials.table({"both": trials.together({"one": one, "other": other})}, VIEWS, n=20)[0]
    frames = pd.concat([one["a"], other["a"]])
    part = frames[frames["source"] == "b"].groupby("name").agg(label=("label", "first"), logit=("logit_0", "mean"))
    assert row["auroc"]["a > b"]["value"] == pytest.approx(roc_auc_score(part["label"], part["logit"]), abs=1e-6)
    alone = trials.table({"twice": trials.together({"one": one, "again": one}), "one": one}, VIEWS, n=20)
    assert alone[0]["auroc"] == alone[1]["auroc"]


def test_repeats_give_the_mean_of_the_figures():
    one, other = {"a": run(0.8, 1), "b": run(0.8, 2)}, {"a": run(0.8, 3), "b": run(0.8, 4)}
    rows = trials.repeats({"one": [one], "both": [one, other]}, VIEWS, n=50)
    alone = [trials.table({"x": runs}, VIEWS, n=50)[0] for runs in (one, other)]
    assert rows[0] == alone[0] | {"name": "one"}
    mean = np.mean([row["mean"]["value"] for row in alone])
    assert rows[1]["mean"]["value"] == pytest.approx(mean, abs=2e-6)
    assert rows[1]["gain"]["value"] == pytest.approx(mean - alone[0]["mean"]["value"], abs=3e-6)


def test_trials_of_other_images_do_not_vote_together():
    one = {"a": run(1.0), "b": run(1.0)}
    with pytest.raises(BusError, match="did not read the same images"):
        trials.together({"one": one, "other": {"a": run(1.0), "b": run(1.0)[2:]}})
    with pytest.raises(BusError, match="same sources"):
        trials.together({"one": one, "other": {"a": run(1.0)}})


def test_rules_of_votes_are_fitted_at_home_and_read_abroad():
    strong, blind = {"a": run(1.5, 1), "b": run(1.5, 2)}, {"a": run(0.0, 3), "b": run(0.0, 4)}
    runs = trials.together({"strong": strong, "blind": blind})
    rows = {row["name"]: row for row in trials.vote_rules(runs, VIEWS, n=100)}
    assert list(rows)[:2] == ["equal votes", "by separation, power 1"]
    assert rows["equal votes"]["auroc"]["a > b"] == trials.table({"x": runs}, VIEWS, n=100)[0]["auroc"]["a > b"]
    assert rows["by separation, power 4"]["gain"]["low"] > 0
    home = runs["a"][runs["a"]["source"] == "a"]
    members, views = weighting.by_separation(weighting.readings(home, ["strong", "blind"], list(VIEWS)), VIEWS, power=4)
    abroad = combine(runs["a"][runs["a"]["source"] == "b"], members, views)
    area = roc_auc_score(abroad["label"], abroad["logit_0"])
    assert rows["by separation, power 4"]["auroc"]["a > b"]["value"] == pytest.approx(area, abs=1e-6)
