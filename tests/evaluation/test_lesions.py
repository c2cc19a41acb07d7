import numpy as np
import pytest

from bus_hf.evaluation.lesions import box_iou, on_lesion
from bus_hf.training.augmentation import mask_box


@pytest.fixture
def mask():
    mask = np.zeros((20, 30), bool)
    mask[5:15, 10:20] = True
    return mask


def test_overlap_of_boxes():
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert box_iou((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert box_iou((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_figures_on_a_lesion(mask):
    heat = np.zeros(mask.shape)
    heat[7, 12], heat[0, 0] = 3.0, 1.0
    result = on_lesion(mask, (10, 5, 10, 5), heat)
    assert result["box_iou"] == pytest.approx(0.5)
    assert result["pointing_hit"] == 1
    assert result["energy_inside"] == pytest.approx(0.75)
    assert tuple(result[f"mask_{side}"] for side in "xywh") == tuple(mask_box(mask))


def test_no_box_is_a_miss_and_no_evidence_points_nowhere(mask):
    result = on_lesion(mask, None, np.zeros(mask.shape))
    assert (result["box_iou"], result["pointing_hit"], result["energy_inside"]) == (0, 0, 0)
    assert np.isnan(result["box_w"])


@pytest.mark.parametrize("empty", [None, np.zeros((4, 4), bool)])
def test_without_a_lesion_there_is_nothing_to_measure(empty):
    result = on_lesion(empty, (1, 2, 3, 4), np.ones((4, 4)))
    assert np.isnan([result["box_iou"], result["pointing_hit"], result["energy_inside"], result["mask_w"]]).all()
    assert result["box_h"] == 4
