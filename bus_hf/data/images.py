"""The one place where bytes become pixels: every decoder and every limit."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

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

# A pixel counts as coloured when its channels differ by more than this after smoothing (JPEG keeps grey within it).
_CHROMA = 24
# Above this share of coloured pixels a picture is no ultrasound image; colour Doppler and coloured marks stay below.
# `tests/data/test_images.py` measures how far the real images stay from it.
MAX_COLOURED = 0.35
# A picture whose grey values spread less than this (standard deviation) shows nothing.
_MIN_SPREAD = 1.0

_EXPORT = "export the image again as PNG or JPEG"


@dataclass(frozen=True)
class Limits:
    """What is read at most: bytes of a file, pixels of an image (from its header), and the least side in pixels."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 40_000_000
    min_side: int = 16


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
        uint8 (H, W). 16-bit values are scaled by 1/257 when they use the full range, else stretched over what they use;
        colour is turned to ITU-R 601 luma; alpha lies on black; EXIF orientation is applied.

    Raises:
        BusError: unreadable, too large, too small, animated, blank or no ultrasound, in one sentence.
    """
    where = name or (str(source) if isinstance(source, str | Path) else "the image")
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, where)
    elif isinstance(source, Image.Image):
        _check_size(source.size, where, limits)
        pixels = _from_pillow(source, where)
    elif isinstance(source, str | Path | bytes):
        pixels = _decoded(_bytes(source, where, limits), where, limits)
    else:
        raise BusError(
            f"a {type(source).__name__} is no image", where=where, remedy="give a path, bytes, a PIL image or an array"
        )
    _check_size((pixels.shape[1], pixels.shape[0]), where, limits)
    if check:
        coloured = coloured_share(pixels)
        if coloured > MAX_COLOURED:
            raise BusError(
                f"this looks like a colour picture, not a B-mode ultrasound image ({coloured:.0%} of it is coloured)",
                where=where,
                remedy="give the grey ultrasound image itself",
            )
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    if check and float(grey.std()) < _MIN_SPREAD:
        kind = "black" if grey.max() < 8 else "one even shade"
        raise BusError(f"the image is all {kind}", where=where, remedy=f"{_EXPORT} and look at it")
    return grey


def read_mask(source: Source, *, name: str | None = None, limits: Limits = LIMITS) -> np.ndarray:
    """Read a lesion mask as bool (H, W): True where it is brighter than half its range."""
    grey = read_image(source, name=name, limits=limits, check=False)
    return grey > max(int(grey.max()) // 2, 0) if grey.any() else np.zeros(grey.shape, bool)


def coloured_share(pixels: np.ndarray) -> float:
    """Share of clearly coloured pixels (0..1) of uint8 (H, W) or (H, W, 3) RGB, at most 256 pixels wide for speed."""
    if pixels.ndim == 2:
        return 0.0
    scale = min(1.0, 256 / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    smooth = cv2.blur(small, (3, 3)).astype(np.int16)
    return float((smooth.max(2) - smooth.min(2) > _CHROMA).mean())


def _bytes(source: str | Path | bytes, where: str, limits: Limits) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        path = Path(source)
        try:
            if path.is_dir():
                raise BusError("this is a folder, not an image", where=where, remedy="give an image file")
            if path.stat().st_size > limits.max_bytes:
                _too_many_bytes(path.stat().st_size, where, limits)
            data = path.read_bytes()
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
        _too_many_bytes(len(data), where, limits)
    return data


def _too_many_bytes(count: int, where: str, limits: Limits) -> None:
    raise BusError(
        f"the file has {count / 2**20:,.0f} MB, more than the {limits.max_bytes / 2**20:.0f} MB that are read",
        where=where,
        remedy="export a single image",
    )


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


def _decoded(data: bytes, where: str, limits: Limits) -> np.ndarray:
    """Decode the bytes of a file to uint8 (H, W) or (H, W, 3), after its header has passed the limits."""
    if data[128:132] == b"DICM":
        raise BusError("DICOM files are not read here", where=where, remedy=_EXPORT)
    try:
        with warnings.catch_warnings():
            # Our own limit, not Pillow's warning, decides about size.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=list(FORMATS))
            _check_size(image.size, where, limits)
            frames = getattr(image, "n_frames", 1)
            if frames != 1:
                raise BusError(
                    f"the file holds {frames} frames", where=where, remedy="export the one frame to be read as PNG"
                )
            image.load()
            return _from_pillow(image, where)
    except BusError:
        raise
    except Image.DecompressionBombError:
        raise BusError("the image has far too many pixels", where=where, remedy="scale it down first") from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise BusError(f"this is no image of a known kind ({kinds})", where=where, remedy=_EXPORT) from None
    except MemoryError:
        raise BusError("the image needs more memory than there is", where=where, remedy="scale it down") from None
    # Pillow's decoders raise many kinds on damaged data; each means the same to whoever gave the file.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, AttributeError):
        raise BusError("the image is damaged or cut short", where=where, remedy=_EXPORT) from None
    except Exception as error:  # struct.error, zlib.error and their like
        if type(error).__module__ in ("struct", "zlib"):
            raise BusError("the image is damaged or cut short", where=where, remedy=_EXPORT) from None
        raise


def _from_pillow(image: Image.Image, where: str) -> np.ndarray:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_array(np.asarray(upright), where)
    if upright.mode == "P" or "transparency" in upright.info:
        upright = upright.convert("RGBA")
    if upright.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        upright = upright.convert("RGBA")
        black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
        upright = Image.alpha_composite(black, upright).convert("RGB")
    if upright.mode in ("1", "L"):
        return np.asarray(upright.convert("L"))
    return _without_equal_channels(np.asarray(upright.convert("RGB")))


def _from_array(array: np.ndarray, where: str) -> np.ndarray:
    """Turn an array into uint8 (H, W) or (H, W, 3)."""
    remedy = "give (height, width) or (height, width, 3), uint8, uint16 or float from 0 to 1"
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise BusError(f"the array has the shape {array.shape}", where=where, remedy=remedy)
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
    equal: Any = pixels.ndim == 3 and np.ptp(pixels, axis=2).max() == 0
    return np.ascontiguousarray(pixels[:, :, 0]) if equal else pixels


# A text chunk may unpack to a thousand times its size; no image needs that much text.
PngImagePlugin.MAX_TEXT_MEMORY = 4 * 1024 * 1024
