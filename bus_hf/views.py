"""Test-time views: global views of the whole image, lesion crops around the lesion.

Every view is one square window of the original pixels, perhaps mirrored, resized to the member's input. A window that
reaches past the image is padded with black, so nothing is ever stretched. NumPy and OpenCV only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from bus_hf.errors import BusError

GLOBAL_VIEWS = ("whole", "flip", "wider")
LESION_CROPS = ("lesion", "around")
VIEWS = GLOBAL_VIEWS + LESION_CROPS
# Half the weight to the global views and half to the lesion crops; a plain view weighs no less than its variants.
VIEW_WEIGHTS = {"whole": 0.2, "flip": 0.2, "wider": 0.1, "lesion": 0.25, "around": 0.25}

# Side of the window: of the image's longer side in the global views, of the box's longer side in the lesion crops.
_WIDER = 1.15
_LESION, _AROUND = 1.4, 2.0
# Without a box the lesion crops are centre crops of these shares of the image's longer side.
_LESION_FALLBACK, _AROUND_FALLBACK = 0.70, 0.87
# A lesion map whose maximum stays below this shows no lesion. Of the out-of-fold images of the first member, this left
# most normal breasts without a box and few lesions.
MIN_PEAK = 0.6
# A crop of fewer original pixels than this shows only interpolation.
_MIN_SIDE = 32
# A window's square is held in memory: a strip of 16 x 60,000 pixels would take gigabytes.
_MAX_SIDE = 8192


class Box(NamedTuple):
    """A box in original pixels: left, top, width, height."""

    x: float
    y: float
    w: float
    h: float

    def clipped(self, shape: tuple[int, int]) -> Box | None:
        """The part inside an image of `shape` (height, width); None when less than a pixel is left."""
        left, top = max(self.x, 0.0), max(self.y, 0.0)
        right, bottom = min(self.x + self.w, float(shape[1])), min(self.y + self.h, float(shape[0]))
        if right - left < 1 or bottom - top < 1:
            return None
        return Box(left, top, right - left, bottom - top)


def parse_box(given: object) -> Box:
    """The box that somebody wrote: "left, top, width, height" in pixels of the image, or a list of these four numbers.

    Raises:
        BusError: it is something else.
    """
    try:
        if isinstance(given, str):
            return Box(*map(float, given.replace(";", ",").split(",")))
        if isinstance(given, list) and not any(isinstance(side, bool | str) for side in given):
            return Box(*map(float, given))
    except (TypeError, ValueError, OverflowError):
        pass
    shown = f"'{str(given)[:40]}'" if isinstance(given, str | list) else "this"
    raise BusError(
        f"{shown} is no lesion box", remedy="write left, top, width and height in pixels, such as 120, 80, 60, 40"
    )


@dataclass(frozen=True)
class Window:
    """A square of original pixels, `x, y` its top-left corner (may lie outside), `side` long."""

    x: int
    y: int
    side: int
    mirror: bool = False


def centred(cx: float, cy: float, side: float, mirror: bool = False) -> Window:
    """The window of about `side` pixels around a point given in original pixels."""
    whole = max(1, round(side))
    return Window(math.floor(cx - whole / 2 + 0.5), math.floor(cy - whole / 2 + 0.5), whole, mirror)


def window(view: str, shape: tuple[int, int], box: Box | None = None) -> Window:
    """The window of the view called `view` on an image of `shape` (height, width).

    `box` is the lesion; without one, `lesion` and `around` are centre crops of 70 % and 87 %.

    Examples:
        >>> window("whole", (240, 320))
        Window(x=0, y=-40, side=320, mirror=False)
        >>> window("lesion", (240, 320), Box(60, 50, 70, 40))
        Window(x=46, y=21, side=98, mirror=False)
        >>> window("around", (240, 320), Box(60, 50, 70, 40))
        Window(x=25, y=0, side=140, mirror=True)
    """
    height, width = shape
    longer = max(height, width)
    if view in GLOBAL_VIEWS:
        return centred(width / 2, height / 2, longer * (_WIDER if view == "wider" else 1), view == "flip")
    if view not in LESION_CROPS:
        raise ValueError(f"unknown view {view!r}; the views are {', '.join(VIEWS)}")
    mirror = view == "around"
    if box is None:
        share = _AROUND_FALLBACK if view == "around" else _LESION_FALLBACK
        return centred(width / 2, height / 2, longer * share, mirror)
    side = max(box.w, box.h) * (_AROUND if view == "around" else _LESION)
    return centred(box.x + box.w / 2, box.y + box.h / 2, max(side, _MIN_SIDE), mirror)


def cut(image: np.ndarray, win: Window, size: int) -> np.ndarray:
    """Cut a window out of `image` (H, W) or (H, W, C) and resize it to (size, size[, C]); same dtype.

    Examples:
        >>> image = np.full((240, 320), 200, np.uint8)
        >>> square = cut(image, window("whole", image.shape), 160)
        >>> square.shape, int(square[10, 80]), int(square[80, 80])
        ((160, 160), 0, 200)
    """
    if win.side > _MAX_SIDE:
        factor = -(-win.side // _MAX_SIDE)
        smaller = (max(image.shape[1] // factor, 1), max(image.shape[0] // factor, 1))
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
        win = Window(win.x // factor, win.y // factor, win.side // factor, win.mirror)
    height, width = image.shape[:2]
    left, top = max(win.x, 0), max(win.y, 0)
    right, bottom = min(win.x + win.side, width), min(win.y + win.side, height)
    square = np.zeros((win.side, win.side, *image.shape[2:]), image.dtype)
    if right > left and bottom > top:
        square[top - win.y : bottom - win.y, left - win.x : right - win.x] = image[top:bottom, left:right]
    # Area averaging keeps speckle from aliasing when shrinking.
    shrink = cv2.INTER_AREA if win.side > size else cv2.INTER_LINEAR
    resized = cv2.resize(square, (size, size), interpolation=shrink)
    return np.ascontiguousarray(resized[:, ::-1]) if win.mirror else resized


def uncut(values: np.ndarray, win: Window, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Bring a view's map back on the original pixels.

    Args:
        values: float map of the view, any (h, w).
        win: the window that the view was cut with.
        shape: (height, width) of the original image.

    Returns:
        float32 (height, width) map, 0 outside the window, and the bool mask of the pixels the view covers.
    """
    upright = np.asarray(values[:, ::-1] if win.mirror else values, np.float32)
    out, seen = np.zeros(shape, np.float32), np.zeros(shape, bool)
    left, top = max(win.x, 0), max(win.y, 0)
    right, bottom = min(win.x + win.side, shape[1]), min(win.y + win.side, shape[0])
    if right > left and bottom > top:
        # Only the part inside the image is made, not the square of the window.
        down = _stretch(upright.shape[0], win.side, top - win.y, bottom - win.y)
        across = _stretch(upright.shape[1], win.side, left - win.x, right - win.x)
        out[top:bottom, left:right] = down @ upright @ across.T
        seen[top:bottom, left:right] = True
    return out, seen


def _stretch(cells: int, length: int, start: int, stop: int) -> np.ndarray:
    """Matrix (stop - start, cells) of linear interpolation from `cells` to `length`, pixel centres as in OpenCV."""
    at = (np.arange(start, stop) + 0.5) * (cells / length) - 0.5
    below = np.floor(at).astype(int)
    share = at - below
    matrix = np.zeros((stop - start, cells), np.float32)
    rows = np.arange(stop - start)
    matrix[rows, np.clip(below, 0, cells - 1)] += 1 - share
    matrix[rows, np.clip(below + 1, 0, cells - 1)] += share
    return matrix


def merge(
    maps: Sequence[np.ndarray],
    windows: Sequence[Window],
    shape: tuple[int, int],
    weights: Sequence[float] | None = None,
) -> np.ndarray:
    """Weighted mean over views of their maps on the original pixels; a pixel counts only the views that show it.

    Args:
        maps: float (h, w) map of each view.
        windows: the window of each view.
        shape: (height, width) of the original image.
        weights: weight of each view, not negative; all alike where None.

    Returns:
        float32 (height, width), 0 where no view lies.
    """
    total, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for values, win, weight in zip(maps, windows, weights or [1.0] * len(maps), strict=True):
        back, seen = uncut(values, win, shape)
        total += weight * back
        count += weight * seen
    return np.divide(total, count, out=total, where=count > 0)


def find_box(lesion_map: np.ndarray, min_peak: float, share_of_peak: float = 0.5) -> Box | None:
    """Box of the lesion in a map on the original pixels, or None when the map is flat.

    Args:
        lesion_map: float (H, W), probability that a pixel belongs to a lesion.
        min_peak: a map whose maximum stays below this shows no lesion.
        share_of_peak: pixels above this share of the maximum belong to the box.

    Examples:
        >>> lesion_map = np.zeros((60, 80), np.float32)
        >>> lesion_map[20:31, 10:41] = 0.9
        >>> find_box(lesion_map, min_peak=0.6)
        Box(x=10.0, y=20.0, w=31.0, h=11.0)
        >>> find_box(lesion_map / 2, min_peak=0.6) is None
        True
    """
    peak = float(lesion_map.max(initial=0.0))
    # Written so that a map of NaN is flat too.
    if not (peak > 0 and peak >= min_peak):
        return None
    count, parts = cv2.connectedComponents((lesion_map >= share_of_peak * peak).astype(np.uint8))
    # The part with most evidence, not the largest: a faint shadow may be wide.
    mass = np.bincount(parts.ravel(), weights=lesion_map.ravel(), minlength=count)
    mass[0] = 0
    x, y, w, h = cv2.boundingRect((parts == int(mass.argmax())).astype(np.uint8))
    return Box(float(x), float(y), float(w), float(h))
