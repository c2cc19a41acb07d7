"""Masks: every drawn region counts, and a mask is turned as its image is."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from bus_hf.data.decoding.decode import turn
from bus_hf.data.images import read_image, read_mask, read_masks
from bus_hf.data.phantoms import phantom

SHAPE = (120, 160)


def encoded(pixels, kind="PNG", orientation=None, **options):
    buffer = io.BytesIO()
    if orientation:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def scan():
    return phantom(np.random.default_rng(1), "benign", SHAPE)[0]


@pytest.fixture
def regions():
    """Two regions: a large one and, apart from it, a small one."""
    large, small = np.zeros((2, *SHAPE), bool)
    large[20:70, 20:80] = True
    small[85:105, 120:145] = True
    return large, small


def painted(regions, *values):
    out = np.zeros((*SHAPE, *np.shape(values[0])), np.uint8)
    for region, value in zip(regions, values, strict=True):
        out[region] = value
    return out


@pytest.mark.parametrize(
    "values",
    [
        (1, 2),
        (2, 1),
        (255, 1),
        (255, 40),
        ((0, 255, 0), (0, 0, 255)),
        ((255, 0, 0), (0, 0, 255)),
        ((0, 0, 1), (0, 200, 0)),
        ((255, 255, 255), (0, 0, 128)),
    ],
)
def test_no_region_vanishes_whatever_its_value(regions, values):
    mask = painted(regions, *values)
    assert np.array_equal(read_mask(encoded(mask)), regions[0] | regions[1])
    assert np.array_equal(read_mask(mask), regions[0] | regions[1])


def test_touching_labels_both_count():
    mask = np.zeros(SHAPE, np.uint8)
    mask[20:60, 20:60], mask[30:50, 30:50] = 1, 2
    assert np.array_equal(read_mask(encoded(mask)), mask > 0)


def test_labels_in_a_palette_count(regions):
    image = Image.fromarray(painted(regions, 1, 2))
    image.putpalette([0, 0, 0, 0, 0, 160, 0, 160, 0])
    assert np.array_equal(read_mask(encoded(image)), regions[0] | regions[1])


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("values", [(255, 255), (255, 128), ((0, 255, 0), (0, 0, 255))])
def test_regions_of_a_jpeg_count_and_its_noise_does_not(regions, values, quality):
    result = read_mask(encoded(painted(regions, *values), "JPEG", quality=quality))
    assert (result ^ (regions[0] | regions[1])).mean() < 0.02
    assert all(result[region].mean() > 0.9 for region in regions)


def test_smooth_edges_are_cut_at_half(regions):
    mask = painted(regions, 255, 255)
    smooth = np.asarray(Image.fromarray(mask).resize((80, 60), Image.Resampling.BICUBIC).resize(SHAPE[::-1]))
    assert (read_mask(encoded(smooth)) ^ (mask > 0)).mean() < 0.01


def test_masks_with_transparency(regions):
    drawn = regions[0] | regions[1]
    alpha = drawn.astype(np.uint8) * 255
    white, black = np.full((*SHAPE, 3), 255, np.uint8), np.zeros((*SHAPE, 3), np.uint8)
    opaque = np.full(SHAPE, 255, np.uint8)
    lit = np.repeat(alpha[:, :, None], 3, axis=2)
    for colours, transparency in ((white, alpha), (black, alpha), (lit, opaque), (lit, np.zeros(SHAPE, np.uint8))):
        for kind in ("PNG", "TIFF"):
            assert np.array_equal(read_mask(encoded(np.dstack([colours, transparency]), kind)), drawn)


# A mask and its image


@pytest.mark.parametrize("tag", range(1, 9))
def test_turn_is_what_viewers_do(scan, tag):
    stored = Image.open(io.BytesIO(encoded(scan, orientation=tag)))
    assert np.array_equal(turn(scan, tag), np.asarray(ImageOps.exif_transpose(stored)))


def pair(scan, tag):
    """The file of a scan stored turned, its upright shape, and a mask drawn on the stored pixels and upright."""
    raw = np.zeros(scan.shape, np.uint8)
    raw[10:40, 100:140] = 255
    data = encoded(scan, "JPEG", orientation=tag)
    return data, read_image(data).shape, raw, turn(raw, tag)


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
def test_a_mask_drawn_on_the_stored_pixels_is_turned_as_its_image(scan, tag):
    image, shape, raw, upright = pair(scan, tag)
    for mask in (raw, upright):
        result, notes = read_masks([encoded(mask)], image, shape)
        assert np.array_equal(result, upright > 0)
        assert notes == []


@pytest.mark.parametrize("tag", [5, 6, 7, 8])
def test_a_smaller_mask_is_turned_too(scan, tag):
    image, shape, raw, upright = pair(scan, tag)
    result, (note,) = read_masks([encoded(np.ascontiguousarray(raw[::2, ::2]))], image, shape)
    assert (result ^ (upright > 0)).mean() < 0.01
    assert "it is resized" in note


@pytest.mark.parametrize("tag", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_mask_with_its_own_orientation_is_upright_by_it(scan, tag):
    image, shape, raw, upright = pair(scan, tag)
    result, notes = read_masks([encoded(raw, orientation=tag)], image, shape)
    assert np.array_equal(result, upright > 0)
    assert bool(notes) == (tag == 1 and not np.array_equal(raw, upright))


@pytest.mark.parametrize("tag", range(1, 9))
def test_tiffs_are_turned_once_image_and_mask_alike(scan, tag):
    raw = np.zeros(scan.shape, np.uint8)
    raw[10:40, 100:140] = 255
    image, mask = (encoded(pixels, "TIFF", tiffinfo={274: tag}) for pixels in (scan, raw))
    shape = read_image(image).shape
    assert shape == turn(scan, tag).shape
    for given in (mask, Image.open(io.BytesIO(mask))):
        result, notes = read_masks([given], image, shape)
        assert np.array_equal(result, turn(raw, tag) > 0)
        assert notes == []
    if tag >= 5:
        assert np.array_equal(read_masks([encoded(raw)], image, shape)[0], turn(raw, tag) > 0)


@pytest.mark.parametrize("tag", [2, 3, 4])
def test_what_the_size_cannot_tell_is_said(scan, tag):
    image, shape, _, upright = pair(scan, tag)
    result, (note,) = read_masks([encoded(upright)], image, shape)
    assert np.array_equal(result, upright > 0)
    assert "turned by its EXIF orientation" in note
    assert note.endswith(".")


def test_a_square_image_is_said_too(scan):
    image, shape, _, upright = pair(np.ascontiguousarray(scan[:, :120]), 1)
    assert read_masks([encoded(upright)], image, shape)[1] == []
    image, shape, _, upright = pair(np.ascontiguousarray(scan[:, :120]), 6)
    assert "turned by its EXIF orientation" in read_masks([encoded(upright)], image, shape)[1][0]


def test_an_all_black_mask_is_no_mask_unless_the_breast_is_normal(scan):
    black, drawn = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    drawn[10:50, 10:50] = 1
    result, (note,) = read_masks([encoded(black)], scan, SHAPE, name="b_mask.png")
    assert result is None
    assert note.startswith("b_mask.png: the mask is all black")
    united, notes = read_masks([encoded(black), encoded(drawn)], scan, SHAPE)
    assert np.array_equal(united, drawn > 0)
    assert len(notes) == 1
    normal, notes = read_masks([encoded(black)], scan, SHAPE, lesion=False)
    assert normal is not None
    assert not normal.any()
    assert notes == []


def test_unreadable_masks_are_said_and_none_is_none(scan):
    assert read_masks([], scan, SHAPE) == (None, [])
    result, (note,) = read_masks([b"no mask"], scan, SHAPE)
    assert result is None
    assert note.endswith("The image is kept without this mask.")
