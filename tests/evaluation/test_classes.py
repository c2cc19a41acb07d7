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
from bus_hf.evaluation import classes

NAMES = ("normal", "benign", "malignant")
VIEWS = {"whole": 0.5, "lesion": 0.5}


def logits(shuffled=False, n=240):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    shown = rng.permutation(labels) if shuffled else labels
    rows = []
    for i in range(n):
        for view in VIEWS:
            values = 1.2 * (np.arange(3) == labels[i]) + rng.normal(size=3)
            facts = {"name": f"i{i:03}", "source": "busi", "group": f"g{i // 2}", "fold": (i // 2) % 5, "member": "net"}
            rows.append(
                facts | {"label": int(shown[i]), "view": view} | {f"logit_{k}": v for k, v in enumerate(values)}
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def found():
    return classes.report(logits(), NAMES, VIEWS)


def test_against_scikit_learn(found):
    frame = logits()
    images = frame.groupby("name")[["label", "logit_0", "logit_1", "logit_2"]].mean()
    labels, said = images["label"].astype(int), images[["logit_0", "logit_1", "logit_2"]].to_numpy().argmax(1)
    row = found["all"]
    assert row["accuracy"]["value"] == pytest.approx(accuracy_score(labels, said), abs=1e-6)
    assert row["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(labels, said), abs=1e-6)
    assert row["macro_f1"]["value"] == pytest.approx(f1_score(labels, said, average="macro"), abs=1e-6)
    for k, name in enumerate(NAMES):
        one = row["by_class"][name]
        for key, oracle in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
            assert one[key]["value"] == pytest.approx(oracle(labels == k, said == k), abs=1e-6), (name, key)
            assert one[key]["low"] < one[key]["value"] < one[key]["high"]
        # Temperatures of parts differ a little, so the order of probabilities is nearly that of one temperature.
        raised = np.exp(images[["logit_0", "logit_1", "logit_2"]].to_numpy())
        area = roc_auc_score(labels == k, (raised / raised.sum(1, keepdims=True))[:, k])
        assert one["auroc"]["value"] == pytest.approx(area, abs=0.01)
    assert np.sum(row["confusion"]) == 240
    assert np.trace(row["confusion"]) / 240 == pytest.approx(row["accuracy"]["value"], abs=1e-6)


def test_folds_give_mean_and_spread(found):
    folds = found["all"]["folds"]
    each = [folds[k]["accuracy"] for k in range(5)]
    assert folds["accuracy"]["mean"] == pytest.approx(np.mean(each), abs=1e-5)
    assert folds["accuracy"]["sd"] == pytest.approx(np.std(each, ddof=1), abs=1e-5)


def test_one_a_group_counts_each_group_once(found):
    assert found["all"]["n"] == 240
    assert found["one_a_group"]["n"] == found["one_a_group"]["n_groups"] == 120


def test_shuffled_labels_destroy_every_figure(found):
    chance = classes.report(logits(shuffled=True), NAMES, VIEWS)
    assert classes.better_than_chance(found)
    assert not classes.better_than_chance(chance)
    assert found["all"]["accuracy"]["low"] > 0.6
    assert chance["all"]["accuracy"]["low"] < 1 / 3 < chance["all"]["accuracy"]["high"]
    assert chance["all"]["balanced_accuracy"]["low"] < 1 / 3 < chance["all"]["balanced_accuracy"]["high"]


def test_other_logits_are_refused():
    with pytest.raises(BusError, match="4 classes"):
        classes.report(logits(), ("a", "b", "c", "d"), VIEWS)
