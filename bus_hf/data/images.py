"""Images and masks as every other room reads them: decoded, checked to be what they are given as, and grey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from bus_hf.data.decoding import colour, isolated
from bus_hf.data.decoding.decode import (
    EXPORT,
    FORMATS,
    LIMITS,
    SUFFIXES,
    Decoded,
    Limits,
    Source,
    decode,
    orientation,
    read_bytes,
    turn,
)
from bus_hf.errors import BusError
from bus_hf.text import printable

__all__ = [
    "FORMATS",
    "LIMITS",
    "SUFFIXES",
    "Limits",
    "Scan",
    "Source",
    "read_image",
    "read_mask",
    "read_masks",
    "read_scan",
]

# A picture whose grey values spread less than this (standard deviation) shows nothing.
_MIN_SPREAD = 1.0
# Of lossy masks, values up to this share of the highest are noise around an edge.
_NOISE = 1 / 6
# Exact masks have no more values than this (labels); more come from smooth edges.
_MAX_LABELS = 32
# Two shapes are alike when the ratios of their sides differ by less than this.
_SAME_RATIO = 0.02


class Scan(NamedTuple):
    """One ultrasound image: `grey` uint8 (H, W), and the share 0..1 of it under a colour overlay (Doppler, marks)."""

    grey: np.ndarray
    colour_overlay: float


def read_image(
    source: Source, *, name: str | None = None, limits: Limits = LIMITS, check: bool = True, trusted: bool = False
) -> np.ndarray:
    """Read one ultrasound image as grey values.

    Args:
        source: path, bytes of a file, PIL image, or array: (H, W) or (H, W, 1|3|4), uint8, uint16, bool, or float 0..1.
        name: what errors call it; a path is its own name.
        limits: bounds that are checked before anything is decoded.
        check: refuse pictures that are blank, masks or photographs, since they are no ultrasound.
        trusted: decode a file in this process, without its limits of memory and time: one's own images, for training.

    Returns:
        uint8 (H, W), the caller's own copy. Values beyond 8 bits, grey or colour, are scaled by 255/65535 when the
        highest is at least 32768, else by 255 over the highest; colour is turned to ITU-R 601 luma; alpha lies on
        black; EXIF orientation is applied; "white is zero" is turned around.

    Raises:
        BusError: unreadable, too large, too small, animated, blank or no ultrasound, in one sentence.
    """
    where = _where(source, name)
    decoded = _decoded(source, where, limits, trusted)
    return _grey(decoded, where, colour.measure(decoded.pixels) if check else None)


def read_scan(source: Source, *, name: str | None = None, limits: Limits = LIMITS) -> Scan:
    """Read one ultrasound image as `read_image` does, and measure its colour overlay."""
    where = _where(source, name)
    decoded = _decoded(source, where, limits, trusted=False)
    measured = colour.measure(decoded.pixels)
    return Scan(_grey(decoded, where, measured), measured.overlay)


def read_mask(source: Source, *, name: str | None = None, limits: Limits = LIMITS) -> np.ndarray:
    """Read a lesion mask as bool (H, W): True in every region that is not black, whatever its value or colour.

    Of smooth or lossy edges, the pixels count that are at least half as bright as the brightest one near them. A mask
    that is drawn in the transparency alone is read from there.
    """
    return _lesion(_decoded(source, _where(source, name), limits, trusted=False))


def read_masks(
    sources: Sequence[Source],
    image: Source,
    shape: tuple[int, ...],
    *,
    lesion: bool = True,
    name: str | None = None,
) -> tuple[np.ndarray | None, list[str]]:
    """Unite the lesion masks of one image of a data set, decoded in this process.

    Args:
        sources: the masks, each a path, bytes or what else `read_image` takes.
        image: the image's own file, whose EXIF orientation a mask may lack.
        shape: (H, W) of the upright image.
        lesion: a lesion is there, so that a mask without any region is no mask.
        name: what notes call the masks; a path is its own name.

    Returns:
        bool (H, W) or None where no mask is usable, and a sentence for each thing that is odd.
    """
    united = np.zeros(shape, bool)
    usable = False
    notes: list[str] = []
    tag = orientation(image) if sources else 1
    for source in sources:
        where = _where(source, name, "the mask")
        try:
            decoded = decode(source, where)
        except BusError as error:
            notes.append(f"{error} The image is kept without this mask.")
            continue
        mask = _lesion(decoded)
        if lesion and not mask.any():
            notes.append(f"{where}: the mask is all black, but its image shows a lesion; it is not used.")
            continue
        if tag != 1 and decoded.orientation == 1:
            mask, doubt = _turned(mask, tag, shape)
            if doubt:
                notes.append(
                    f"{where}: the image is turned by its EXIF orientation, and the mask's size does not tell whether "
                    "it is too; it is used as it is, so save the image upright if that is wrong."
                )
        if mask.shape != shape:
            notes.append(
                f"{where}: the mask is {_size(mask.shape)} and its image {_size(shape)}; "
                "it is resized, so check that they belong together."
            )
            mask = cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
        united |= mask
        usable = True
    return (united if usable else None), notes


def _decoded(source: Source, where: str, limits: Limits, trusted: bool) -> Decoded:
    if trusted or not isinstance(source, str | Path | bytes):
        return decode(source, where, limits)
    return isolated.decode(read_bytes(source, where, limits), where, limits)


def _where(source: Source, name: str | None, otherwise: str = "the image") -> str:
    where = name or (str(source) if isinstance(source, str | Path) else otherwise)
    # A line break or escape code in a file's name would leave the one sentence.
    return printable(where)


def _grey(decoded: Decoded, where: str, measured: colour.Colours | None) -> np.ndarray:
    """Grey copy of the pixels; what is no ultrasound is refused where its colours were `measured`."""
    pixels = decoded.pixels
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels.copy()
    if measured is None:
        return grey
    # Before the rest: a label map of the values 0, 1 and 2 is nearly black, and one in colour is no photograph.
    if colour.looks_like_mask(pixels):
        raise BusError(
            "this looks like a mask, not an ultrasound image (it has only a few flat values)",
            where=where,
            remedy="give the grey ultrasound image itself",
        )
    if measured.photograph:
        raise BusError(
            "this looks like a colour picture, not a B-mode ultrasound image "
            f"({measured.coloured:.0%} of it is coloured)",
            where=where,
            remedy="give the grey ultrasound image itself",
        )
    if float(grey.std()) < _MIN_SPREAD:
        kind = "black" if grey.max() < 8 else "one even shade"
        raise BusError(f"the image is all {kind}", where=where, remedy=f"{EXPORT} and look at it")
    return grey


def _lesion(decoded: Decoded) -> np.ndarray:
    pixels = decoded.pixels
    if decoded.alpha is not None and decoded.colours is not None:
        if not decoded.alpha.any():
            # Fully transparent: what was drawn lies below.
            pixels = decoded.colours
        elif not pixels.any():
            # Black paint on a transparent ground: the transparency is the drawing.
            pixels = decoded.alpha
    # The brightest channel: pure blue or green regions are as bright as white ones.
    values = pixels.max(axis=2) if pixels.ndim == 3 else pixels
    if not values.any():
        return np.zeros(values.shape, bool)
    if not decoded.lossy and np.count_nonzero(np.bincount(values.ravel())) <= _MAX_LABELS:
        return values > 0
    near = cv2.dilate(values, np.ones((9, 9), np.uint8))
    return (values > _NOISE * float(values.max())) & (2 * values.astype(np.uint16) >= near)


def _turned(mask: np.ndarray, tag: int, shape: tuple[int, ...]) -> tuple[np.ndarray, bool]:
    """A mask without EXIF of its own, turned as its image was where its shape shows that it was drawn before.

    Returns:
        The mask, and whether its shape leaves open which it was.
    """
    raw = shape[::-1] if tag >= 5 else shape
    like_raw, like_upright = _alike(mask.shape, raw), _alike(mask.shape, shape)
    if like_raw and not like_upright:
        return turn(mask, tag), False
    return mask, like_raw and like_upright


def _alike(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    ratio = (first[0] * second[1]) / (first[1] * second[0])
    return abs(ratio - 1) < _SAME_RATIO


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
