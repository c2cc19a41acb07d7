"""Views cut, undo, merge and find boxes to a pixel."""

import itertools
import tracemalloc

import cv2
import numpy as np
import pytest

from bus_hf.errors import BusError
from bus_hf.views import (
    GLOBAL_VIEWS,
    LESION_CROPS,
    VIEWS,
    Box,
    Window,
    cut,
    find_box,
    merge,
    parse_box,
    uncut,
    window,
)

SHAPES = [(240, 320), (321, 200), (97, 97), (33, 400), (40, 37)]
BOX = Box(60.0, 50.0, 70.0, 40.0)


def speckle(shape, seed=0):
    return np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)


def ramps(shape):
    """Two images whose values are the pixel's own column and row."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return columns, rows


def covered(win, shape):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (columns >= win.x) & (columns < win.x + win.side) & (rows >= win.y) & (rows < win.y + win.side)


@pytest.mark.parametrize(("view", "shape", "box"), list(itertools.product(VIEWS, SHAPES, [None, Box(10, 12, 18, 9)])))
def test_undoing_a_view_at_its_own_size_gives_back_every_pixel(view, shape, box):
    image = speckle(shape)
    win = window(view, shape, box)
    back, seen = uncut(cut(image, win, win.side).astype(np.float32), win, shape)
    assert np.array_equal(seen, covered(win, shape))
    assert np.array_equal(back[seen], image[seen])
    assert not back[~seen].any()


@pytest.mark.parametrize(("view", "shape", "size"), list(itertools.product(VIEWS, SHAPES[:3], [24, 192])))
def test_undoing_a_resized_view_puts_every_pixel_back_where_it_was(view, shape, size):
    # A resampled ramp stays a ramp, so its values tell where each pixel came from.
    win = window(view, shape, Box(80, 60, 40, 30))
    margin = -(-2 * win.side // size) + 1
    for ramp in ramps(shape):
        # Padding would bend the ramp at the border, so it goes on outside.
        wide = cv2.copyMakeBorder(ramp, 400, 400, 400, 400, cv2.BORDER_CONSTANT)
        wide[:] = (ramp[0, 1] - ramp[0, 0]) * (np.arange(wide.shape[1]) - 400) + (
            (ramp[1, 0] - ramp[0, 0]) * (np.arange(wide.shape[0]) - 400)
        )[:, None]
        moved = Window(win.x + 400, win.y + 400, win.side, win.mirror)
        back, seen = uncut(cut(wide, moved, size), win, shape)
        inner = seen & covered(Window(win.x + margin, win.y + margin, win.side - 2 * margin), shape)
        assert inner.any()
        assert np.abs(back - ramp)[inner].max() < 0.5


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_reads_the_same_twice_and_leaves_the_image_alone(view):
    image = speckle((120, 160))
    before = image.copy()
    first, second = (cut(image, window(view, image.shape, BOX), 64) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.dtype == np.uint8
    assert first.shape == (64, 64)
    assert first.flags.c_contiguous
    assert np.array_equal(image, before)


def test_colour_images_keep_their_channels():
    image = speckle((50, 80, 3))
    square = cut(image, window("around", (50, 80), None), 32)
    assert square.shape == (32, 32, 3)
    for channel in range(3):
        assert np.array_equal(
            square[..., channel], cut(np.ascontiguousarray(image[..., channel]), window("around", (50, 80)), 32)
        )


def test_flip_is_whole_mirrored():
    image = speckle((120, 161))
    whole, flip = (cut(image, window(view, image.shape), 96) for view in ("whole", "flip"))
    assert np.array_equal(flip, whole[:, ::-1])
    assert not np.array_equal(flip, whole)


def test_only_flip_and_around_are_mirrored():
    assert [view for view in VIEWS if window(view, (100, 100), BOX).mirror] == ["flip", "around"]


def test_whole_is_letterboxed_with_black_and_never_stretched():
    image = np.full((100, 200), 200, np.uint8)
    square = cut(image, window("whole", image.shape), 200)
    assert np.array_equal(np.flatnonzero(square.any(axis=1)), np.arange(50, 150))
    assert np.array_equal(np.flatnonzero(square.any(axis=0)), np.arange(200))


def test_wider_shows_the_image_at_115_per_cent_with_black_on_every_side():
    image = np.full((200, 200), 200, np.uint8)
    win = window("wider", image.shape)
    assert win == Window(-15, -15, 230, False)
    square = cut(image, win, 230)
    assert square[15:215, 15:215].min() == 200
    assert square.sum() == 200 * 200 * 200


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("view", GLOBAL_VIEWS)
def test_the_global_views_covers_every_pixel_whatever_the_box(view, shape):
    win = window(view, shape, BOX)
    assert win == window(view, shape)
    assert covered(win, shape).all()


def test_a_circle_stays_a_circle():
    image = np.zeros((150, 400), np.uint8)
    cv2.circle(image, (200, 75), 50, 255, -1)
    for view in VIEWS:
        _, _, w, h = cv2.boundingRect(
            (cut(image, window(view, image.shape, Box(150, 25, 101, 101)), 160) > 127).astype(np.uint8)
        )
        assert abs(w - h) <= 1, view


@pytest.mark.parametrize(("view", "share"), [("lesion", 1.4), ("around", 2.0)])
def test_the_lesion_crops_is_a_square_around_the_box(view, share):
    win = window(view, (240, 320), BOX)
    assert win.side == round(70 * share)
    assert abs(win.x + win.side / 2 - 95) <= 0.5
    assert abs(win.y + win.side / 2 - 70) <= 0.5


@pytest.mark.parametrize(("view", "share"), [("lesion", 0.70), ("around", 0.87)])
def test_without_a_box_the_lesion_crops_is_a_centre_crop(view, share):
    win = window(view, (200, 300))
    assert win.side == round(300 * share)
    assert abs(win.x + win.side / 2 - 150) <= 0.5
    assert abs(win.y + win.side / 2 - 100) <= 0.5


@pytest.mark.parametrize("view", LESION_CROPS)
def test_a_speck_of_a_box_still_gets_a_window_that_shows_something(view):
    assert window(view, (240, 320), Box(100, 100, 1, 1)).side == 32


def test_a_box_in_the_corner_is_padded_not_moved():
    image = np.full((200, 300), 90, np.uint8)
    win = window("around", image.shape, Box(0, 0, 60, 60))
    assert (win.x, win.y, win.side) == (-30, -30, 120)
    square = cut(image, win, 120)[:, ::-1]
    assert not square[:30].any()
    assert not square[:, :30].any()
    assert (square[30:, 30:] == 90).all()


def test_a_window_outside_the_image_is_black_and_covers_nothing():
    image = speckle((50, 60))
    win = Window(100, 100, 20)
    assert not cut(image, win, 16).any()
    back, seen = uncut(np.ones((4, 4)), win, image.shape)
    assert not back.any()
    assert not seen.any()


def test_an_unknown_view_is_refused_by_name():
    with pytest.raises(ValueError, match="upside"):
        window("upside", (10, 10))


@pytest.mark.parametrize("size", [7, 48, 300])
def test_undoing_a_map_stretches_it_as_opencv_does(size):
    values = np.random.default_rng(1).random((size, size), dtype=np.float32)
    win = Window(-20, -10, 230)
    expected = cv2.resize(values, (230, 230), interpolation=cv2.INTER_LINEAR)[10:160, 20:220]
    assert np.allclose(uncut(values, win, (150, 200))[0], expected, atol=1e-5)


def test_a_very_long_image_needs_no_square_as_large_as_its_length():
    shape = (16, 60_000)
    image = np.full(shape, 200, np.uint8)
    image[:, :30_000] = 100
    win = window("whole", shape)
    tracemalloc.start()
    square = cut(image, win, 192)
    back, seen = uncut(np.ones((8, 8), np.float32), win, shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6
    assert seen.all()
    assert np.allclose(back, 1)
    # The strip is thinner than a pixel of the view, in its middle, and dark on its left half.
    middle = square[94:98].sum(axis=0, dtype=int)
    assert middle.sum() == square.sum(dtype=int)
    assert 0 < middle[10] < middle[180]


def test_merge_counts_only_the_views_that_saw_a_pixel():
    shape = (40, 40)
    whole, part = Window(0, 0, 40), Window(0, 0, 20)
    merged = merge([np.full((5, 5), 0.2), np.full((5, 5), 0.8)], [whole, part], shape)
    assert np.allclose(merged[:20, :20], 0.5)
    assert np.allclose(merged[20:], 0.2)
    assert np.allclose(merged[:, 20:], 0.2)


def test_merge_weighs_views_and_leaves_unseen_pixels_at_zero():
    merged = merge(
        [np.full((5, 5), 1.0), np.full((5, 5), 0.0)], [Window(0, 0, 20), Window(0, 0, 20)], (40, 40), [3.0, 1.0]
    )
    assert np.allclose(merged[:20, :20], 0.75)
    assert not merged[20:].any()
    assert np.isfinite(merged).all()


def test_merge_brings_a_mirrored_blob_onto_its_twin():
    image = np.zeros((120, 160), np.float32)
    cv2.circle(image, (40, 70), 12, 1.0, -1)
    windows = [window(view, image.shape) for view in GLOBAL_VIEWS]
    merged = merge([cut(image, win, 80) for win in windows], windows, image.shape)
    x, y, w, h = find_box(merged, 0.5)
    assert abs(x - 28) <= 1
    assert abs(y - 58) <= 1
    assert abs(x + w - 53) <= 1
    assert abs(y + h - 83) <= 1


def test_find_box_is_exact_on_a_rectangle():
    plane = np.zeros((60, 80), np.float32)
    plane[20:31, 10:41] = 0.9
    assert find_box(plane, 0.5) == Box(10.0, 20.0, 31.0, 11.0)


def test_find_box_takes_pixels_from_half_the_peak_on():
    plane = np.zeros((60, 80), np.float32)
    plane[10:50, 10:50] = 0.49
    plane[15:45, 15:45] = 0.5
    plane[20:30, 20:30] = 1.0
    assert find_box(plane, 0.5) == Box(15.0, 15.0, 30.0, 30.0)


def test_find_box_leaves_out_a_background_with_more_evidence_than_the_lesion():
    plane = np.full((60, 80), 0.4, np.float32)
    plane[20:30, 20:30] = 1.0
    assert find_box(plane, 0.5) == Box(20.0, 20.0, 10.0, 10.0)


def test_find_box_prefers_evidence_over_area():
    plane = np.zeros((60, 80), np.float32)
    plane[0:5, 0:60] = 0.5
    plane[30:46, 60:76] = 0.95
    assert find_box(plane, 0.2) == Box(60.0, 30.0, 16.0, 16.0)


def test_diagonal_neighbours_are_one_part():
    plane = np.zeros((10, 10), np.float32)
    plane[2, 2] = plane[3, 3] = plane[4, 4] = 1
    assert find_box(plane, 0.5) == Box(2.0, 2.0, 3.0, 3.0)


@pytest.mark.parametrize(
    "plane",
    [np.zeros((20, 20)), np.full((20, 20), 0.19), np.full((20, 20), np.nan), np.zeros((0, 0))],
    ids=["zero", "below", "nan", "empty"],
)
def test_a_flat_map_has_no_box(plane):
    assert find_box(plane.astype(np.float32), 0.2) is None


def test_a_map_of_zeros_has_no_box_even_without_a_least_peak():
    assert find_box(np.zeros((20, 20), np.float32), 0.0) is None


def test_a_peak_at_the_least_counts():
    plane = np.zeros((20, 20), np.float32)
    plane[5, 6] = 0.25
    assert find_box(plane, 0.25) == Box(6.0, 5.0, 1.0, 1.0)


def test_clipped_boxes_stay_inside_and_vanish_outside():
    assert Box(-5, 10, 20, 200).clipped((100, 50)) == Box(0.0, 10.0, 15.0, 90.0)
    assert Box(10, 10, 20, 20).clipped((100, 50)) == Box(10, 10, 20, 20)
    assert Box(60, 10, 20, 20).clipped((100, 50)) is None
    assert Box(-19.5, 10, 20, 20).clipped((100, 50)) is None


@pytest.mark.parametrize("given", ["120,80,60,40", " 120; 80; 60 ;40", [120, 80, 60, 40.0]])
def test_a_box_is_parsed(given):
    assert parse_box(given) == Box(120, 80, 60, 40)


@pytest.mark.parametrize(
    "given", ["", "1,2,3", "1,2,3,4,5", "a,b,c,d", [1, 2, 3], [1, 2, 3, True], [1, 2, 3, 10**400], 0]
)
def test_what_is_no_box_is_one_sentence(given):
    with pytest.raises(BusError, match="is no lesion box; write left, top, width and height in pixels"):
        parse_box(given)
