import numpy as np
import pytest

from bus_hf.training.augmentation import TrainTransform
from bus_hf.training.scanners import DepthGain, Marks, scanner_steps


def test_depth_gain_varies_over_depth_alone_and_keeps_black():
    image = np.full((64, 48), 120, np.uint8)
    image[:, :10] = 0
    step = DepthGain(offset=0.3, p=1.0)
    step.set_random_seed(0)
    out = step(image=image)["image"]
    assert not out[:, :10].any()
    assert (out[:, 10:] == out[:, 10:11]).all()
    assert np.ptp(out[:, 20].astype(int)) > 10
    # Neighbouring depths differ little: a gain, not noise.
    assert np.abs(np.diff(out[:, 20].astype(int))).max() < 15


def test_marks_are_few_bright_pixels_and_leave_the_given_image():
    image = np.full((128, 128), 40, np.uint8)
    step = Marks(p=1.0)
    changed = []
    for seed in range(20):
        step.set_random_seed(seed)
        out = step(image=image)["image"]
        drawn = out != image
        changed.append(drawn.mean())
        assert out[drawn].min() > 40
    assert (image == 40).all()
    assert 0.001 < np.median(changed) < 0.1


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_steps_run_at_any_strength_on_image_and_mask(strength):
    image = np.random.default_rng(0).integers(1, 255, (90, 120)).astype(np.uint8)
    mask = np.zeros(image.shape, bool)
    mask[30:60, 40:80] = True
    transform = TrainTransform(64, 0.0, 0.0, strength)
    plain = TrainTransform(64, 0.0, 0.0)
    moved = 0
    for seed in range(12):
        out, lesion = transform(image, mask, np.random.default_rng(seed))
        same, where = plain(image, mask, np.random.default_rng(seed))
        # Another scanner shows the same lesion in the same place.
        assert np.array_equal(lesion, where)
        moved += not np.array_equal(out, same)
    assert moved >= 8


def test_no_steps_without_strength():
    assert scanner_steps(0) == []
