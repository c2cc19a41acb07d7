"""What the colours and grey values of a picture tell: a scan, a scan under a colour overlay, a photograph, a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

# A picture is a photograph when more than MAX_COLOURED of it is coloured and more than MAX_STRAY of it strays.
# tests/data/test_colour.py prints the margins: real scans stray by at most 0.03; under six
# tints that drift, at JPEG quality 30, all 2,325 real scans by at most 0.087 (11 of 13,950 above 0.06); photographs by
# 0.153 (brown all over), the others from 0.25 on.
MAX_COLOURED = 0.35
MAX_STRAY = 0.11
# A scan whose overlay is larger is told of it; calipers, logos and JPEG noise stay below on all real scans.
OVERLAY_TOLD = 0.03

# Distances of red and blue from the picture's own ramp of colours, in grey values.
_COLOURED, _OFF_RAMP, _VIVID = 8, 4, 20
# A box of colours (Doppler, elastography) covers at most this share of a scan.
_MAX_BOXES = 0.6
# Long sides: of the picture that is looked at, and of the cells that it is averaged to, which hides JPEG's noise.
_LOOKED_AT, _CELLS = 512, 64
_BENDS = (0.08, 0.25, 0.5, 0.75)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# A picture is a mask when at most this share of what is not background lies between its (up to four) flat values.
# Real scans start at 0.6, and at 0.3 where most of the picture is a scanner's black screen; JPEG masks end at 0.22.
MAX_BETWEEN = 0.25
_MAX_LEVELS = 8


@dataclass(frozen=True)
class Colours:
    """Shares of a picture, 0..1.

    `coloured`: clearly not grey. `stray`: outside of at most two boxes of vivid colour, off the one ramp of colours
    from dark to bright that a scanner's (grey or tinted) map gives. `overlay`: vividly off that ramp.
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
    basis, chroma = _cells(pixels)
    off_grey = np.abs(chroma).max(axis=2)
    off_tint = _off_ramp(basis, chroma)
    stray, overlay = min(_stray(off_grey), _stray(off_tint))
    return Colours(float((off_grey > _COLOURED).mean()), stray, overlay)


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
    found = []
    for _ in range(4):
        peak = int(windows.argmax())
        found.append(float(windows[peak]))
        windows[max(peak - 40, 0) : peak + 41] = 0
    beside = 1 - found[0]
    return bool(found[1] > 0 and 1 - sum(found) <= MAX_BETWEEN * beside)


def _cells(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over cells: of functions of luma, (h, w, 10), and of red and blue less luma, (h, w, 2).

    Functions are averaged, not luma: what a bent ramp gives for a cell of dark and bright pixels is no function of the
    cell's mean.
    """
    pixels = _shrunk(pixels, _LOOKED_AT).astype(np.float32)
    luma = pixels @ _LUMA
    height, width = luma.shape
    across = np.linspace(-1, 1, width, dtype=np.float32)[None]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    unit = luma / 255
    planes = [np.ones_like(unit), unit, *(np.maximum(unit - bend, 0) for bend in _BENDS)]
    # A tint may drift over the picture.
    planes += [unit * across, unit * down, unit**2 * across, unit**2 * down]
    planes += [pixels[:, :, 0] - luma, pixels[:, :, 2] - luma]
    cells = np.dstack([cv2.blur(_shrunk(plane, _CELLS), (3, 3)) for plane in planes])
    return cells[:, :, :-2], cells[:, :, -2:]


def _shrunk(plane: np.ndarray, longest: int) -> np.ndarray:
    height, width = plane.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return plane
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(plane, size, interpolation=cv2.INTER_AREA)


def _off_ramp(basis: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Distance (h, w) from the ramp that fits most cells; weights that fall with distance leave overlays out."""
    inputs = basis.reshape(-1, basis.shape[2]).astype(np.float64)
    targets = chroma.reshape(-1, 2).astype(np.float64)
    ridge = 1e-4 * np.eye(inputs.shape[1])
    weights = np.ones(len(inputs))
    for _ in range(20):
        weighted = inputs * weights[:, None]
        ramp = np.linalg.solve(inputs.T @ weighted + ridge, weighted.T @ targets)
        off = np.abs(targets - inputs @ ramp).max(axis=1)
        weights = 1 / np.maximum(off, 3) ** 2
    return off.reshape(basis.shape[:2])


def _stray(off: np.ndarray) -> tuple[float, float]:
    """Share of cells off the ramp outside the two largest boxes of vivid cells, and share of vivid cells."""
    vivid = off > _VIVID
    joined = cv2.morphologyEx(vivid.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    found = cv2.connectedComponentsWithStats(joined)[2][1:]
    boxes = np.zeros(off.shape, bool)
    for left, top, width, height, _ in sorted(found.tolist(), key=lambda box: -box[4])[:2]:
        boxes[max(top - 1, 0) : top + height + 1, max(left - 1, 0) : left + width + 1] = True
    if boxes.mean() > _MAX_BOXES:
        boxes[:] = False
    return float((off > _OFF_RAMP)[~boxes].mean()), float(vivid.mean())
