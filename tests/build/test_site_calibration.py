"""A site's calibration counts patients, and tells the rates of the answers that are really given."""

import dataclasses

import numpy as np
import pytest

from bus_hf.build import site_calibration
from bus_hf.ensemble.folder import read_manifest
from bus_hf.ensemble.manifest import Abstain
from bus_hf.evaluation import abstention, calibration, metrics
from bus_hf.evaluation.bootstrap import group_bootstrap
from bus_hf.reporting import site


@pytest.fixture
def manifest(tiny_ensemble):
    return dataclasses.replace(read_manifest(tiny_ensemble), temperature=1.0, bias=0.0)


def cases(benign, malignant, groups=None, peaks=None, sources="site"):
    labels = np.repeat([0, 1], (len(benign), len(malignant)))
    return site_calibration.SiteCases(
        np.r_[benign, malignant].astype(float),
        labels,
        np.arange(len(labels)) if groups is None else np.asarray(groups),
        np.full(len(labels), sources),
        peaks,
    )


def patients(n, seed=0):
    """Well calibrated logits of n benign and n malignant patients."""
    rng = np.random.default_rng(seed)
    return rng.normal(-1, np.sqrt(2), n), rng.normal(1, np.sqrt(2), n)


@pytest.mark.parametrize("n", [20, 45])
@pytest.mark.parametrize("frames", [2, 300])
@pytest.mark.parametrize("kind", ["benign", "malignant"])
def test_a_patient_with_many_frames_counts_as_one_with_a_single_frame(manifest, n, frames, kind):
    benign, malignant = patients(n)
    plain = cases(benign, malignant)
    again, whose = (benign[0], 0) if kind == "benign" else (malignant[-1], 2 * n - 1)
    before, after = (frames - 1, 0) if kind == "benign" else (0, frames - 1)
    more = cases(
        np.r_[np.full(before, again), benign],
        np.r_[malignant, np.full(after, again)],
        np.r_[np.full(before, whose), np.arange(2 * n), np.full(after, whose)],
    )
    one, _, warnings = site_calibration.fit(manifest, plain)
    other, _, others = site_calibration.fit(manifest, more)
    assert (other.temperature, other.bias) == pytest.approx((one.temperature, one.bias), abs=1e-4)
    assert other.fitted_on.prevalence == one.fitted_on.prevalence == 0.5
    for point, again in zip(one.operating_points, other.operating_points, strict=True):
        assert again.logit == pytest.approx(point.logit, abs=1e-3)
    ends = [(result.abstain.low_logit, result.abstain.high_logit) for result in (one, other)]
    assert ends[1] == pytest.approx(ends[0], abs=1e-3)
    assert len(warnings) == len(others)


def test_one_patient_of_300_suspicious_frames_does_not_exchange_the_labels(manifest):
    benign, malignant = patients(20)
    many = cases(np.r_[benign, np.full(300, 3.0)], malignant, np.r_[np.arange(20), np.full(300, 99), np.arange(30, 50)])
    assert metrics.auroc(many.y_true, many.logits) < 0.5
    after, result, _ = site_calibration.fit(manifest, many)
    assert result["auroc"]["value"] > 0.7
    assert after.fitted_on.prevalence == pytest.approx(20 / 41, abs=1e-6)
    for rates in result["before"]["operating_points"].values():
        assert rates["specificity"]["value"] == pytest.approx(
            1 - ((benign >= np.log(rates["threshold"] / (1 - rates["threshold"]))).sum() + 1) / 21, abs=1e-6
        )


def test_weights_of_a_class_add_up_to_its_patients():
    labels, groups = np.array([0, 0, 1, 1, 1, 0]), np.array(["a", "a", "a", "b", "b", None], object)
    weights = calibration.case_weights(labels, groups)
    assert weights.tolist() == [0.5, 0.5, 1, 0.5, 0.5, 1]
    assert (weights[labels == 1].sum(), weights[labels == 0].sum()) == calibration.counts(labels, groups)


def test_without_weights_nothing_changes():
    rng = np.random.default_rng(0)
    labels, logits, groups = rng.integers(0, 2, 90), np.round(rng.normal(size=90), 1), np.arange(90) // 2
    ones = np.ones(90)
    for target in (0.9, 0.95, 1.0):
        plain = calibration.threshold_for_sensitivity(labels, logits, target)
        assert calibration.threshold_for_sensitivity(labels, logits, target, ones) == plain
        assert plain == np.sort(logits[labels == 1])[::-1][int(np.ceil(target * labels.sum() - 1e-9)) - 1]
    assert calibration.operating_points(labels, logits, groups, sample_weight=ones) == calibration.operating_points(
        labels, logits, groups
    )
    estimate = group_bootstrap(metrics.auroc, labels, logits, groups)
    assert group_bootstrap(metrics.auroc, labels, logits, groups, sample_weight=ones) == pytest.approx(estimate)


@pytest.mark.parametrize("seed", range(5))
def test_the_band_is_that_of_the_reference(seed):
    from crepes import ConformalClassifier

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 150)
    logits = np.round(rng.normal(size=150) + labels, 1 + seed % 3)
    grid = np.r_[-np.inf, np.unique(logits), np.inf]
    held = {}
    for value, error, sign in ((1, abstention.MALIGNANT_ERROR, -1), (0, abstention.BENIGN_ERROR, 1)):
        classifier = ConformalClassifier()
        classifier.fit(sign * logits[labels == value])
        held[value] = grid[classifier.predict_p(sign * grid[:, None], smoothing=False)[:, 0] > error]
    assert abstention.ends(labels, logits) == tuple(sorted((held[1].min(), held[0].max())))
    # A case that counts twice is two cases.
    double = rng.integers(1, 3, 150)
    repeated = np.repeat(labels, double), np.repeat(logits, double)
    assert abstention.ends(labels, logits, double.astype(float)) == abstention.ends(*repeated)


def coverage_and_error(after, given, answer):
    """Coverage and error of answers by the manifest's rule, written anew: threshold and band as `answer` gives them."""
    labels, decided, wrong = given.y_true, 0.0, 0.0
    for row, weight in enumerate(given.sample_weight):
        threshold, interval = answer(row)
        logit = given.logits[row] / after.temperature + after.bias
        lesion_found = given.lesion_confidence is None or not given.lesion_confidence[row] < after.lesion_map.found_peak
        positive = logit >= threshold if lesion_found else logit >= threshold and logit > interval[1]
        sure = logit > interval[1] if positive else logit < interval[0] and lesion_found
        decided += weight * sure
        wrong += weight * (sure and positive != labels[row])
    return decided / given.sample_weight.sum(), wrong / decided


@pytest.mark.parametrize("n", [12, 19, 40])
@pytest.mark.parametrize("peaks", [False, True])
def test_coverage_and_error_are_those_of_the_answers_given(manifest, n, peaks):
    benign, malignant = patients(n, seed=n)
    peak = np.random.default_rng(1).uniform(0, 3 * manifest.lesion_map.found_peak, 2 * n) if peaks else None
    given = cases(benign, malignant, peaks=peak)
    after, result, _ = site_calibration.fit(manifest, given)
    logits = given.logits / after.temperature + after.bias
    target = calibration.POINTS[after.default_operating_point]
    threshold, interval = np.empty(2 * n), np.empty((2 * n, 2))
    for fit, test in calibration.cross_fits(given.y_true, given.groups):
        threshold[test] = calibration.threshold_for_sensitivity(given.y_true[fit], logits[fit], target)
        kept = manifest.abstain.low_logit, manifest.abstain.high_logit
        interval[test] = kept if n < 20 else abstention.ends(given.y_true[fit], logits[fit])
    coverage, error = coverage_and_error(after, given, lambda row: (threshold[row], interval[row]))
    assert (after.abstain.coverage, after.abstain.error) == pytest.approx((coverage, error), abs=1e-6)
    assert after.abstain.method.endswith(f"the answers at {after.default_operating_point}, cross-fitted over groups")
    assert ("kept by a site" in after.abstain.method) == (n < 20)
    assert result["no_lesion"]["n"] == (int((peak < after.lesion_map.found_peak).sum()) if peaks else 0)
    text = site.text(result)
    assert f"{100 * coverage:.1f} % of these cases" in text
    assert ("No lesion was found in" in text) == peaks


def test_an_operating_point_that_contradicts_the_band_is_no_answer(manifest):
    # A kept band far below the new threshold: its high side is not sure unless the point agrees.
    benign, malignant = np.linspace(1, 3.4, 12), np.linspace(3, 6, 12)
    kept = dataclasses.replace(manifest, abstain=Abstain(-9.0, -8.0, 1.0, 0.0, "of a test"))
    after, _, _ = site_calibration.fit(kept, cases(benign, malignant))
    assert after.abstain.low_logit == -9.0
    # By the band alone every case is answered malignant: coverage 1, error 0.5.
    assert after.abstain.coverage < 1
    assert after.abstain.error < 0.5


@pytest.mark.parametrize(("n", "now"), [(10, "miss_10_in_100"), (19, "miss_10_in_100"), (20, None), (40, None)])
def test_a_less_sensitive_default_is_told_everywhere(manifest, n, now):
    after, result, warnings = site_calibration.fit(manifest, cases(*patients(n, 3)))
    sentence = (
        f"the default operating point is now {now} in place of miss_5_in_100, which takes more cancers: it is less "
        "sensitive (0.9 instead of 0.95 is meant)"
    )
    shown = [" ".join(warnings), site.tables(result), site.card(after.name, after.version, result)]
    assert [sentence[1:] in text for text in shown] == [now is not None] * 3
    assert ("is miss_5_in_100, as before" in site.tables(result)) == (now is None)


def test_a_default_that_no_site_fits_is_told_too(manifest):
    balanced = dataclasses.replace(manifest, default_operating_point="balanced")
    _, _, warnings = site_calibration.fit(balanced, cases(*patients(20)))
    assert warnings[0] == ("the default operating point is now miss_5_in_100 in place of balanced, which no site fits")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("phantoms", "on generated pictures (phantoms), which show no patient"),
        ("site", "on labelled images of this site"),
        ("busbra", "on labelled images of busbra"),
    ],
)
def test_a_card_speaks_of_the_images_that_were_used(manifest, source, words):
    after, result, _ = site_calibration.fit(manifest, cases(*patients(20), sources=source))
    card = site.card(after.name, after.version, result)
    assert f"Calibrated by `bus-hf calibrate` {words};" in card
    assert ("this site" in card) == (source == "site")
