import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, recall_score, roc_auc_score

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import group_bootstrap
from bus_hf.evaluation.metrics import wilson
from bus_hf.evaluation.screening import BusScreening, screening
from tests.programs import python

FOLDER = Path(__file__).resolve().parents[2] / "metrics" / "bus_screening"


def cases(n=200, shuffled=False):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    chances = np.clip(0.25 + 0.4 * labels + 0.2 * rng.normal(size=n), 0, 1)
    return chances, rng.permutation(labels) if shuffled else labels, np.arange(n) // 2


def test_against_scikit_learn():
    chances, labels, groups = cases()
    result = screening(chances, labels, groups, n=200)
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
        assert result[name] == pytest.approx(expected, abs=1e-9), name
        assert result[f"{name}_low"] < result[name] < result[f"{name}_high"], name
    threshold = np.sort(chances[labels == 1])[int(labels.sum()) - int(np.ceil(0.9 * labels.sum()))]
    assert result["specificity_at_0.9"] == pytest.approx((chances[labels == 0] < threshold).mean())
    assert (result["n"], result["n_positive"], result["n_groups"]) == (200, int(labels.sum()), 100)


def test_groups_widen_the_interval_of_repeated_cases():
    chances, labels, _ = cases(60)
    many = [np.repeat(values, 5) for values in (chances, labels, np.arange(60))]
    alone, grouped = screening(*many[:2], n=300), screening(*many, n=300)
    wide, narrow = (result["auroc_high"] - result["auroc_low"] for result in (grouped, alone))
    assert wide > 1.6 * narrow


def test_shuffled_labels_destroy_it():
    result = screening(*cases(shuffled=True), n=200)
    assert result["auroc_low"] < 0.5 < result["auroc_high"]
    assert abs(result["sensitivity"] + result["specificity"] - 1) < 0.2


def test_predictive_values_at_a_share():
    chances, labels, groups = cases()
    result = screening(chances, labels, groups, prevalence=0.01, n=50)
    ill, well = 0.01 * result["sensitivity"], 0.99 * (1 - result["specificity"])
    assert result["ppv"] == pytest.approx(ill / (ill + well))


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
        "given = json.loads(sys.argv[1])\n"
        "print(json.dumps(metric.compute(**given, resamples=50)))\n"
    )
    given = json.dumps({"predictions": chances.tolist(), "references": labels.tolist()})
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = python(["-c", code, given], environment, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == pytest.approx(screening(chances, labels, n=50))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"predictions": [0.5] * 3}, "3 predictions, 4 references"),
        ({"predictions": [0.5, 0.5, 0.5, 1.5]}, "no probability"),
        ({"predictions": [0.5, 0.5, 0.5, float("nan")]}, "prediction is not finite"),
        ({"predictions": [0.5, 0.5, 0.5, float("-inf")]}, "prediction is not finite"),
        ({"predictions": [0.5, 0.5, 0.5, None]}, "prediction is no number"),
        ({"predictions": [[0.5, 0.5]] * 4}, "prediction is no number"),
        ({"references": [0, 1, 0, float("nan")]}, "reference is not finite"),
        ({"references": ["benign", 1, 0, 1]}, "reference is no number"),
        ({"references": [0, 1, 0, 0.5]}, "neither 0 nor 1"),
        ({"groups": ["a", None, "b"]}, "3 groups"),
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
    result = screening([0.1, 0.2, 0.1, 0.2, 0.8, 0.9, 0.8, 0.9], [0, 0, 0, 0, 1, 1, 1, 1], n=50)
    for name in ("sensitivity", "specificity", "ppv", "npv", "specificity_at_0.95"):
        assert result[name] == result[f"{name}_high"] == 1
        assert result[f"{name}_low"] == pytest.approx(wilson(4, 4).low), name
    assert result["accuracy_low"] == pytest.approx(wilson(8, 8).low)
    stated = screening([0.1, 0.2, 0.1, 0.2, 0.8, 0.9, 0.8, 0.9], [0, 0, 0, 0, 1, 1, 1, 1], prevalence=0.01, n=50)
    assert stated["npv_low"] == 1


NOBODY = [None, float("nan"), np.nan, pd.NaT, pd.NA, "", "  "]


def test_unknown_groups_stand_alone():
    chances, labels, groups = cases(40)
    given = [f"p{group}" for group in groups]
    for row, unknown in enumerate(NOBODY):
        given[2 * row] = unknown
    # Numbered as they come, as the others are.
    apart = [("alone", row) if row % 2 == 0 and row < 14 else f"p{group}" for row, group in enumerate(groups)]
    assert screening(chances, labels, given, n=50) == screening(chances, labels, apart, n=50)
    assert screening(chances, labels, [None] * 40, n=50) == screening(chances, labels, n=50)
    assert screening(chances, labels, np.full(40, np.nan), n=50)["n_groups"] == 40


def test_groups_of_mixed_kinds_are_told_apart_and_joined():
    chances, labels, _ = cases(12)
    groups = [1, "1", np.int64(1), 1.0, ("a", 1), "b", "b", None, True, b"b", np.str_("b"), 7]
    # 1 in five forms is one group, "b" in two.
    assert screening(chances, labels, groups, n=20)["n_groups"] == 12 - 4 - 2


@pytest.mark.parametrize(
    "form",
    [
        lambda values: [np.float64(value) for value in values],
        lambda values: [str(value) for value in values],
        lambda values: pd.Series(values, index=range(100, 100 + len(values))),
        lambda values: np.array(values, object),
        lambda values: tuple(values),
        torch.tensor,
    ],
)
def test_numbers_in_any_form(form):
    chances, labels, groups = cases(40)
    plain = screening(chances, labels, groups, n=20)
    assert screening(form(chances.tolist()), form(labels.tolist()), pd.Series(groups, index=groups[::-1]), n=20) == (
        pytest.approx(plain, abs=1e-6)
    )
    assert screening(chances, labels.astype(bool), groups, n=20) == plain
    for name, value in plain.items():
        assert type(value) in (int, float), name


@pytest.mark.parametrize("figure", [metrics.auroc, metrics.auprc, metrics.brier, metrics.ece])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_figure_is_made_of_what_is_not_finite(figure, value):
    chances, labels, _ = cases(40)
    chances[7] = value
    with pytest.raises(BusError, match="not a finite number"):
        figure(labels, chances)
    with pytest.raises(BusError, match="not a finite number"):
        group_bootstrap(figure, labels, chances, np.arange(40))


def test_tiny_probabilities_have_a_specificity_too():
    labels = np.repeat([0, 1], 20)
    chances = np.r_[np.linspace(1e-9, 2e-9, 20), np.linspace(3e-9, 4e-9, 20)]
    assert screening(chances, labels, n=20)["specificity_at_0.9"] == 1


CASES = [0.2, 0.7, 0.4, 0.9] * 10, [0, 1] * 20


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"threshold": "0.5"}, "the threshold is '0.5'; give a number"),
        ({"threshold": None}, "the threshold is None"),
        ({"threshold": True}, "the threshold is True"),
        ({"prevalence": "0.1"}, "the prevalence is '0.1'"),
        ({"sensitivities": 0.9}, r"sensitivities is 0\.9; give a list, as sensitivities="),
        ({"sensitivities": "0.9"}, r"sensitivities is '0\.9'; give a list"),
        ({"sensitivities": ["0.9"]}, r"the wanted sensitivity is '0\.9'"),
        ({"groups": [[1]] * 40}, "a group is of the kind list"),
        ({"groups": [{}] * 40}, "a group is of the kind dict"),
        ({"groups": [np.ones(1)] * 40}, "a group is of the kind ndarray"),
        ({"groups": 7}, "groups is 7; give a list"),
        ({"groups": "a" * 40}, "give a list, as groups="),
        ({"n": "50"}, "the number of resamples is '50'"),
        ({"n": 2.5}, r"the number of resamples is 2\.5"),
        ({"seed": -1}, "the seed is -1"),
    ],
)
def test_settings_of_another_kind_are_one_sentence(changed, sentence):
    with pytest.raises(BusError, match=sentence):
        screening(*CASES, **({"n": 10} | changed))


@pytest.mark.parametrize(
    ("groups", "count"),
    [
        ([1, 1.0, "1", "1.0"] * 10, 1),
        ([np.int64(1), np.float32(1), " 1 ", "1,0"] * 10, 1),
        (np.array([1, 1.0, "1", 2], object).repeat(10), 2),
        (["01", "1"] * 20, 2),
        (["nan", "", " ", "None"] * 10, 40),
        (["NaN", "NA", "-", "unknown"] * 10, 40),
        ([float("nan"), None, "a", "a"] * 10, 21),
        ((number for number in range(40)), 40),
    ],
)
def test_groups_are_told_apart_by_what_they_name(groups, count):
    assert screening(*CASES, groups=groups, n=10)["n_groups"] == count


def test_settings_as_numpy_has_them_are_numbers():
    result = screening(*CASES, n=np.int64(10), threshold=np.float32(0.5), sensitivities=np.array([0.9]))
    assert result == screening(*CASES, n=10, sensitivities=[0.9])
