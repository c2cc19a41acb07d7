import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, recall_score, roc_auc_score

from bus_hf.errors import BusError
from bus_hf.evaluation.figures import wilson
from bus_hf.evaluation.screening import BusScreening, screening

FOLDER = Path(__file__).resolve().parents[2] / "metrics" / "bus_screening"


def cases(n=200, shuffled=False):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    chances = np.clip(0.25 + 0.4 * labels + 0.2 * rng.normal(size=n), 0, 1)
    return chances, rng.permutation(labels) if shuffled else labels, np.arange(n) // 2


def test_against_scikit_learn():
    chances, labels, groups = cases()
    found = screening(chances, labels, groups, n=200)
    called = chances >= 0.5
    for name, expected in (
        ("auroc", roc_auc_score(labels, chances)),
        ("auprc", average_precision_score(labels, chances)),
        ("brier", brier_score_loss(labels, chances)),
        ("sensitivity", recall_score(labels, called)),
        ("specificity", recall_score(1 - labels, ~called)),
        ("f1", f1_score(labels, called)),
        ("ppv", labels[called].mean()),
        ("npv", 1 - labels[~called].mean()),
    ):
        assert found[name] == pytest.approx(expected, abs=1e-9), name
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"], name
    threshold = np.sort(chances[labels == 1])[int(labels.sum()) - int(np.ceil(0.9 * labels.sum()))]
    assert found["specificity_at_0.9"] == pytest.approx((chances[labels == 0] < threshold).mean())
    assert (found["n"], found["n_positive"], found["n_groups"]) == (200, int(labels.sum()), 100)


def test_groups_widen_the_interval_of_repeated_cases():
    chances, labels, _ = cases(60)
    many = [np.repeat(values, 5) for values in (chances, labels, np.arange(60))]
    alone, grouped = screening(*many[:2], n=300), screening(*many, n=300)
    wide, narrow = (found["auroc_high"] - found["auroc_low"] for found in (grouped, alone))
    assert wide > 1.6 * narrow


def test_shuffled_labels_destroy_it():
    found = screening(*cases(shuffled=True), n=200)
    assert found["auroc_low"] < 0.5 < found["auroc_high"]
    assert abs(found["sensitivity"] + found["specificity"] - 1) < 0.2


def test_predictive_values_at_a_share():
    chances, labels, groups = cases()
    found = screening(chances, labels, groups, prevalence=0.01, n=50)
    ill, well = 0.01 * found["sensitivity"], 0.99 * (1 - found["specificity"])
    assert found["ppv"] == pytest.approx(ill / (ill + well))


def test_as_a_metric_by_import_and_in_batches():
    chances, labels, groups = cases(40)
    metric = BusScreening()
    at_once = metric.compute(predictions=chances, references=labels, groups=groups, resamples=50)
    for start in (0, 20):
        metric.add_batch(predictions=chances[start : start + 20], references=labels[start : start + 20])
    assert metric.compute(groups=groups, resamples=50) == at_once == screening(chances, labels, groups, n=50)


def test_load_from_its_folder_elsewhere_and_offline(tmp_path):
    chances, labels, _ = cases(40)
    code = (
        "import evaluate, json, sys\n"
        f"metric = evaluate.load({str(FOLDER)!r})\n"
        "given = json.load(sys.stdin)\n"
        "print(json.dumps(metric.compute(**given, resamples=50)))\n"
    )
    given = json.dumps({"predictions": chances.tolist(), "references": labels.tolist()})
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == pytest.approx(screening(chances, labels, n=50))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"predictions": [0.5] * 3}, "3 predictions, 4 references"),
        ({"predictions": [0.5, 0.5, 0.5, 1.5]}, "no probability"),
        ({"predictions": [0.5, 0.5, 0.5, float("nan")]}, "no probability"),
        ({"references": [0, 1, 2, 1]}, "neither 0 nor 1"),
        ({"references": [1, 1, 1, 1]}, "one class only"),
        ({"prevalence": 0.0}, "prevalence is 0"),
        ({"threshold": 2}, "threshold is 2"),
        ({"sensitivities": [0]}, "wanted sensitivity"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    given = {"predictions": [0.1, 0.9, 0.4, 0.6], "references": [0, 1, 0, 1]} | change
    with pytest.raises(BusError, match=sentence):
        screening(**given)


def test_rates_of_one_have_the_bounds_of_wilson_where_they_are_rates_of_these_cases():
    found = screening([0.1, 0.2, 0.1, 0.2, 0.8, 0.9, 0.8, 0.9], [0, 0, 0, 0, 1, 1, 1, 1], n=50)
    for name in ("sensitivity", "specificity", "ppv", "npv", "specificity_at_0.95"):
        assert found[name] == found[f"{name}_high"] == 1
        assert found[f"{name}_low"] == pytest.approx(wilson(4, 4).low), name
    assert found["accuracy_low"] == pytest.approx(wilson(8, 8).low)
    stated = screening([0.1, 0.2, 0.1, 0.2, 0.8, 0.9, 0.8, 0.9], [0, 0, 0, 0, 1, 1, 1, 1], prevalence=0.01, n=50)
    assert stated["npv_low"] == 1
