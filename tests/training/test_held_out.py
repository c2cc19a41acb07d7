"""Held-out logits: their rows, and the constants of the path, with networks that are written down."""

import numpy as np
import pytest
import torch

from bus_hf.data.dataset import Case
from bus_hf.errors import BusError
from bus_hf.inference.runtime import Outputs
from bus_hf.models import TrainingNet, create
from bus_hf.training.held_out import NetworkRuntime, held_out_logits
from bus_hf.views import VIEWS, Box


class Written:
    """A member that gives each view of an image its number in `views`, and a lesion map of `lesion` everywhere."""

    device = "a test"
    side_by_side = False

    def __init__(self, lesion=0.9, views=(1.0, 3.0, 5.0, 7.0, 11.0)):
        self.lesion = lesion
        self.views = views

    def input_size(self, member):
        return 32

    def __call__(self, member, images):
        # Three global views an image come first, then its two lesion crops.
        values = self.views[:3] if len(images) % 3 == 0 else self.views[3:]
        logits = np.resize(np.array(values, np.float32), (len(images), 1))
        cams = logits[:, :, None, None] * np.ones((2, 2), np.float32)
        return Outputs(logits, cams, np.full((len(images), 4, 4), self.lesion, np.float32))


def case(name="a", mask=None, shape=(100, 100)):
    return Case(name, f"group {name}", "site", 1, np.full(shape, 99, np.uint8), mask, None, "4", None, "x", "malignant")


def logits(runtime, cases, **settings):
    return held_out_logits(runtime, cases, member="one", fold=2, malignant=1, **settings)


def test_one_row_an_image_and_view_with_what_the_source_knows():
    frame = logits(Written(), [case("a"), case("b")])
    assert list(frame["name"]) == ["a"] * 5 + ["b"] * 5
    assert list(frame["view"]) == list(VIEWS) * 2
    assert list(frame["logit_0"]) == [1, 3, 5, 7, 11] * 2
    facts = ["group", "source", "label", "fold", "member", "birads", "device", "pathology", "height", "width"]
    assert frame.loc[5, facts].tolist() == ["group b", "site", 1, 2, "one", "4", "x", "malignant", 100, 100]


@pytest.mark.parametrize(("peak", "box"), [(0.59, False), (0.61, True)])
def test_a_lesion_is_found_from_a_peak_of_60_per_cent_on(peak, box):
    frame = logits(Written(lesion=peak), [case(shape=(80, 120))])
    assert frame["peak"].tolist() == pytest.approx([peak] * 5)
    expected = (0, 0, 120, 80) if box else (np.nan,) * 4
    assert tuple(frame[f"box_{side}"].iloc[0] for side in "xywh") == pytest.approx(expected, nan_ok=True)


def test_the_heat_map_has_the_weights_of_the_views_and_the_sizes_of_the_crops():
    mask = np.zeros((200, 200), bool)
    mask[75:125, 75:125] = True
    frame = logits(Written(), [case(mask=mask, shape=(200, 200))], boxes={"a": Box(75, 75, 50, 50)})
    # Weights 0.2, 0.2, 0.1 of the global views over the whole image; 0.25 of "lesion" over 70 x 70 pixels around the
    # box, 0.25 of "around" over 100 x 100.
    everywhere = 0.2 * 1 + 0.2 * 3 + 0.1 * 5
    ring = everywhere + 0.25 * 11
    middle = ring + 0.25 * 7
    total = (40_000 - 10_000) * everywhere / 0.5 + (10_000 - 4_900) * ring / 0.75 + 4_900 * middle / 1.0
    assert frame["energy_inside"].iloc[0] == pytest.approx(2_500 * middle / total, rel=1e-5)
    assert frame["box_iou"].iloc[0] == 1


def test_boxes_of_another_run_are_taken_as_they_are_and_the_peak_stays_the_members_own():
    boxes = {"a": Box(10, 20, 30, 40), "b": None}
    frame = logits(Written(lesion=0.8), [case("a"), case("b")], boxes=boxes).drop_duplicates("name")
    assert frame["peak"].tolist() == pytest.approx([0.8, 0.8])
    assert frame[["box_x", "box_y", "box_w", "box_h"]].iloc[0].tolist() == [10, 20, 30, 40]
    assert frame["box_x"].isna().tolist() == [False, True]


def test_more_images_than_a_batch_are_all_told_of():
    done = []
    frame = logits(Written(), [case(str(number)) for number in range(19)], progress=done.append)
    assert (frame["name"].nunique(), sum(done)) == (19, 19)


@pytest.mark.parametrize("spoiled", ["logits", "lesion"])
def test_a_network_that_gives_what_is_not_finite_is_told_with_its_fold(spoiled):
    net = TrainingNet(create("test_resnet", 1)).eval()
    layer = net.backbone.get_classifier() if spoiled == "logits" else net.lesion_head
    torch.nn.init.constant_(layer.bias, float("nan"))
    runtime = NetworkRuntime(net, size=64, mean=[0.5] * 3, std=[0.5] * 3, fold=2)
    with pytest.raises(BusError, match=r"fold 2: one gives logits or maps that are not finite"):
        logits(runtime, [case()])
