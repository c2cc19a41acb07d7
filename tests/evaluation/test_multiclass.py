import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from bus_hf.errors import BusError
from bus_hf.evaluation import multiclass
from bus_hf.reporting import multiclass as pages

NAMES = ("normal", "benign", "malignant")
VIEWS = {"whole": 0.5, "lesion": 0.5}
COLUMNS = ["logit_0", "logit_1", "logit_2"]


def logits(shuffled=False, n=240):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    shown = rng.permutation(labels) if shuffled else labels
    rows = []
    for i in range(n):
        for view in VIEWS:
            values = 1.2 * (np.arange(3) == labels[i]) + rng.normal(size=3)
            facts = {"name": f"i{i:04}", "source": "busi", "group": f"g{i // 2}", "fold": (i // 2) % 5, "member": "net"}
            rows.append(
                facts | {"label": int(shown[i]), "view": view} | {f"logit_{k}": v for k, v in enumerate(values)}
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def result():
    return multiclass.report(logits(), NAMES, VIEWS)


def test_shares_of_the_classes_come_from_the_other_folds_alone():
    frame = logits(n=1200)
    frame[COLUMNS] *= 2.4  # the likelihood ratios of what `logits` draws
    # Benign images are four times as many as the others; the logits do not know.
    kept = frame[(frame["label"] == 1) | (frame["name"].str[1:].astype(int) // 10 % 4 == 0)]
    assert "at_shares" not in multiclass.report(kept, NAMES, VIEWS)
    assert "at_shares" not in multiclass.report(kept[kept["fold"] == 0], NAMES, VIEWS, balanced=True)
    result = multiclass.report(kept, NAMES, VIEWS, balanced=True)
    assert result["at_shares"]["n"] == result["one_a_group"]["n"]
    for better, key in ((1, "accuracy"), (-1, "log_loss")):
        assert better * result["at_shares"][key]["value"] > better * result["one_a_group"][key]["value"]
    images = kept.groupby("name").agg(
        {"label": "first", "fold": "first", "group": "first"} | dict.fromkeys(COLUMNS, "mean")
    )
    right = []
    for _, row in images.sort_index().drop_duplicates("group").iterrows():
        shares = [((images["fold"] != row["fold"]) & (images["label"] == k)).sum() + 0.5 for k in range(3)]
        right.append(np.argmax(row[COLUMNS].to_numpy(float) + np.log(shares)) == row["label"])
    assert result["at_shares"]["accuracy"]["value"] == pytest.approx(np.mean(right), abs=1e-6)
    record = {"architecture": "net", "input_size": 64, "epochs": 1, "start": {"source": "x"}, "folds": 5, "fold": 0}
    record |= {"sources": {"busi": 9}, "n_left_out": 0, "label_set": "busi3"}
    text = pages.markdown(result, "busi3", [record])
    for part in ("all", "one_a_group", "at_shares"):
        assert pages.class_table(result, part) in text


def test_against_scikit_learn(result):
    frame = logits()
    images = frame.groupby("name")[["label", "logit_0", "logit_1", "logit_2"]].mean()
    labels, y_pred = images["label"].astype(int), images[["logit_0", "logit_1", "logit_2"]].to_numpy().argmax(1)
    row = result["all"]
    assert row["accuracy"]["value"] == pytest.approx(accuracy_score(labels, y_pred), abs=1e-6)
    assert row["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(labels, y_pred), abs=1e-6)
    assert row["macro_f1"]["value"] == pytest.approx(f1_score(labels, y_pred, average="macro"), abs=1e-6)
    for k, name in enumerate(NAMES):
        one = row["by_class"][name]
        for key, oracle in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            assert one[key]["value"] == pytest.approx(oracle(labels == k, y_pred == k), abs=1e-6), (name, key)
            assert one[key]["low"] < one[key]["value"] < one[key]["high"]
        # Temperatures of parts differ a little, so the order of probabilities is nearly that of one temperature.
        raised = np.exp(images[["logit_0", "logit_1", "logit_2"]].to_numpy())
        area = roc_auc_score(labels == k, (raised / raised.sum(1, keepdims=True))[:, k])
        assert one["auroc"]["value"] == pytest.approx(area, abs=0.01)
    assert np.sum(row["confusion"]) == 240
    assert np.trace(row["confusion"]) / 240 == pytest.approx(row["accuracy"]["value"], abs=1e-6)


def test_folds_give_mean_and_spread(result):
    folds = result["all"]["folds"]
    each = [folds[k]["accuracy"] for k in range(5)]
    assert folds["accuracy"]["mean"] == pytest.approx(np.mean(each), abs=1e-5)
    assert folds["accuracy"]["sd"] == pytest.approx(np.std(each, ddof=1), abs=1e-5)


def test_one_a_group_counts_each_group_once(result):
    assert result["all"]["n"] == 240
    assert result["one_a_group"]["n"] == result["one_a_group"]["n_groups"] == 120


def test_shuffled_labels_destroy_every_metric(result):
    chance = multiclass.report(logits(shuffled=True), NAMES, VIEWS)
    assert multiclass.better_than_chance(result)
    assert not multiclass.better_than_chance(chance)
    assert result["all"]["accuracy"]["low"] > 0.6
    assert chance["all"]["accuracy"]["low"] < 1 / 3 < chance["all"]["accuracy"]["high"]
    assert chance["all"]["balanced_accuracy"]["low"] < 1 / 3 < chance["all"]["balanced_accuracy"]["high"]


def test_other_logits_are_refused():
    with pytest.raises(BusError, match="4 classes"):
        multiclass.report(logits(), ("a", "b", "c", "d"), VIEWS)
