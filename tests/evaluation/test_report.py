import json

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from sklearn.metrics import roc_auc_score

from bus_hf.errors import BusError
from bus_hf.evaluation import bootstrap, combine, evidence, metrics, report, weighting
from bus_hf.evaluation.calibration import PLAIN
from bus_hf.reporting import cards, plots, tables
from bus_hf.views import VIEW_WEIGHTS, VIEWS

POINTS = [{"name": "miss_5_in_100", "logit": -0.8, "sensitivity": [0.95, 0.9, 0.98], "specificity": [0.7, 0.6, 0.8]}]
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
    "n_held_out": 120,
    "n_left_out": 2,
    "near_duplicate_pairs": 7,
    "seconds": 90,
    "config": {"lr": 0.001, "batch_size": 8, "lesion_weight": 0.5, "inside_weight": 0.1, "lesion_crop_prob": 0.4},
}


def logits(shuffled=False):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 120)
    shown = rng.permutation(labels) if shuffled else labels
    rows = []
    for n in range(120):
        lesion = n % 10 != 0 or labels[n] == 1
        facts = {
            "name": f"i{n}",
            "source": "one" if n < 70 else "two",
            "group": f"g{n // 2}",
            "label": int(shown[n]),
            "fold": 0,
            "member": "net",
            "pathology": "malignant" if labels[n] else "benign" if lesion else "normal",
            "birads": str(2 + n % 4) if n < 70 else None,
            "histology": None,
            "device": "x" if n % 2 else None,
            "height": 100,
            "width": 120,
            "peak": 0.5,
            "box_iou": 0.6 if lesion else np.nan,
            "pointing_hit": float(n % 3 > 0) if lesion else np.nan,
            "energy_inside": 0.5 if lesion else np.nan,
        }
        facts |= dict.fromkeys(("box_x", "box_y", "box_w", "box_h"), 10.0 + n % 50)
        facts |= dict.fromkeys(("mask_x", "mask_y", "mask_w", "mask_h"), 10.0 + n % 50 if lesion else np.nan)
        rows += [facts | {"view": view, "logit_0": float(labels[n] * 3 - 1.5 + 3 * rng.normal())} for view in VIEWS]
    return pd.DataFrame(rows)


def whole_report(frame, members=None):
    members = members or {"net": 1.0}
    held_out = weighting.held_out_logits(frame, list(members), list(VIEW_WEIGHTS))
    return (
        report.report(frame, members, VIEW_WEIGHTS, PLAIN, POINTS)
        | evidence.evidence(held_out, members, VIEW_WEIGHTS, "miss_5_in_100")
        | {"weights": {"how": "given"}, "default_operating_point": "miss_5_in_100"}
    )


@pytest.fixture(scope="module")
def actual():
    return whole_report(logits())


def test_overall_against_scikit_learn(actual):
    frame = logits()
    frame["weighted"] = frame["logit_0"] * frame["view"].map(VIEW_WEIGHTS)
    images = frame.groupby("name", sort=False).agg(label=("label", "first"), logit=("weighted", "sum"))
    area = actual["overall"]["auroc"]
    assert area["value"] == pytest.approx(roc_auc_score(images["label"], images["logit"]), abs=1e-6)
    assert area["low"] < area["value"] < area["high"]
    assert (actual["overall"]["n"], actual["overall"]["n_groups"]) == (120, 60)


def test_shuffled_labels_destroy_every_metric(actual):
    chance = report.report(logits(shuffled=True), {"net": 1.0}, VIEW_WEIGHTS, PLAIN, POINTS)
    assert actual["overall"]["auroc"]["value"] > 0.9
    assert chance["overall"]["auroc"]["low"] < 0.5 < chance["overall"]["auroc"]["high"]
    for name, area in chance["views"]["one"].items():
        assert area["low"] < 0.55, name


def test_strata_and_normals(actual):
    assert set(actual["by_source"]) == {"one", "one without normals", "two", "two without normals"}
    assert actual["by_source"]["one"]["n"] == 70
    assert sum(row["n"] for row in actual["by_birads"].values()) == 70
    assert actual["by_device"]["x"]["n"] == 60
    assert actual["by_histology"] == {}


def test_a_small_stratum_says_why_it_has_no_area():
    frame = logits()
    few = frame[frame["name"].isin([f"i{n}" for n in range(8)])]
    row = report.report(few, {"net": 1.0}, VIEW_WEIGHTS, PLAIN, POINTS)["overall"]
    assert row["auroc"] is None
    assert "fewer than 10" in row["reason"]


def test_heat_map_figures_leave_normals_out(actual):
    heat = actual["heat_maps"]["net"]["one"]
    assert heat["all"]["energy_inside"]["value"] == pytest.approx(0.5)
    hits = heat["all"]["box_hit_rate"]
    assert hits["value"] == hits["high"] == 1
    assert 0.85 < hits["low"] < 1
    assert heat["n"] < 70


def test_report_is_json_and_tables_and_cards_come_from_it(actual):
    again = json.loads(json.dumps(actual, allow_nan=False))
    table = tables.metrics_table(again)
    assert f"{again['overall']['auroc']['value']:.3f}" in table
    assert "| one without normals |" in table
    card = ModelCard(cards.member_card(again, RECORD, "net"))
    assert card.data.license == "mit"
    alone = again["models"]["ensemble"]
    assert card.data.eval_results[0].metric_value == alone["one"]["auroc"]["value"]
    assert tables.estimate(alone["two"]["auprc"]) in card.text
    whole = cards.ensemble_card(again, "bus", {"net": RECORD})
    assert table in whole
    assert "| all views |" in whole
    assert "120 images" in whole


def test_figures_without_normals_stand_by_themselves_on_the_hub(actual):
    results = ModelCard(cards.ensemble_card(actual, "bus", {"net": RECORD})).data.eval_results
    areas = {result.dataset_name: result for result in results if result.metric_type == "auroc"}
    assert len(areas) == sum(result.metric_type == "auroc" for result in results) == 4
    for source, row in actual["by_source"].items():
        result = areas[f"{source}, out-of-fold, {row['n']} images"]
        assert result.metric_value == row["auroc"]["value"]
        assert tables.estimate(row["auroc"]) in result.metric_name


def test_rates_of_a_faultless_reader_keep_an_interval():
    frame = logits()
    frame["logit_0"] = frame["label"] * 20.0 - 10
    rates = report.report(frame, {"net": 1.0}, VIEW_WEIGHTS, PLAIN, POINTS)["overall"]["operating_points"]
    for name, counted in (
        ("sensitivity", frame[frame["label"] == 1]),
        ("specificity", frame[frame["label"] == 0]),
        ("accuracy", frame),
    ):
        groups = counted["group"].nunique()
        bounds = metrics.wilson(groups, groups)
        assert rates["miss_5_in_100"][name] == pytest.approx(bounds.to_dict(), abs=1e-6), name


def test_picture_and_table_have_one_interval(actual, tmp_path, monkeypatch):
    images = logits().drop_duplicates("name")
    logit = (
        logits().assign(x=lambda f: f["logit_0"] * f["view"].map(VIEW_WEIGHTS)).groupby("name", sort=False)["x"].sum()
    )
    drawn = []
    monkeypatch.setattr(
        plots, "group_bootstrap", lambda *given: drawn.append(bootstrap.group_bootstrap(*given)) or drawn[0]
    )
    plots.roc_curve(
        tmp_path / "roc.png", images["label"].to_numpy(), logit.to_numpy(), images["group"].to_numpy(), n=20
    )
    assert drawn[0].to_dict() == actual["overall"]["auroc"]


def test_more_than_two_classes_are_refused():
    with pytest.raises(BusError, match="more than two classes"):
        report.report(logits().assign(logit_1=0.0), {"net": 1.0}, VIEW_WEIGHTS, PLAIN, POINTS)


def test_changing_a_figure_changes_the_card(actual):
    other = json.loads(json.dumps(actual))
    other["overall"]["auroc"]["value"] = 0.123456
    assert "0.123 (" in cards.ensemble_card(other, "bus", {"net": RECORD})
    assert "0.123 (" not in cards.ensemble_card(actual, "bus", {"net": RECORD})
    other["models"]["ensemble"]["one"]["auroc"]["value"] = 0.123456
    assert "0.123 (" in cards.member_card(other, RECORD, "net")
    assert "0.123 (" not in cards.member_card(actual, RECORD, "net")


def test_replace_between():
    text = "a\n<!-- figures:start -->\nold\n<!-- figures:end -->\nb\n"
    once = cards.replace_between(text, "figures", "new\n")
    assert once == "a\n<!-- figures:start -->\nnew\n<!-- figures:end -->\nb\n"
    assert cards.replace_between(once, "figures", "new") == once
    with pytest.raises(ValueError, match="figures:start"):
        cards.replace_between("nothing here", "figures", "new")


def test_plots_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 80)
    chances = np.clip(labels * 0.4 + rng.random(80) * 0.6, 0, 1)
    plots.roc_curve(tmp_path / "roc.png", labels, chances, np.arange(80), n=50)
    plots.reliability(tmp_path / "reliability.png", labels, chances)
    plots.confusion_matrix(tmp_path / "confusion.png", labels, chances, 0.5)
    plots.decision_curve(tmp_path / "decision.png", labels, chances)
    row = {"loss": 1.0, "loss_classes": 0.6, "loss_lesion": 0.3, "loss_inside": 0.1, "auroc": 0.8, "lr": 0.1}
    plots.training_history(tmp_path / "history.png", [row | {"epoch": float(n)} for n in range(3)])
    assert len(list(tmp_path.glob("*.png"))) == 5
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in tmp_path.glob("*.png"))


def test_a_member_alone_is_read_at_the_thresholds_that_ship(actual):
    frame = logits()
    images = combine.combine(frame, {"net": 1.0}, VIEW_WEIGHTS)
    calibrated = images["logit_0"].to_numpy() / actual["temperature"] + actual["bias"]
    for point in POINTS:
        called = calibrated[images["label"].to_numpy() == 1] >= point["logit"]
        assert actual["as_used"]["net"][point["name"]]["sensitivity"]["value"] == pytest.approx(called.mean(), abs=1e-6)
    assert actual["mean_probability"] == pytest.approx((1 / (1 + np.exp(-calibrated))).mean(), abs=1e-6)
    assert actual["share_malignant"] == pytest.approx(images["label"].mean(), abs=1e-6)
