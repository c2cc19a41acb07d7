"""The one place where bytes become pixels: every decoder and every limit."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from bus_hf.errors import BusError

# Pillow's name of a format -> the file endings it comes under.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

# A picture is no ultrasound image when more than this share of it is coloured, and more than that in other colours than
# one tint, as a scanner's colour map gives. Colour Doppler, coloured marks and tinted images stay below one of the two.
# tests/data/test_images.py measures it: real images reach 0.02 (tinted ones 0.03); photographs start at 0.5 and 0.07.
MAX_COLOURED = 0.35
MAX_OFF_TINT = 0.05
# How far apart the channels of a coloured pixel are, and how far a channel is from the tint, after smoothing.
_CHROMA = 16
_OFF_TINT = 8
# A picture whose grey values spread less than this (standard deviation) shows nothing.
_MIN_SPREAD = 1.0

_EXPORT = "export the image again as PNG or JPEG"


@dataclass(frozen=True)
class Limits:
    """What is read at most.

    `max_bytes` of a file, `max_pixels` by its header, at least `min_side` pixels; and what costs time without adding
    pixels: `max_scans` of a progressive JPEG (usually 10), `max_chunks` of a PNG (usually one for 8 KB or more).
    """

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 40_000_000
    min_side: int = 16
    max_scans: int = 100
    max_chunks: int = 50_000


LIMITS = Limits()

Source = str | Path | bytes | np.ndarray | Image.Image


def read_image(source: Source, *, name: str | None = None, limits: Limits = LIMITS, check: bool = True) -> np.ndarray:
    """Read one ultrasound image as grey values.

    Args:
        source: path, bytes of a file, PIL image, or array: (H, W) or (H, W, 1|3|4), uint8, uint16, bool, or float 0..1.
        name: what errors call it; a path is its own name.
        limits: bounds that are checked before anything is decoded.
        check: refuse pictures that are blank or in colour, since they are no ultrasound.

    Returns:
        uint8 (H, W), the caller's own copy. Values beyond 8 bits are scaled by 255/65535 when the highest is at least
        32768, else by 255 over the highest; colour is turned to ITU-R 601 luma; alpha lies on black; EXIF orientation
        is applied.

    Raises:
        BusError: unreadable, too large, too small, animated, blank or no ultrasound, in one sentence.
    """
    where = name or (str(source) if isinstance(source, str | Path) else "the image")
    # A line break or escape code in a file's name would leave the one sentence.
    where = "".join(letter if letter.isprintable() else "?" for letter in where)
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, where, limits)
    elif isinstance(source, Image.Image):
        with _damage_told(where):
            pixels = _from_pillow(source, where, limits)
    elif isinstance(source, str | Path | bytes):
        data = _bytes(source, where, limits)
        _check_parts(data, where, limits)
        with _damage_told(where):
            pixels = _from_pillow(Image.open(io.BytesIO(data), formats=list(FORMATS)), where, limits)
    else:
        raise BusError(
            f"a {type(source).__name__} is no image", where=where, remedy="give a path, bytes, a PIL image or an array"
        )
    if check:
        coloured, off_tint = colours(pixels)
        if coloured > MAX_COLOURED and off_tint > MAX_OFF_TINT:
            raise BusError(
                f"this looks like a colour picture, not a B-mode ultrasound image ({coloured:.0%} of it is coloured)",
                where=where,
                remedy="give the grey ultrasound image itself",
            )
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels.copy()
    if check and float(grey.std()) < _MIN_SPREAD:
        kind = "black" if grey.max() < 8 else "one even shade"
        raise BusError(f"the image is all {kind}", where=where, remedy=f"{_EXPORT} and look at it")
    return grey


def read_mask(source: Source, *, name: str | None = None, limits: Limits = LIMITS) -> np.ndarray:
    """Read a lesion mask as bool (H, W): True where it is brighter than half its range."""
    grey = read_image(source, name=name, limits=limits, check=False)
    return grey > max(int(grey.max()) // 2, 0) if grey.any() else np.zeros(grey.shape, bool)


def colours(pixels: np.ndarray) -> tuple[float, float]:
    """How coloured uint8 (H, W) or (H, W, 3) RGB is, looked at with a long side of at most 256 pixels, smoothed.

    Returns:
        Two shares of the picture, 0..1: what is clearly coloured, and what differs from the picture's tint, the mean
        colour of each grey level. A one-colour map gives 1 and about 0, a photograph two large shares.
    """
    if pixels.ndim == 2:
        return 0.0, 0.0
    height, width = pixels.shape[:2]
    scale = min(1.0, 256 / max(height, width))
    # Averaging hides the colour noise of JPEG, whose blocks may hold colour where the image has none.
    small = cv2.resize(
        pixels, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA
    )
    smooth = cv2.blur(small, (5, 5))
    coloured = np.ptp(smooth, axis=2) > _CHROMA
    grey = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY)
    red_blue = (smooth[:, :, [0, 2]].astype(np.float32) - grey[:, :, None]).reshape(-1, 2)
    level = grey.ravel() // 8
    count = np.maximum(np.bincount(level, minlength=32), 1)
    tint = np.stack([np.bincount(level, channel, 32) / count for channel in red_blue.T], axis=1)
    off_tint = np.abs(red_blue - tint[level]).max(axis=1) > _OFF_TINT
    return float(coloured.mean()), float(off_tint.mean())


def _bytes(source: str | Path | bytes, where: str, limits: Limits) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        path = Path(source)
        try:
            if path.is_dir():
                raise BusError("this is a folder, not an image", where=where, remedy="give an image file")
            with path.open("rb") as file:
                # One byte more than allowed tells, also for what has no size of its own (a pipe, a device).
                data = file.read(limits.max_bytes + 1)
        except BusError:
            raise
        except FileNotFoundError:
            raise BusError("there is no such file", where=where, remedy="check the path") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a valid path"
            raise BusError(f"the file cannot be read ({reason})", where=where, remedy="check the path") from None
    if not data:
        raise BusError("the file is empty", where=where, remedy=_EXPORT)
    if len(data) > limits.max_bytes:
        raise BusError(
            f"the file is larger than the {limits.max_bytes / 2**20:.0f} MB that are read",
            where=where,
            remedy="export a single image",
        )
    return data


def _check_parts(data: bytes, where: str, limits: Limits) -> None:
    """Refuse DICOM, and files whose many parts would keep a decoder busy for hours however few their pixels are."""
    if data[128:132] == b"DICM":
        raise BusError("DICOM files are not read here", where=where, remedy="export the image as PNG")
    crowded = False
    if data.startswith(b"\xff\xd8"):
        # A scan starts with FF DA; compressed data never holds these two bytes.
        crowded = data.count(b"\xff\xda") > limits.max_scans
    elif data.startswith(b"\x89PNG"):
        place, chunks = 8, 0
        while place + 8 <= len(data) and chunks <= limits.max_chunks and data[place + 4 : place + 8] != b"IEND":
            place += 12 + int.from_bytes(data[place : place + 4], "big")
            chunks += 1
        crowded = chunks > limits.max_chunks
    if crowded:
        raise BusError("the file has far more parts than an image needs", where=where, remedy=_EXPORT)


def _check_size(size: tuple[int, int], where: str, limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise BusError(
            f"the image is {width} x {height} pixels, over the {limits.max_pixels / 1e6:.0f} million that are read",
            where=where,
            remedy="scale it down first",
        )
    if min(size) < limits.min_side:
        raise BusError(
            f"the image is only {width} x {height} pixels",
            where=where,
            remedy=f"give one of at least {limits.min_side} x {limits.min_side}",
        )


@contextmanager
def _damage_told(where: str) -> Iterator[None]:
    """Turn whatever Pillow raises while it opens and decodes into one sentence."""
    try:
        yield
    except BusError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BusError("the image has far too many pixels", where=where, remedy="scale it down first") from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise BusError(f"this is no image of a known kind ({kinds})", where=where, remedy=_EXPORT) from None
    except MemoryError:
        raise BusError("the image needs more memory than there is", where=where, remedy="scale it down") from None
    # Damaged data leads Pillow's decoders to errors of any kind; each means the same to whoever gave the file.
    except Exception:
        raise BusError("the image is damaged or cut short", where=where, remedy=_EXPORT) from None


def _from_pillow(image: Image.Image, where: str, limits: Limits) -> np.ndarray:
    """Decode to uint8 (H, W) or (H, W, 3), after the header has passed the limits."""
    _check_size(image.size, where, limits)
    # A tile of a TIFF (tags 322 and 323: width and height) is unpacked whole, and may be far larger than the image.
    tags = getattr(image, "tag_v2", {})
    if tags.get(322, 0) * tags.get(323, 0) > limits.max_pixels:
        raise BusError("the tiles of the file are far larger than its image", where=where, remedy=_EXPORT)
    # Counting the frames would walk through all of them.
    if getattr(image, "is_animated", False):
        raise BusError("the file holds more than one frame", where=where, remedy="export the one to be read as PNG")
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_array(np.asarray(upright), where, limits)
    if upright.mode == "P" or "transparency" in upright.info:
        upright = upright.convert("RGBA")
    if upright.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        upright = upright.convert("RGBA")
        black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
        upright = Image.alpha_composite(black, upright).convert("RGB")
    if upright.mode in ("1", "L"):
        return np.asarray(upright.convert("L"))
    return _without_equal_channels(np.asarray(upright.convert("RGB")))


def _from_array(array: np.ndarray, where: str, limits: Limits) -> np.ndarray:
    """Turn an array into uint8 (H, W) or (H, W, 3)."""
    remedy = "give (height, width) or (height, width, 3), uint8, uint16 or float from 0 to 1"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise BusError(f"the array has the shape {array.shape}", where=where, remedy=remedy)
    _check_size((array.shape[1], array.shape[0]), where, limits)
    if array.dtype == bool:
        values = array.astype(np.uint8) * 255
    elif array.dtype == np.uint8:
        values = array
    elif np.issubdtype(array.dtype, np.integer):
        values = _from_integers(array, where)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise BusError("the array holds values that are not finite", where=where, remedy=remedy)
        if array.min() < 0 or array.max() > 1:
            raise BusError(f"the array ranges from {array.min():g} to {array.max():g}", where=where, remedy=remedy)
        values = np.round(array * 255).astype(np.uint8)
    else:
        raise BusError(f"the array is of type {array.dtype}", where=where, remedy=remedy)
    if values.ndim == 3 and values.shape[2] == 4:
        values = np.round(values[:, :, :3] * (values[:, :, 3:].astype(np.float32) / 255)).astype(np.uint8)
    return _without_equal_channels(np.ascontiguousarray(values))


def _from_integers(array: np.ndarray, where: str) -> np.ndarray:
    low, high = int(array.min()), int(array.max())
    if low < 0:
        raise BusError(f"the image holds negative values ({low})", where=where, remedy=_EXPORT)
    if high <= 255:
        return array.astype(np.uint8)
    # 12-bit data in 16-bit files would be near black if scaled by the type's range.
    top = 65535 if 32768 <= high <= 65535 else high
    return np.round(array.astype(np.float64) * (255 / top)).astype(np.uint8)


def _without_equal_channels(pixels: np.ndarray) -> np.ndarray:
    """Grey stored in three equal channels becomes one."""
    equal = pixels.ndim == 3 and not np.ptp(pixels, axis=2).any()
    return np.ascontiguousarray(pixels[:, :, 0]) if equal else pixels
