"""What the colours and grey values of a picture tell: a scan, a scan under a colour overlay, a photograph, a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

# A picture is a photograph when more than MAX_COLOURED of it is coloured and more than MAX_STRAY of it strays.
# tests/data/decoding/test_colour.py prints the margins.
MAX_COLOURED = 0.35
MAX_STRAY = 0.11
# A larger overlay is reported with the prediction; calipers, logos and JPEG noise reach 0.018 on real scans.
MAX_OVERLAY = 0.02

# Distances of red and blue from the picture's own ramp of colours, in grey values; on a bent ramp of strong colours,
# whose noise grows with them, the second of each pair times the colour where that is more.
_COLOURED, _OFF_RAMP, _VIVID = 8, (4, 0.1), (20, 0.2)
# Boxes of colours (Doppler, elastography) may cover this share of the content, whatever lies around them, ...
_SMALL_BOXES = 0.25
# ... or more, when at least these shares of the content (of a grey scan, of a tinted one) and of their surroundings are
# left of a scan.
_LEFT_GREY, _LEFT_TINTED, _AROUND = 0.1, 0.6, 0.3
# Long sides: of the picture that is looked at, and of the cells that it is averaged to, which hides JPEG's noise.
_LOOKED_AT, _CELLS = 512, 64
_BENDS = (0.08, 0.25, 0.5, 0.75)
# Knots of a ramp that may bend. On one that scanners use no channel falls by more grey values than the luma rises.
_KNOTS, _MAX_FALL = 17, 3.0
# Lines that differ from the outermost one by at most this in 95 of 100 pixels are a frame.
_FRAME_NOISE = 12
# Standard deviation of luma in 5 x 5 pixels: what is more even than this shows nothing (screens, margins).
_EVEN = 1.5
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# A picture is a mask when at most this share of what is not background lies between its (up to four) flat values.
# Real scans start at 0.6, and at 0.3 where most of the picture is a scanner's black screen; JPEG masks end at 0.22.
MAX_BETWEEN = 0.25
_MAX_LEVELS = 8


@dataclass(frozen=True)
class Colours:
    """Shares of a picture, 0..1.

    `coloured`: clearly not grey, of the content (what is no even frame or screen). `stray`: of the content outside of
    boxes of vivid colour, off the one ramp of colours from dark to bright that a scanner's map gives (grey, tinted,
    or bent as "hot" is). `overlay`: vividly off that ramp, of the whole picture.
    """

    coloured: float
    stray: float
    overlay: float

    @property
    def photograph(self) -> bool:
        """Whether no scanner gives such colours."""
        return self.coloured > MAX_COLOURED and self.stray > MAX_STRAY


def measure(pixels: np.ndarray) -> Colours:
    """Measure the colours of uint8 (H, W) or (H, W, 3) RGB."""
    if pixels.ndim == 2:
        return Colours(0.0, 0.0, 0.0)
    inner = _without_frame(pixels)
    planes = _planes(inner)
    chroma, content = planes.chroma, planes.content
    # An overlay is reported as a share of the whole picture, frame included.
    share = inner.shape[0] * inner.shape[1] / (pixels.shape[0] * pixels.shape[1])
    off_grey = np.abs(chroma).max(axis=2)
    coloured = float((off_grey > _COLOURED)[content].mean())
    fits = [_stray(off_grey, content, 0 * off_grey, _LEFT_GREY)]
    fits.append(_stray(_off_tint(planes), content, 0 * off_grey, _LEFT_TINTED))
    # A map that bends costs more to fit, so only what strays is tried.
    if coloured > MAX_COLOURED and min(fits)[0] > MAX_STRAY / 3:
        off_bent, fall = _off_bent(planes)
        if fall <= _MAX_FALL:
            fits.append(_stray(off_bent, content, off_grey, _LEFT_TINTED))
    # Of ramps that fit alike the simplest one, since the others may bend to an overlay.
    stray, overlay = min(fits, key=lambda pair: round(pair[0], 2))
    return Colours(coloured, stray, overlay * share)


def looks_like_mask(pixels: np.ndarray) -> bool:
    """Whether uint8 (H, W) or (H, W, 3) has few flat values, as masks and label maps have, also after JPEG."""
    # A million pixels tell it as well as more would.
    step = math.ceil(math.sqrt(pixels.shape[0] * pixels.shape[1] / 1e6))
    pixels = pixels[::step, ::step]
    if pixels.ndim == 3:
        red, green, blue = (pixels[:, :, channel].astype(np.uint32) for channel in range(3))
        codes = red << 16 | green << 8 | blue
        # Some of the pixels first: sorting all of a large picture takes seconds.
        few = len(np.unique(codes.ravel()[::101])) <= _MAX_LEVELS
        if few and 1 < len(np.unique(codes)) <= _MAX_LEVELS:
            return True
        pixels = pixels.max(axis=2)
    counts = np.bincount(pixels.ravel(), minlength=256) / pixels.size
    levels = int(np.count_nonzero(counts))
    if levels <= _MAX_LEVELS:
        return levels > 1
    # The fullest windows of 17 values, 40 apart: what lies in none is neither background nor a flat region.
    windows = np.convolve(counts, np.ones(17), "same")
    fullest = []
    for _ in range(4):
        peak = int(windows.argmax())
        fullest.append(float(windows[peak]))
        windows[max(peak - 40, 0) : peak + 41] = 0
    beside = 1 - fullest[0]
    return bool(fullest[1] > 0 and 1 - sum(fullest) <= MAX_BETWEEN * beside)


class _Planes(NamedTuple):
    """A picture and its means over cells."""

    luma: np.ndarray
    chroma: np.ndarray
    content: np.ndarray


def _planes(pixels: np.ndarray) -> _Planes:
    """Luma 0..1 (H, W) of the picture that is looked at; of cells (h, w): red and blue less luma, and content."""
    seen = _shrunk(pixels, _LOOKED_AT).astype(np.float32)
    luma = seen @ _LUMA
    mean = cv2.blur(luma, (5, 5))
    deviation = np.sqrt(np.maximum(cv2.blur(luma**2, (5, 5)) - mean**2, 0))
    content = _shrunk((deviation > _EVEN).astype(np.float32), _CELLS) > 0.5
    if not content.any():
        content[:] = True
    return _Planes(luma / 255, _averaged([seen[:, :, 0] - luma, seen[:, :, 2] - luma]), content)


def _without_frame(pixels: np.ndarray) -> np.ndarray:
    """The picture without the even lines at its four sides; all of it where it is even throughout."""
    seen = _shrunk(pixels, _LOOKED_AT).astype(np.int16)
    for _ in range(2):
        # Rows first, then columns.
        step = pixels.shape[0] / seen.shape[0]
        above, below = (_even_lines(lines) for lines in (seen, seen[::-1]))
        if above + below >= len(seen):
            return pixels
        first, last = math.ceil(above * step), len(pixels) - math.ceil(below * step)
        pixels = pixels[first : max(last, first + 1)].swapaxes(0, 1)
        seen = seen[above : len(seen) - below].swapaxes(0, 1)
    return pixels


def _even_lines(lines: np.ndarray) -> int:
    """Number of lines (n, length, 3) that show no more than the first one's even colour, up to the first that does."""
    even, opposite = (np.median(lines[end], axis=0).astype(np.int16) for end in (0, -1))
    # An even strip of colour at one side alone may be an overlay.
    if np.ptp(even) > _COLOURED and np.abs(even - opposite).max() > _FRAME_NOISE:
        return 0
    for number, line in enumerate(lines):
        if (np.abs(line - even).max(axis=1) > _FRAME_NOISE).mean() > 0.05:
            return number
    return len(lines)


def _averaged(planes: list[np.ndarray]) -> np.ndarray:
    """Means over cells (h, w, number of planes).

    Functions of luma are averaged, not luma: what a bent ramp gives for a cell of dark and bright pixels is no function
    of the cell's mean.
    """
    return np.dstack([cv2.blur(_shrunk(plane, _CELLS), (3, 3)) for plane in planes])


def _shrunk(plane: np.ndarray, longest: int) -> np.ndarray:
    height, width = plane.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return plane
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


def _off_tint(planes: _Planes) -> np.ndarray:
    """Distance (h, w) from the ramp of a tint, which may drift over the picture."""
    luma = planes.luma
    across = np.linspace(-1, 1, luma.shape[1], dtype=np.float32)[None]
    down = np.linspace(-1, 1, luma.shape[0], dtype=np.float32)[:, None]
    bends = [np.maximum(luma - bend, 0) for bend in _BENDS]
    drift = [luma * across, luma * down, luma**2 * across, luma**2 * down]
    basis = _averaged([np.ones_like(luma), luma, *bends, *drift])
    ramp = _ramp(basis, planes, 1e-4 * np.eye(basis.shape[2]))
    return np.abs(planes.chroma - basis @ ramp).max(axis=2)


def _off_bent(planes: _Planes) -> tuple[np.ndarray, float]:
    """Distance (h, w) from a ramp that bends smoothly, and the steepest fall of a channel of that ramp over luma."""
    place = planes.luma * (_KNOTS - 1)
    basis = _averaged([np.maximum(1 - np.abs(place - knot), 0) for knot in range(_KNOTS)])
    second = np.diff(np.eye(_KNOTS), 2, axis=0)
    penalty = 0.1 * second.T @ second + 1e-3 * np.eye(_KNOTS)
    ramp = _ramp(basis, planes, penalty)
    # Slopes over luma, where the picture has both ends of the step.
    red, blue = 1 + np.diff(ramp, axis=0).T * (_KNOTS - 1) / 255
    slopes = np.array([red, (1 - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1], blue])
    used = basis[planes.content].mean(axis=0) > 0.004
    slopes = slopes[:, used[1:] & used[:-1]]
    off = np.abs(planes.chroma - basis @ ramp).max(axis=2)
    return off, float(-slopes.min(initial=0))


def _ramp(basis: np.ndarray, planes: _Planes, penalty: np.ndarray) -> np.ndarray:
    """Weights (functions, 2) of the ramp that fits most of the content; far cells count less, such as overlays."""
    inputs, targets = basis[planes.content].astype(np.float64), planes.chroma[planes.content].astype(np.float64)
    weights = np.ones(len(inputs))
    for _ in range(20):
        weighted = inputs * weights[:, None]
        ramp = np.linalg.solve(inputs.T @ weighted + weights.mean() * penalty, weighted.T @ targets)
        weights = 1 / np.maximum(np.abs(targets - inputs @ ramp).max(axis=1), 3) ** 2
    return ramp


def _stray(off: np.ndarray, content: np.ndarray, colour: np.ndarray, least: float) -> tuple[float, float]:
    """Share of the content off the ramp outside the two largest boxes of vivid cells, and share of vivid cells.

    Where the boxes are large, a photograph may be what they hold: they are cut out only if `least` of the content is
    left beside them, some of it all around.
    """
    vivid = off > np.maximum(_VIVID[0], _VIVID[1] * colour)
    # A margin all around, since closing would join boxes to the picture's sides.
    joined = cv2.morphologyEx(np.pad(vivid & content, 9).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    regions = cv2.connectedComponentsWithStats(joined[9:-9, 9:-9])[2][1:]
    boxes = np.zeros(off.shape, np.uint8)
    for left, top, width, height, _ in sorted(regions.tolist(), key=lambda box: -box[4])[:2]:
        boxes[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1] = 1
    beside = content & (boxes == 0)
    left_over = beside.sum() / content.sum()
    around = cv2.dilate(boxes, np.ones((5, 5), np.uint8)) > boxes
    large = left_over >= least and around.any() and content[around].mean() >= _AROUND
    looked_at = beside if left_over >= 1 - _SMALL_BOXES or large else content
    strays = off > np.maximum(_OFF_RAMP[0], _OFF_RAMP[1] * colour)
    return float(strays[looked_at].mean()), float(vivid.mean())
