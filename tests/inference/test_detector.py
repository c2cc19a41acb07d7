"""Weighted means of logits, calibration, boxes, heat maps, batches and failures."""

import dataclasses
import io
import json
import math
import re
import shutil
import threading
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.special import logit as log_odds

from bus_hf.data.images import Scan, read_scan
from bus_hf.ensemble.folder import read_manifest
from bus_hf.ensemble.manifest import SCHEMA, Abstain, Ensemble, FittedOn, LesionMap, Member, OperatingPoint
from bus_hf.errors import BusError
from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.inference.prediction import NO_LESION, Failure, Prediction
from bus_hf.inference.runtime import Outputs
from bus_hf.views import VIEWS, Box, cut, window

HASH = "a" * 64


class BrightnessRuntime:
    """Stands for networks: members see brightness, and "lite" finds bright places to be lesions."""

    device = "a test"
    side_by_side = False

    def __init__(self, classes=1):
        self.sizes = {"lite": 32, "big": 48, "idle": 40}
        self.gains = {"lite": 6.0, "big": 20.0, "idle": 1.0}
        self.classes = classes
        self.calls = []

    def input_size(self, member):
        return self.sizes[member]

    def __call__(self, member, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == (self.sizes[member],) * 2
        self.calls.append((member, len(images)))
        grey = images.astype(np.float32) / 255
        small = np.stack([cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA) for image in grey])
        # Left and right differ, so a view that is undone the wrong way round is seen.
        slope = np.linspace(0.9, 1.1, 8, dtype=np.float32)
        cams = self.gains[member] * (small - 0.2)[:, None] * slope
        if self.classes > 1:
            cams = np.concatenate([cams * 0, -cams, cams], axis=1)
        lesion = np.where(grey > 0.6, np.float32(0.9), np.float32(0.3)) if member == "lite" else None
        return Outputs(cams.mean(axis=(2, 3)), cams, lesion)


def manifest(**changes):
    members = [
        Member("lite", "lite", None, None, HASH, 0.25, config_sha256=HASH),
        Member("big", "big", None, None, HASH, 0.75, config_sha256=HASH),
        Member("idle", "idle", None, None, HASH, 0.0, config_sha256=HASH),
    ]
    settings = {
        "schema": SCHEMA,
        "name": "fake",
        "version": "1",
        "label_set": "malignancy",
        "labels": ("benign", "malignant"),
        "positive": "malignant",
        "members": tuple(members),
        "views": {"whole": 0.2, "flip": 0.1, "wider": 0.0, "lesion": 0.3, "around": 0.4},
        "lesion_map": LesionMap("lite", "lesion_head.safetensors", HASH, 0.5, 0.5),
        "temperature": 1.3,
        "bias": 0.0,
        "operating_points": (
            OperatingPoint("miss_5_in_100", log_odds(0.3), (0.95, 0.93, 0.97), (0.7, 0.6, 0.8)),
            OperatingPoint("strict", log_odds(0.9), (0.8, 0.7, 0.9), (0.9, 0.8, 0.95)),
        ),
        "default_operating_point": "miss_5_in_100",
        "abstain": None,
        "light": "lite",
        "fitted_on": FittedOn({}, 0, 0.4, None),
        "lesion_type": None,
    }
    return Ensemble(**(settings | changes))


def detector(members=None, classes=1, **changes):
    return BreastCancerDetector(manifest(**changes), BrightnessRuntime(classes), members)


def speckled(shape, seed=0):
    return np.random.default_rng(seed).integers(20, 60, shape, dtype=np.uint8)


def lesion_image(shape=(120, 160), box=(100, 30, 36, 24), seed=0):
    """Dark speckle with a bright rectangle."""
    image = speckled(shape, seed)
    x, y, w, h = box
    image[y : y + h, x : x + w] += 180
    return image


def by_hand(image, box, settings, views=None):
    """Combined logit before the temperature, written out: views in a member, then members."""
    runtime = BrightnessRuntime()
    total = 0.0
    for member in settings.members:
        of_member = 0.0
        for view, weight in (views or settings.views).items():
            square = cut(image, window(view, image.shape, box), runtime.sizes[member.name])
            of_member += weight * float(runtime(member.name, square[None]).logits[0, 0])
        total += member.weight * of_member
    return total


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def test_the_lesion_is_found_and_boxed_in_original_pixels():
    result = detector().predict(lesion_image())
    assert result.box_source == "found"
    for actual, true in zip(result.box, (100, 30, 36, 24), strict=True):
        assert abs(actual - true) <= 4
    assert result.note is None
    assert result.shape == (120, 160)


def test_logits_are_weighed_over_views_then_members_then_calibrated():
    image = lesion_image()
    result = detector().predict(image)
    assert result.probability == pytest.approx(sigmoid(by_hand(image, result.box, manifest()) / 1.3), abs=1e-6)
    assert 0.01 < result.probability < 0.99


def test_temperature_is_applied():
    image = lesion_image()
    mild, sharp = (detector(temperature=value).predict(image) for value in (2.0, 1.0))
    logit = math.log(sharp.probability / (1 - sharp.probability))
    assert mild.probability == pytest.approx(sigmoid(logit / 2), abs=1e-6)


def test_each_member_and_view_alone():
    image = lesion_image()
    result = detector().predict(image)
    settings = manifest()
    for member in ("lite", "big"):
        alone = tuple(dataclasses.replace(entry, weight=float(entry.name == member)) for entry in settings.members)
        logit = by_hand(image, result.box, dataclasses.replace(settings, members=alone))
        assert result.members[member] == pytest.approx(sigmoid(logit / 1.3), abs=1e-6)
    for view in ("whole", "flip", "lesion", "around"):
        logit = by_hand(image, result.box, settings, {view: 1.0})
        assert result.views[view] == pytest.approx(sigmoid(logit / 1.3), abs=1e-6)
    assert list(result.members) == ["lite", "big"]
    assert list(result.views) == ["whole", "flip", "lesion", "around"]
    assert result.disagreement == pytest.approx(np.std(list(result.members.values())))
    assert result.disagreement > 0.01


def test_only_what_has_weight_is_computed_and_the_global_views_are_shared():
    built = detector()
    built.predict(lesion_image())
    # The map needs all three of the global views, "wider" has no weight after that; "idle" has none at all.
    assert built._runtime.calls == [("lite", 3), ("lite", 2), ("big", 4)]


def test_a_given_box_needs_no_map():
    built = detector()
    built.predict(lesion_image(), roi=(10, 10, 20, 20))
    assert built._runtime.calls == [("lite", 4), ("big", 4)]


def test_a_light_choice_answers_alone():
    image = lesion_image()
    whole, light = detector().predict(image), detector("light").predict(image)
    assert light.members == {"lite": whole.members["lite"]}
    assert light.probability == pytest.approx(whole.members["lite"])
    assert light.disagreement is None


def test_members_without_the_map_still_get_a_box_from_its_owner():
    built = detector(["big"])
    result = built.predict(lesion_image())
    assert result.box_source == "found"
    assert list(result.members) == ["big"]
    assert built._runtime.calls == [("lite", 3), ("big", 4)]


def test_chosen_members_without_weight_weigh_the_same():
    assert list(detector(["idle"]).predict(lesion_image()).members) == ["idle"]


def test_a_given_box_replaces_the_found_one():
    image = lesion_image()
    given = detector().predict(image, roi=(10, 60, 30, 20))
    actual = detector().predict(image)
    assert given.box == Box(10, 60, 30, 20)
    assert given.box_source == "given"
    assert given.note is None
    assert given.probability == pytest.approx(sigmoid(by_hand(image, given.box, manifest()) / 1.3), abs=1e-6)
    assert abs(given.probability - actual.probability) > 0.01


def test_without_a_lesion_the_middle_is_read_and_the_result_says_so():
    image = speckled((120, 160))
    result = detector().predict(image)
    assert result.box is None
    assert result.box_source is None
    assert result.note == NO_LESION
    assert result.probability == pytest.approx(sigmoid(by_hand(image, None, manifest()) / 1.3), abs=1e-6)


def faint(**changes):
    """A detector whose lesion map peaks at 0.9 on `lesion_image`, and counts no lesion below 0.95 as found."""
    return detector(lesion_map=LesionMap("lite", "lesion_head.safetensors", HASH, 0.5, 0.95), **changes)


def with_point_at(logit, low, high):
    point = OperatingPoint("miss_5_in_100", logit, (0.95, 0.93, 0.97), (0.7, 0.6, 0.8))
    return faint(operating_points=(point,), abstain=Abstain(low, high, 0.9, 0.1, "of a test"))


def test_where_no_lesion_is_found_only_what_lies_above_the_abstention_interval_is_malignant():
    image = lesion_image()
    sure = detector().predict(image)
    assert sure.lesion_confidence == pytest.approx(0.9, abs=0.01)
    assert (sure.box_source, sure.note) == ("found", None)
    low = with_point_at(sure.logit - 1, sure.logit - 2, sure.logit + 1).predict(image)
    assert (low.box, low.box_source, low.note) == (None, None, NO_LESION)
    # The crops are read where they were before, so the probability stays.
    assert (low.logit, low.lesion_confidence) == (sure.logit, sure.lesion_confidence)
    assert (low.prediction, low.uncertain) == ("Benign", True)
    # The threshold is the one that was used.
    assert low.probability < low.threshold == pytest.approx(sigmoid(sure.logit + 1))
    high = with_point_at(sure.logit - 1, sure.logit - 2, sure.logit - 0.5).predict(image)
    assert (high.prediction, high.uncertain, high.note) == ("Malignant", False, NO_LESION)
    # At the upper end of the interval an image is still not sure.
    assert with_point_at(sure.logit - 1, sure.logit - 2, sure.logit).predict(image).prediction == "Benign"


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_colour_overlay_is_told(share):
    grey = lesion_image()
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    width = round(share * picture.shape[1])
    picture[:, :width] = (200, 30, 20)
    for result in (detector().predict(picture), *detector().predict_many([read_scan(picture)])):
        assert result.colour_overlay == pytest.approx(share, abs=0.05)
        assert (result.note is None) == (share == 0)
        assert share == 0 or re.match(r"colour overlay covers \d+ % of the image", result.note)


def test_no_image_without_a_lesion_is_surely_benign():
    image = lesion_image()
    logit = detector().predict(image).logit
    result = with_point_at(logit + 5, logit + 4, logit + 6).predict(image)
    assert (result.prediction, result.uncertain) == ("Benign", True)


def test_a_box_of_the_callers_is_a_lesion_that_was_found():
    image = lesion_image()
    result = with_point_at(-50.0, -60.0, 60.0).predict(image, roi=(100, 30, 36, 24))
    assert (result.prediction, result.box_source, result.lesion_confidence) == ("Malignant", "given", None)


@pytest.mark.parametrize(
    "roi",
    [
        (0, 0, 0, 10),
        (0, 0, 10, -1),
        (-1, 0, 10, 10),
        (0, -1, 10, 10),
        (150, 0, 11, 10),
        (0, 111, 10, 10),
        (500, 500, 10, 10),
        (0, 0, float("nan"), 10),
        (0, 0, float("inf"), 10),
        (0, 0, 10),
        (0, 0, 10, 10, 10),
        ("a", 0, 1, 1),
        7,
    ],
)
def test_a_box_that_is_none_is_one_sentence(roi):
    with pytest.raises(BusError, match="lesion box") as caught:
        detector().predict(speckled((120, 160)), roi=roi, name="mine.png")
    assert str(caught.value).startswith("mine.png: ")


@pytest.mark.parametrize("roi", [(0, 0, 160, 120), (159, 119, 1, 1), Box(10.5, 3.25, 20, 20), np.array([1, 2, 3, 4])])
def test_boxes_up_to_the_border_are_taken(roi):
    assert detector().predict(speckled((120, 160)), roi=roi).box == Box(*map(float, roi))


def test_the_operating_point_decides_and_confidence_is_of_the_answer():
    image = lesion_image()
    low, high = detector().predict(image), detector().predict(image, operating_point="strict")
    assert low.probability == high.probability
    assert 0.3 < low.probability < 0.9
    assert (low.prediction, low.operating_point) == ("Malignant", "miss_5_in_100")
    assert (high.prediction, high.operating_point) == ("Benign", "strict")
    assert (low.threshold, high.threshold) == pytest.approx((0.3, 0.9))
    assert low.confidence == pytest.approx(low.probability)
    assert high.confidence == pytest.approx(1 - high.probability)


def test_a_probability_at_the_threshold_is_malignant():
    image = lesion_image()
    logit = detector().predict(image).logit
    point = OperatingPoint("exact", logit, (1, 1, 1), (0, 0, 0))
    result = detector(operating_points=(point,), default_operating_point="exact").predict(image)
    assert result.prediction == "Malignant"


def test_an_unknown_operating_point_lists_the_known_ones():
    with pytest.raises(BusError, match=r"'best'.*miss_5_in_100, strict"):
        detector().predict(lesion_image(), operating_point="best")
    with pytest.raises(BusError, match="'best'"):
        detector().predict_many([], operating_point="best")


def test_inside_the_abstention_interval_the_answer_is_uncertain():
    image = lesion_image()
    logit = detector().predict(image).logit
    below, above = (logit - 2, logit - 0.1), (logit + 0.1, logit + 2)
    for interval, point, expected in (
        ((logit - 1, logit + 1), "miss_5_in_100", True),
        ((logit, logit), "miss_5_in_100", True),
        # Predicted positive above the band, predicted negative below it.
        (below, "miss_5_in_100", False),
        (above, "strict", False),
        # The operating point says one thing and the band the other.
        (below, "strict", True),
        (above, "miss_5_in_100", True),
    ):
        built = detector(abstain=Abstain(*interval, 0.9, 0.1, "of a test"))
        assert built.predict(image, operating_point=point).uncertain is expected, (interval, point)
    assert detector().predict(image).uncertain is False


def test_the_bias_moves_every_probability():
    image = lesion_image()
    plain, lower = detector().predict(image), detector(bias=-3.0).predict(image)
    assert lower.logit == pytest.approx(plain.logit - 3, abs=1e-9)
    assert lower.probability == pytest.approx(1 / (1 + math.exp(-lower.logit)))
    for name, chance in plain.members.items():
        assert log_odds(lower.members[name]) == pytest.approx(log_odds(chance) - 3, abs=1e-6)
    assert lower.prevalence == 0.4


def test_the_logit_decides_where_probabilities_saturate():
    image = lesion_image()
    sharp = {"temperature": 1e-3}
    logit = detector(**sharp).predict(image).logit
    for threshold, expected in ((logit - 1, "Malignant"), (logit + 1, "Benign")):
        point = OperatingPoint("high", threshold, (1, 1, 1), (0, 0, 0))
        result = detector(operating_points=(point,), default_operating_point="high", **sharp).predict(image)
        assert (result.prediction, result.probability, result.threshold) == (expected, 1.0, 1.0)


@pytest.mark.parametrize("temperature", [1.3, 1e-3])
def test_the_logits_of_members_and_views_make_the_logit_even_where_probabilities_saturate(temperature):
    image, settings = lesion_image(), manifest(temperature=temperature, bias=0.7)
    built = detector(temperature=temperature, bias=0.7)
    result = built.predict(image)
    assert (built.members, built.views) == (
        {"lite": 0.25, "big": 0.75},
        {v: w for v, w in settings.views.items() if w},
    )
    for member in ("lite", "big"):
        for view, value in result.logits[member].items():
            win = window(view, image.shape, result.box)
            square = cut(image, win, BrightnessRuntime().sizes[member])
            assert value == pytest.approx(float(BrightnessRuntime()(member, square[None]).logits[0, 0]), abs=1e-6)
    by_view = built.view_logits(result)
    assert by_view == {
        view: pytest.approx(0.25 * result.logits["lite"][view] + 0.75 * result.logits["big"][view]) for view in by_view
    }
    combined = sum(built.views[view] * value for view, value in by_view.items())
    assert result.logit == pytest.approx(combined / temperature + 0.7, rel=1e-9)
    assert (result.probability == 1.0) == (temperature < 1)


def test_another_operating_point_costs_no_run_and_gives_what_predict_gives():
    image = lesion_image()
    logit = detector().predict(image).logit
    for changes in ({}, {"abstain": Abstain(logit - 1, logit - 0.1, 0.9, 0.1, "of a test")}, {"temperature": 1e-3}):
        for make, source in ((detector, image), (detector, speckled((80, 90))), (faint, image)):
            built = make(**changes)
            first, other = (built.predict(source, operating_point=point) for point in ("miss_5_in_100", "strict"))
            calls = len(built._runtime.calls)
            assert built.at(first, "strict") == other
            assert built.at(other, "miss_5_in_100") == first
            assert len(built._runtime.calls) == calls
    with pytest.raises(BusError, match="'best'"):
        detector().at(first, "best")


def test_another_operating_point_of_several_classes_changes_the_threshold_alone():
    settings = {"label_set": "busi3", "labels": ("normal", "benign", "malignant"), "positive": None}
    built = detector(classes=3, **settings)
    first, other = (built.predict(lesion_image(), operating_point=point) for point in ("miss_5_in_100", "strict"))
    assert built.at(first, "strict") == other
    assert (first.prediction, first.confidence) == (other.prediction, other.confidence)
    assert first.threshold != other.threshold


def test_its_text_tells_members_views_device_and_operating_points():
    assert repr(detector()) == (
        "BreastCancerDetector(fake 1; members: lite 0.25, big 0.75; "
        "views: whole 0.2, flip 0.1, lesion 0.3, around 0.4; "
        "device: a test; operating points: miss_5_in_100 (default), strict)"
    )


def test_several_classes_are_read_by_softmax():
    image = lesion_image()
    settings = {"label_set": "busi3", "labels": ("normal", "benign", "malignant"), "positive": None}
    result = detector(classes=3, **settings).predict(image, heatmap=True)
    logit = by_hand(image, result.box, manifest()) / 1.3
    raised = [math.exp(value) for value in (0.0, -logit, logit)]
    assert result.probability == pytest.approx(raised[2] / sum(raised), abs=1e-6)
    expected = ("Normal", "Benign", "Malignant")[int(np.argmax(raised))]
    assert result.prediction == expected
    assert result.confidence == pytest.approx(max(raised) / sum(raised), abs=1e-6)
    assert set(result.members) == {"lite", "big"}
    assert result.heatmap.max() > 0


def test_several_classes_name_the_likeliest():
    settings = {"label_set": "busi3", "labels": ("normal", "benign", "malignant"), "positive": None}
    dark = detector(classes=3, **settings).predict(speckled((100, 100)) // 4 + 16)
    assert dark.prediction == "Benign"
    assert dark.confidence > dark.probability


def test_extreme_logits_do_not_overflow():
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        low, high = (detector(temperature=1e-3, bias=bias).predict(lesion_image()) for bias in (-1e9, 1e9))
    assert (low.probability, high.probability) == (0.0, 1.0)


class Spoiled(BrightnessRuntime):
    """One member gives one number that is not finite, past every check of a runtime."""

    def __init__(self, field, value, member):
        super().__init__(1)
        self.spoil = field, value, member

    def __call__(self, member, images):
        out = super().__call__(member, images)
        field, value, wanted = self.spoil
        array = getattr(out, field)
        if member == wanted and array is not None:
            array.flat[0] = value
        return out


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("member", ["lite", "big"])
def test_a_logit_that_is_not_finite_is_an_error_and_never_benign(value, member):
    built = BreastCancerDetector(manifest(), Spoiled("logits", value, member))
    with np.errstate(invalid="ignore"), pytest.raises(BusError, match="not a finite number"):
        built.predict(lesion_image())
    with np.errstate(invalid="ignore"), pytest.raises(BusError, match="not a finite number"):
        BreastCancerDetector(manifest(), Spoiled("cams", value, member)).predict(lesion_image(), heatmap=True)


@pytest.mark.parametrize("changes", [{"temperature": 5e-324}, {"bias": np.inf}, {"bias": np.nan}])
def test_no_ensemble_has_a_calibration_that_overflows(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        manifest(**changes)


def test_the_result_reads_as_an_object_and_as_a_mapping():
    result = detector().predict(lesion_image(), name="case 1")
    assert result["prediction"] == result.prediction == "Malignant"
    assert result["probability"] == result.probability
    assert result["confidence"] == result.confidence
    assert {*result} == {field.name for field in dataclasses.fields(Prediction)}
    assert len(result) == len({*result})
    assert dict(result)["name"] == "case 1"
    assert result.get("nothing") is None
    assert "box" in result
    assert "to_dict" not in result
    with pytest.raises(KeyError):
        result["to_dict"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.probability = 0.0


def test_to_dict_is_json_and_holds_no_array():
    result = detector().predict(lesion_image(), heatmap=True)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["box"] == list(result.box)
    assert plain["shape"] == [120, 160]
    assert plain["probability"] == result.probability
    assert "heatmap" not in plain
    assert json.loads(json.dumps(detector().predict(speckled((50, 60))).to_dict()))["box"] is None


def test_the_heat_map_lies_on_the_bright_lesion():
    result = detector().predict(lesion_image(), heatmap=True)
    heat = result.heatmap
    assert heat.shape == (120, 160)
    assert heat.dtype == np.float32
    assert 0 <= heat.min() <= heat.max() <= 1
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 100 <= x < 136
    assert 30 <= y < 54
    assert heat[30:54, 100:136].mean() > 4 * heat[:, :60].mean()


def test_the_heat_map_is_the_weighted_mean_of_what_covers_a_pixel():
    from bus_hf.views import uncut

    image = lesion_image()
    built = detector()
    result = built.predict(image, heatmap=True)
    runtime, settings = BrightnessRuntime(), manifest()
    total, weight = np.zeros(image.shape), np.zeros(image.shape)
    for view in VIEWS:
        for member in settings.members:
            win = window(view, image.shape, result.box)
            cam = runtime(member.name, cut(image, win, runtime.sizes[member.name])[None]).cams[0, 0]
            back, seen = uncut(cam, win, image.shape)
            total += settings.views[view] * member.weight * back
            weight += settings.views[view] * member.weight * seen
    expected = np.maximum(total / weight, 0) / settings.temperature
    assert np.allclose(result.heatmap * result.heatmap_scale, expected, atol=1e-4)


def test_the_scale_of_the_heat_map_is_its_peak_but_weak_evidence_stays_pale():
    strong = detector(temperature=0.1).predict(lesion_image(), heatmap=True)
    assert strong.heatmap.max() == pytest.approx(1)
    assert strong.heatmap_scale > 20
    weak = detector(temperature=5.0).predict(lesion_image(), heatmap=True)
    assert weak.heatmap_scale == 20.0
    assert 0 < weak.heatmap.max() < 0.5


def test_no_heat_map_unless_asked_for():
    result = detector().predict(lesion_image())
    assert result.heatmap is None
    assert result.heatmap_scale is None


def test_only_the_lesion_crops_may_have_weight():
    views = {"lesion": 0.5, "around": 0.5}
    result = detector(views=views).predict(lesion_image(), heatmap=True)
    assert list(result.views) == ["lesion", "around"]
    assert result.heatmap[:, :20].max() == 0
    assert np.isfinite(result.heatmap).all()


def test_reading_twice_gives_the_same():
    built = detector()
    assert built.predict(lesion_image()) == built.predict(lesion_image())


def many():
    """Images of several shapes, some with a lesion, some without."""
    return [lesion_image((100 + 7 * i, 150 - 5 * i), (60, 30 + i, 20, 20), seed=i) for i in range(5)] + [
        speckled((90, 70), seed=9)
    ]


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_many_are_read_as_one_by_one_in_order(batch_size):
    images = many()
    built = detector()
    results = list(built.predict_many(images, batch_size=batch_size, heatmap=True))
    for number, (result, image) in enumerate(zip(results, images, strict=True), start=1):
        alone = built.predict(image, name=f"image {number}", heatmap=True)
        assert result == alone
        assert np.allclose(result.heatmap, alone.heatmap, atol=1e-6)


def test_many_are_read_together():
    built = detector()
    list(built.predict_many(many(), batch_size=6))
    assert built._runtime.calls == [("lite", 18), ("lite", 12), ("big", 24)]


def test_a_bad_file_fails_in_its_place(tmp_path):
    Image.fromarray(lesion_image()).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no image at all")
    sources = [tmp_path / "good.png", tmp_path / "bad.png", str(tmp_path / "gone.png"), tmp_path / "good.png"]
    for batch_size in (1, 2, 8):
        first, bad, gone, last = detector().predict_many(sources, batch_size=batch_size)
        assert isinstance(bad, Failure)
        assert bad.name == str(tmp_path / "bad.png")
        assert "bad.png" in bad.error
        assert isinstance(gone, Failure)
        assert "\n" not in gone.error
        assert first == last
        assert first.name == str(tmp_path / "good.png")


def test_only_bad_files_are_only_failures(tmp_path):
    built = detector()
    results = list(built.predict_many([tmp_path / "a.png", tmp_path / "b.png"]))
    assert [type(result) for result in results] == [Failure, Failure]
    assert built._runtime.calls == []
    assert list(built.predict_many([])) == []


def test_one_bad_file_is_an_error_by_itself(tmp_path):
    with pytest.raises(BusError, match=r"gone\.png"):
        detector().predict(tmp_path / "gone.png")


@pytest.mark.parametrize("size", [0, -1, 2.5, "8", None])
def test_a_batch_size_that_is_none_is_refused_at_once(size):
    with pytest.raises(BusError, match=f"batch size is {size!r}; give a whole number"):
        detector().predict_many([], batch_size=size)


@pytest.mark.parametrize(
    "one",
    [
        "a.png",
        Path("a.png"),
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        io.BytesIO(b"bytes"),
        np.zeros((32, 32), np.uint8),
        Image.new("L", (32, 32)),
        Scan(np.zeros((32, 32), np.uint8), 0.0),
        {"image": "a.png"},
        None,
        3,
    ],
)
def test_one_image_is_not_taken_for_several(one):
    with pytest.raises(BusError, match="give a list of images, or call predict"):
        detector().predict_many(one)


def test_the_digits_of_a_text_are_no_box():
    with pytest.raises(BusError, match="not four numbers"):
        detector().predict(lesion_image(), roi="1234")


def test_sources_are_taken_as_they_are_needed():
    taken = []

    def sources():
        for number in range(100):
            taken.append(number)
            yield lesion_image(seed=number)

    results = detector().predict_many(sources(), batch_size=4)
    assert taken == []
    next(results)
    assert len(taken) == 4


def test_memory_stays_flat_over_many_images():
    built = detector()

    def peak(count):
        tracemalloc.start()
        for _ in built.predict_many(
            (lesion_image((200, 250), seed=n) for n in range(count)), batch_size=2, heatmap=True
        ):
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(2)
    assert peak(16) < 1.3 * peak(4)


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "pil", "array", "colour array"])
def test_every_kind_of_source_reads_the_same(tmp_path, kind):
    image = lesion_image()
    file = tmp_path / "image.png"
    Image.fromarray(image).save(file)
    source = {
        "path": file,
        "text": str(file),
        "bytes": file.read_bytes(),
        "pil": Image.open(file),
        "array": image,
        "colour array": np.repeat(image[..., None], 3, axis=-1),
    }[kind]
    assert detector().predict(source, name="same") == detector().predict(image, name="same")


def test_several_threads_share_one_detector():
    built, images = detector(), many()
    expected = [built.predict(image) for image in images]
    results = [None] * len(images)

    def read(index):
        for _ in range(5):
            results[index] = built.predict(images[index])

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == expected


def test_from_pretrained_reads_a_folder_of_timm_members(tiny_ensemble):
    pytest.importorskip("timm")
    built = BreastCancerDetector.from_pretrained(tiny_ensemble, device="cpu")
    result = built.predict(lesion_image(), heatmap=True)
    assert built.manifest == read_manifest(tiny_ensemble)
    assert set(result.members) == {"test_efficientnet", "test_resnet"}
    assert set(result.views) == set(VIEWS)
    assert 0 < result.probability < 1
    assert result.heatmap.shape == (120, 160)
    light = BreastCancerDetector.from_pretrained(str(tiny_ensemble), device="cpu", members="light")
    assert light.predict(lesion_image()).probability == pytest.approx(result.members["test_efficientnet"], abs=1e-5)


def test_from_pretrained_checks_hashes_before_it_loads(tiny_ensemble, tmp_path):
    shutil.copytree(tiny_ensemble, tmp_path / "copy")
    with open(tmp_path / "copy" / "test_resnet" / "model.safetensors", "r+b") as file:
        file.write(b"x")
    with pytest.raises(BusError, match="SHA-256 differs"):
        BreastCancerDetector.from_pretrained(tmp_path / "copy")
    # The part that is whole may still be read.
    BreastCancerDetector.from_pretrained(tmp_path / "copy", members=["test_efficientnet"], device="cpu")


def test_from_pretrained_refuses_unknown_members(tiny_ensemble):
    with pytest.raises(BusError, match="no member 'vgg'"):
        BreastCancerDetector.from_pretrained(tiny_ensemble, members=["vgg"])
