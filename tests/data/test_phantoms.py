import numpy as np
import pytest

from bus_hf.data.images import read_image, read_mask
from bus_hf.data.phantoms import KINDS, phantom, write_phantoms


@pytest.mark.parametrize("kind", KINDS)
def test_same_seed_same_phantom(kind):
    first, again, other = (phantom(np.random.default_rng(seed), kind)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_normal_phantom_has_no_lesion():
    image, mask = phantom(np.random.default_rng(0), "normal", (128, 160))
    assert image.shape == mask.shape == (128, 160)
    assert image.dtype == np.uint8
    assert not mask.any()


@pytest.mark.parametrize("seed", range(5))
def test_benign_is_wide_and_malignant_is_tall_and_both_are_dark(seed):
    for kind, wide in (("benign", True), ("malignant", False)):
        image, mask = phantom(np.random.default_rng(seed), kind)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (np.ptp(columns) > np.ptp(rows)) == wide
        ring = np.roll(mask, 40, axis=1) & ~mask
        assert image[mask].mean() < image[ring].mean() - 20


def test_written_phantoms_read_back(tmp_path):
    write_phantoms(tmp_path, 2, seed=3)
    assert len(list(tmp_path.rglob("*.png"))) == 12
    assert read_image(tmp_path / "benign" / "benign (1).png").shape == (256, 320)
    assert read_mask(tmp_path / "malignant" / "malignant (2)_mask.png").any()
    assert not read_mask(tmp_path / "normal" / "normal (1)_mask.png").any()
