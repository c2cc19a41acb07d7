from collections import Counter

import numpy as np
import pytest

from bus_hf.training.augmentation import Gain, Speckle, TrainTransform, contact_sheet, mask_box, steps, training_window
from bus_hf.views import Box


@pytest.fixture
def picture():
    image = np.random.default_rng(0).integers(20, 200, (150, 220)).astype(np.uint8)
    mask = np.zeros(image.shape, bool)
    mask[60:100, 120:180] = True
    image[mask] = 5
    return image, mask


def test_same_draw_gives_the_same_square_and_another_a_different_one(picture):
    transform = TrainTransform(64)
    first, again, other = (transform(*picture, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_strength_zero_is_the_letterboxed_image(picture):
    image, mask = TrainTransform(220, strength=0.0)(*picture, np.random.default_rng(0))
    assert np.array_equal(image[35:185], picture[0])
    assert not image[:35].any()
    assert np.array_equal(mask[35:185] > 127, picture[1])


def test_every_step_decides_for_itself(picture, monkeypatch):
    # albumentations seeds all steps alike; then the rarer step would only ever follow the commoner one.
    seen: list[str] = []
    for step in (Gain, Speckle):
        original = step.apply

        def spy(self, *args, original=original, **params):
            seen.append(type(self).__name__)
            return original(self, *args, **params)

        monkeypatch.setattr(step, "apply", spy)
    transform, together = TrainTransform(32), Counter()
    for seed in range(200):
        seen.clear()
        transform(*picture, np.random.default_rng(seed))
        together[tuple(seen)] += 1
    assert together["Speckle",] > 10
    assert together["Gain",] > 30
    assert together["Gain", "Speckle"] > 10


def test_mask_follows_the_image(picture):
    # The lesion is dark: where the mask is, the grey values must stay far below those around it.
    inside, outside = [], []
    for seed in range(40):
        image, mask = TrainTransform(96)(*picture, np.random.default_rng(seed))
        if (mask > 200).sum() > 50:
            inside.append(np.median(image[mask > 200]))
            outside.append(np.median(image[(mask == 0) & (image > 0)]))
    assert len(inside) > 20
    assert np.mean(np.array(inside) < np.array(outside)) > 0.95


def test_lesion_crop_holds_the_lesion_and_its_size():
    box, shape = Box(100, 60, 80, 40), (400, 500)
    for seed in range(100):
        win = training_window(shape, box, np.random.default_rng(seed), 1.0)
        assert 1.25 * 80 - 1 <= win.side <= 3 * 80 + 1
        centre = win.x + win.side / 2, win.y + win.side / 2
        assert abs(centre[0] - 140) <= 0.15 * 80 + 1
        assert abs(centre[1] - 80) <= 0.15 * 80 + 1


def test_images_without_a_mask_get_crops_too():
    sides = [training_window((400, 500), None, np.random.default_rng(seed), 1.0).side for seed in range(100)]
    assert min(sides) < 250
    assert max(sides) <= 500


def test_speckle_leaves_black_black_and_keeps_the_mean():
    image = np.full((128, 128), 120, np.uint8)
    image[:, :40] = 0
    out = Speckle(p=1.0)(image=image)["image"]
    assert not out[:, :40].any()
    assert out[:, 40:].std() > 5
    assert abs(float(out[:, 40:].mean()) - 120) < 20


def test_speckle_of_one_look_is_rayleigh():
    # The envelope of fully developed speckle has mean / standard deviation = 1.91 (Goodman 2007, eq. 3-13).
    speckle = Speckle(looks=(1.0, 1.0), grain=(0.4, 0.4), p=1.0)
    speckle.set_random_seed(0)
    noise = speckle.get_params_dependent_on_data({"shape": (512, 512)}, {})["noise"]
    # The grey values a decibel takes vanish from the ratio of two percentiles in decibels.
    low, middle, high = np.percentile(noise, (10, 50, 90))
    rayleigh = 20 * np.log10(np.sqrt(-2 * np.log([0.9, 0.5, 0.1])))
    expected = (rayleigh[2] - rayleigh[1]) / (rayleigh[1] - rayleigh[0])
    assert (high - middle) / (middle - low) == pytest.approx(expected, rel=0.1)


def test_gain_keeps_black():
    image = np.zeros((8, 8), np.uint8)
    assert not Gain(offset=(0.2, 0.2), contrast=(1.0, 1.0), p=1.0)(image=image)["image"].any()


def test_no_steps_without_strength():
    assert steps(64, 0) == []


def test_mask_box():
    mask = np.zeros((20, 30), bool)
    assert mask_box(mask) is None
    mask[4:9, 10:22] = True
    assert mask_box(mask) == Box(10, 4, 12, 5)


def test_contact_sheet_shows_every_step(picture):
    sheet = contact_sheet(*picture, size=48)
    tiles = len(steps(48, 1.0, 1.0)) + 5
    assert sheet.shape == (-(-tiles // 4) * (48 + 28), 4 * (48 + 8), 3)
