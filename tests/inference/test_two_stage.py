"""One path from image to logits: its geometry and constants, and that the detector and held-out logits share it."""

import json
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bus_hf.data.dataset import Case
from bus_hf.data.images import Scan
from bus_hf.data.phantoms import phantom
from bus_hf.evaluation.lesions import on_lesion
from bus_hf.filenames import LESION_HEAD, MANIFEST
from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.inference.runtime import Outputs
from bus_hf.inference.two_stage import evidence_map, two_stage
from bus_hf.labels import LABEL_SETS
from bus_hf.models import TrainingNet, create, load_member, save_member
from bus_hf.probabilities import log_odds
from bus_hf.training.held_out import NetworkRuntime, held_out_logits
from bus_hf.views import MIN_PEAK, VIEWS, Box, Window, cut, window

# ---- the path alone, with networks that are written down


class Written:
    """Stands for networks: "map" finds lesions with the given probabilities, one a global view; calls are kept."""

    device = "a test"
    side_by_side = False

    def __init__(self, lesion=(0.9, 0.9, 0.9), logits=((1.0,),)):
        self.lesion = np.array(lesion, np.float32)
        self.logits = np.array(logits, np.float32)
        self.calls = []

    def input_size(self, member):
        return {"map": 100, "other": 50}[member]

    def __call__(self, member, images):
        self.calls.append((member, images))
        count = len(images)
        lesion = np.resize(self.lesion, count)[:, None, None] * np.ones((4, 4), np.float32)
        logits = np.resize(self.logits, (count, self.logits.shape[1]))
        cams = logits[:, :, None, None] * np.ones((2, 2), np.float32)
        return Outputs(logits, cams, lesion if member == "map" else None)


def run(runtime, images, members=("map",), min_peak=0.5, **settings):
    return two_stage(runtime, images, locator="map", members=members, min_peak=min_peak, **settings)


def grey(shape=(100, 200), value=200):
    return np.full(shape, value, np.uint8)


def test_the_lesion_map_is_the_plain_mean_of_the_global_views():
    (outputs,) = run(Written(lesion=(0.2, 0.5, 0.8)), [grey()])
    assert outputs.peak == pytest.approx(0.5)
    assert run(Written(lesion=(0.0, 0.0, 0.9)), [grey()])[0].peak == pytest.approx(0.3)


@pytest.mark.parametrize(("min_peak", "box"), [(0.7, Box(0, 0, 200, 100)), (0.71, None)])
def test_a_map_below_the_least_peak_has_no_box(min_peak, box):
    (outputs,) = run(Written(lesion=(0.7, 0.7, 0.7)), [grey()], min_peak=min_peak)
    assert outputs.box == box


def test_squares_are_letterboxed_global_views_and_then_crops_around_the_box():
    columns = np.broadcast_to(np.arange(1, 201, dtype=np.uint8), (100, 200)).copy()
    runtime = Written(lesion=(0.9, 0.9, 0.9))
    run(runtime, [columns], boxes={0: Box(100, 40, 40, 20)}, every_map=True)
    (_, first), (_, second) = runtime.calls
    whole, flip, wider = first
    # 200 x 100 pixels in a square of 100: half size, black above and below, not stretched.
    assert np.array_equal(np.flatnonzero(whole.any(axis=1)), np.arange(25, 75))
    assert whole[50].all()
    assert np.array_equal(flip, whole[:, ::-1])
    # 115 % of 200 pixels are 230: the image takes 100 / 230 of the height, 200 / 230 of the width.
    assert np.count_nonzero(wider.any(axis=1)) == pytest.approx(100 * 100 / 230, abs=2)
    assert np.count_nonzero(wider.any(axis=0)) == pytest.approx(100 * 200 / 230, abs=2)
    # 1.4 and 2 times the box's longer side of 40, around its middle at column 120; the wider one is mirrored.
    lesion, around = second.astype(float)
    assert (lesion[50, 0], lesion[50, -1]) == pytest.approx((93, 148), abs=1)
    assert (around[50, 0], around[50, -1]) == pytest.approx((160, 81), abs=1)


def test_without_a_lesion_the_crops_are_of_the_middle():
    (outputs,) = run(Written(lesion=(0.1, 0.1, 0.1)), [grey((200, 100))])
    assert outputs.box is None
    # 70 % and 87 % of 200 pixels.
    assert outputs.windows["lesion"] == Window(-20, 30, 140)
    assert outputs.windows["around"] == Window(-37, 13, 174, mirror=True)


def test_known_boxes_replace_the_map_which_then_is_made_only_if_asked_for():
    boxes = {0: Box(10, 20, 30, 30), 1: None}
    images = [grey()] * 3
    for every_map, searched in ((False, 1), (True, 3)):
        runtime = Written()
        first, second, third = run(runtime, images, members=["other"], boxes=boxes, every_map=every_map)
        assert [len(squares) for member, squares in runtime.calls if member == "map"] == [3 * searched]
        assert (first.box, second.box, third.box) == (Box(10, 20, 30, 30), None, Box(0, 0, 200, 100))
        assert [outputs.peak is not None for outputs in (first, second, third)] == [every_map, every_map, True]
        assert first.windows["lesion"] == window("lesion", (100, 200), Box(10, 20, 30, 30))


def test_no_member_runs_on_a_view_twice_and_all_run_on_the_same_windows():
    runtime = Written()
    image = np.random.default_rng(0).integers(0, 255, (90, 130), dtype=np.uint8)
    results = run(runtime, [image, grey()], members=["map", "other"])
    assert [(member, len(squares)) for member, squares in runtime.calls] == [("map", 6), ("map", 4), ("other", 10)]
    for view, square in zip(VIEWS, runtime.calls[2][1][:5], strict=True):
        assert np.array_equal(square, cut(image, results[0].windows[view], 50))
    assert {member: list(views) for member, views in results[0].logits.items()} == {
        "map": list(VIEWS),
        "other": list(VIEWS),
    }


def test_members_run_side_by_side_where_that_is_quicker():
    class Meeting(Written):
        side_by_side = True

        def __call__(self, member, images):
            # The lesion map is made first, alone; then each member waits until the other runs too.
            if len(images) != 3:
                both.wait(timeout=30)
            return super().__call__(member, images)

    both = Barrier(2)
    together, alone = (run(runtime, [grey()], members=["map", "other"]) for runtime in (Meeting(), Written()))
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.windows == theirs.windows
        assert str(ours.logits) == str(theirs.logits)


def test_only_the_wanted_views_are_given():
    (outputs,) = run(Written(), [grey()], members=["other"], views=["whole", "around"])
    assert list(outputs.windows) == list(outputs.logits["other"]) == list(outputs.cams["other"]) == ["whole", "around"]


def test_no_image_is_no_output():
    assert run(Written(), []) == []


def test_a_member_without_a_lesion_map_cannot_find_one():
    with pytest.raises(ValueError, match="other has no lesion map"):
        two_stage(Written(), [grey()], locator="other", members=["map"], min_peak=0.5)


def test_evidence_of_one_logit_is_its_map_by_weight_where_a_view_lies():
    (outputs,) = run(Written(logits=((1.0,), (3.0,))), [grey((100, 100))], boxes={0: Box(40, 40, 20, 20)})
    # The five views give 1, 3, 1, 3, 1; crops of 28 and 40 pixels cover the middle.
    evidence = evidence_map(outputs, {"map": 1.0}, {"flip": 0.2, "wider": 0.1, "lesion": 0.3, "around": 0.4}, 1)
    assert evidence[5, 5] == pytest.approx((0.2 * 3 + 0.1 * 1) / 0.3)
    assert evidence[33, 33] == pytest.approx((0.2 * 3 + 0.1 * 1 + 0.4 * 1) / 0.7)
    assert evidence[50, 50] == pytest.approx(0.2 * 3 + 0.1 * 1 + 0.3 * 3 + 0.4 * 1)
    negative = replace(outputs, cams={"map": {view: -cam for view, cam in outputs.cams["map"].items()}})
    assert not evidence_map(negative, {"map": 1.0}, {"whole": 1.0}, 1).any()


def test_evidence_of_members_is_weighed():
    (outputs,) = run(Written(), [grey()], members=["map", "other"])
    cams = {"map": outputs.cams["map"], "other": {view: 5 * cam for view, cam in outputs.cams["other"].items()}}
    evidence = evidence_map(replace(outputs, cams=cams), {"map": 0.25, "other": 0.75}, {"whole": 1.0}, 0)
    assert evidence == pytest.approx(np.full((100, 200), 0.25 * 1 + 0.75 * 5))


@pytest.mark.parametrize(("malignant", "value"), [(2, 3.0), (1, 0.0), (0, 0.0)])
def test_evidence_of_several_classes_is_how_far_one_lies_above_their_mean(malignant, value):
    (outputs,) = run(Written(logits=((1.0, 2.0, 6.0),)), [grey()])
    assert evidence_map(outputs, {"map": 1.0}, {"whole": 1.0}, malignant) == pytest.approx(np.full((100, 200), value))


# ---- the detector and held-out logits, with the same network

SHAPES = {"lesion": (256, 320), "flat": (200, 200), "wide": (160, 260), "tall": (260, 190), "tiny": (40, 37)}


def phantoms():
    """Cases of every kind; "flat" shows no tissue, so no lesion is found there."""
    cases = []
    for number, (name, shape) in enumerate(SHAPES.items()):
        image, mask = phantom(np.random.default_rng(number), "malignant", shape)
        if name == "flat":
            image, mask = np.full(shape, 12, np.uint8), np.zeros(shape, bool)
        cases.append(Case(name, name, "phantoms", 1, image, mask, None, None, None, None, "malignant"))
    return cases


def tell_apart(net, lesion, flat):
    """Let the lesion head tell the features of one case from those of another."""
    squares = [cut(case.image, window("whole", case.image.shape), 64) for case in (lesion, flat)]
    grey = torch.from_numpy(np.stack(squares))[:, None].float() / 255
    mean, std = (torch.tensor(net.backbone.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        one, other = net.backbone.forward_features((grey - mean) / std).mean(dim=(2, 3))
        weight = 8 * (one - other) / (one - other).square().sum()
        net.lesion_head.weight.copy_(weight[None, :, None, None])
        net.lesion_head.bias.fill_(float(-weight @ (one + other) / 2))


@pytest.fixture(scope="module", params=["malignancy", "busi3"])
def both(request, tmp_path_factory, make_ensemble, rehash):
    """A detector of one member, the same member as a network in training, and its label set."""
    classes = LABEL_SETS[request.param]
    folder = tmp_path_factory.mktemp("one")
    make_ensemble(folder, ("test_resnet",), request.param, (64,))
    torch.manual_seed(3)
    net = TrainingNet(create("test_resnet", classes.num_logits)).eval()
    torch.nn.init.normal_(net.backbone.get_classifier().weight, std=0.5)
    tell_apart(net, *phantoms()[:2])
    save_member(folder / "test_resnet", net.backbone, classes, 64, net.lesion_head)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["lesion_map"] |= {"min_peak": MIN_PEAK, "found_peak": MIN_PEAK}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    rehash(folder)
    # As it is stored: weights in fp16.
    stored = TrainingNet(load_member(folder / "test_resnet"))
    stored.lesion_head.load_state_dict(
        {name: value.float() for name, value in load_file(folder / "test_resnet" / LESION_HEAD).items()}
    )
    config = stored.backbone.pretrained_cfg
    runtime = NetworkRuntime(stored.eval(), size=64, mean=config["mean"], std=config["std"])
    return BreastCancerDetector.from_pretrained(folder, device="cpu"), runtime, classes


def assert_equal(prediction, rows, case, classes):
    """A prediction has the logits, the box, the peak and the evidence on the mask of held-out rows, one a view."""
    malignant = classes.cancer
    for row in rows.to_dict("records"):
        logits = np.array([row[f"logit_{k}"] for k in range(classes.num_logits)])
        given = prediction.logits["test_resnet"][row["view"]]
        assert given == pytest.approx(log_odds(logits, malignant), abs=1e-6), row["view"]
    row = rows.iloc[0]
    box = tuple(row[f"box_{side}"] for side in "xywh")
    assert prediction.box == (None if np.isnan(box[0]) else box)
    on_mask = on_lesion(case.mask, prediction.box, prediction.heatmap)
    for name in ("box_iou", "pointing_hit", "energy_inside"):
        assert row[name] == pytest.approx(on_mask[name], abs=1e-6, nan_ok=True), name


def test_the_detector_and_held_out_logits_are_equal(both):
    detector, runtime, classes = both
    cases = phantoms()
    frame = held_out_logits(runtime, cases, member="test_resnet", fold=0, malignant=classes.cancer)
    results = list(detector.predict_many([Scan(case.image, 0.0) for case in cases], heatmap=True))
    assert {case.name: result.box is not None for case, result in zip(cases, results, strict=True)} == {
        "lesion": True,
        "flat": False,
        "wide": True,
        "tall": True,
        "tiny": True,
    }
    assert any(result.heatmap.any() for result in results)
    for case, result in zip(cases, results, strict=True):
        rows = frame[frame["name"] == case.name]
        assert list(rows["view"]) == list(VIEWS)
        assert_equal(result, rows, case, classes)
        assert rows["peak"].iloc[0] == pytest.approx(result.lesion_confidence, abs=1e-6)


def test_they_are_equal_in_a_given_box(both):
    detector, runtime, classes = both
    cases = phantoms()
    boxes = {case.name: Box(3.0, 4.0, 20.0, 30.0) for case in cases}
    settings = {"member": "test_resnet", "fold": 0, "malignant": classes.cancer}
    frame = held_out_logits(runtime, cases, boxes=boxes, **settings)
    for case in cases:
        result = detector.predict(Scan(case.image, 0.0), roi=boxes[case.name], heatmap=True)
        assert_equal(result, frame[frame["name"] == case.name], case, classes)
