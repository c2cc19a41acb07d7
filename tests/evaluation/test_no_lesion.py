import numpy as np
import pytest

from bus_hf.evaluation import no_lesion
from bus_hf.reporting import tables


def test_the_peak_leaves_out_five_in_a_hundred_lesions_at_most():
    rng = np.random.default_rng(0)
    peaks, has_lesion = rng.uniform(0.5, 1, 400), np.arange(400) % 4 != 0
    result = no_lesion.fit_found_peak(peaks, has_lesion, 0.3)
    assert (peaks[has_lesion] < result).mean() <= 0.05
    # A little higher would be too many.
    assert (peaks[has_lesion] < result + 0.02).mean() > 0.05


@pytest.mark.parametrize(("n", "peak"), [(10, 0.99), (400, 0.2)])
def test_the_peak_is_never_lower_than_that_of_the_box(n, peak):
    assert no_lesion.fit_found_peak(np.full(n, peak), np.ones(n, bool), 0.6) == 0.6


def test_an_image_without_a_lesion_needs_more_to_be_predicted_malignant():
    logits, peaks = np.array([0.0, 0.0, 2.0, -3.0]), np.array([0.9, 0.5, 0.5, 0.9])
    called = no_lesion.predicted_positive(logits, peaks, 0.8, -1.0, 1.0)
    assert called.tolist() == [True, False, True, False]
    # An operating point above the other threshold stays as strict as it is.
    assert not no_lesion.predicted_positive(logits, peaks, 0.8, 3.0, 1.0).any()


def test_the_measure_counts_what_the_rule_changes():
    y_true = np.array([1, 1, 0, 0, 0, 0])
    logits = np.array([3.0, 0.0, 0.0, 0.0, -4.0, -4.0])
    peaks = np.array([0.99, 0.3, 0.99, 0.3, 0.3, 0.99])
    kinds = np.array(["malignant", "malignant", "benign", "normal", "normal", "benign"])
    measured = no_lesion.measure(
        y_true, logits, peaks, kinds, np.arange(6), found_peak=0.8, threshold=-1.0, without_lesion=1.0
    )
    assert measured["pathologies"]["normal"] == {
        "n": 2,
        "no_lesion_found": 2,
        "predicted_malignant_without_the_rule": 1,
        "predicted_malignant": 0,
    }
    assert measured["pathologies"]["malignant"]["predicted_malignant_without_the_rule"] == 1
    assert measured["sensitivity"]["value"] == 0.5
    assert measured["specificity"]["value"] == 0.75


@pytest.mark.parametrize(("n", "fitted"), [(39, False), (40, True)])
@pytest.mark.parametrize("normals", [0, 5])
@pytest.mark.parametrize("interval", [False, True])
def test_words_hold_without_normals_with_few_lesions_and_without_an_interval(n, fitted, normals, interval):
    rng = np.random.default_rng(0)
    y_true, logits, peaks = np.arange(n + normals) % 2, rng.normal(size=n + normals), rng.uniform(0, 1, n + normals)
    kinds = np.where(y_true == 1, "malignant", "benign")
    kinds[n:], y_true[n:] = "normal", 0
    result = no_lesion.fit_found_peak(peaks, kinds != "normal", 0.02)
    measured = no_lesion.measure(
        y_true, logits, peaks, kinds, np.arange(len(kinds)), found_peak=result, threshold=-1.0, without_lesion=1.0
    )
    assert no_lesion.fitted(measured) == fitted
    assert (result == 0.02) == (not fitted)
    text = tables.no_lesion_text({"no_lesion": measured, "abstain": {"low": 0.2} if interval else None})
    assert ("peak and threshold were fitted on these images" in text) == fitted
    assert ("too few to fit the peak on" in text) == (not fitted)
    assert ("only above the abstention interval" in text) == interval
    assert ("normal:" in text) == (normals > 0)
