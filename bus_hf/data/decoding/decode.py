"""Decoders and their limits: bytes, PIL images and arrays become uint8 pixels, upright and with black at zero."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from bus_hf.data.decoding.containers import EXPORT, FRAMES, slim
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


@dataclass(frozen=True)
class Limits:
    """What is read at most: bytes of a file, pixels by its header, and the pixels that a side must have at least."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 24_000_000
    min_side: int = 16


LIMITS = Limits()

Source = str | Path | bytes | np.ndarray | Image.Image

_ORIENTATION = 0x0112
# Float arrays may pass 0 and 1 by the rounding of half precision.
_ROUNDING = 1e-3
# Tags of a TIFF: kind of page, photometric interpretation, width and height of tiles.
_SUBFILE, _PHOTOMETRIC, _TILE_WIDTH, _TILE_HEIGHT = 254, 262, 322, 323
_MAX_PAGES = 8
# Rows that are turned to floats at a time, which take up to eight times the memory.
_BAND = 256


@dataclass(frozen=True)
class Decoded:
    """Upright pixels, uint8 (H, W) or (H, W, 3) RGB, and what became of them.

    `orientation` is that of the file's EXIF tag (1..8, 1 is upright as stored), already applied. `alpha` is uint8
    (H, W) where the file has transparency; the pixels lie on black then. `colours` are those below the transparency,
    (H, W, 3). `lossy`: neighbours of a flat region may differ from it (JPEG, and WebP of either kind).
    """

    pixels: np.ndarray
    orientation: int = 1
    alpha: np.ndarray | None = None
    colours: np.ndarray | None = None
    lossy: bool = False


def decode(source: Source, where: str, limits: Limits = LIMITS) -> Decoded:
    """Decode any source; BusError, which names `where`, for what cannot be read or passes a limit."""
    if isinstance(source, np.ndarray):
        return Decoded(_from_array(source, where, limits))
    if isinstance(source, Image.Image):
        with _damage_as_error(where):
            if not (_deep(source) and source.fp):  # type: ignore[attr-defined]
                return _from_pillow(source, where, limits)
            source.fp.seek(0)  # type: ignore[attr-defined]
            source = source.fp.read()  # type: ignore[attr-defined]
    if isinstance(source, str | Path | bytes):
        file = slim(read_bytes(source, where, limits), where)
        with _damage_as_error(where):
            image: Image.Image = Image.open(io.BytesIO(file.data), formats=[file.kind])
            if _deep(image):
                image = _at_8_bits(image, file.data, where, limits)
            return _from_pillow(image, where, limits, file.orientation)
    raise BusError(
        f"a {type(source).__name__} is no image", where=where, remedy="give a path, bytes, a PIL image or an array"
    )


def orientation(source: Source) -> int:
    """EXIF orientation 1..8 of what `decode` reads, from its header alone; 1 where it has none."""
    if isinstance(source, np.ndarray):
        return 1
    if isinstance(source, Image.Image):
        return _orientation(source)
    # Decoding the image itself says what is wrong with it.
    try:
        return slim(read_bytes(source, "", LIMITS), "").orientation
    except BusError:
        return 1


def _orientation(image: Image.Image) -> int:
    tag = image.getexif().get(_ORIENTATION, 1)
    return tag if isinstance(tag, int) and 1 <= tag <= 8 else 1


def read_bytes(source: str | Path | bytes, where: str, limits: Limits = LIMITS) -> bytes:
    """Bytes of a regular file, or those given; BusError where there are none, or more than the limit."""
    if isinstance(source, bytes):
        data = source
    else:
        try:
            # A pipe without a writer would block already while it is opened.
            handle = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
            try:
                state = os.fstat(handle)
                if stat.S_ISDIR(state.st_mode):
                    raise BusError("this is a folder, not an image", where=where, remedy="give an image file")
                if not stat.S_ISREG(state.st_mode):
                    raise BusError("this is no regular file", where=where, remedy="give an image file")
                # Files of /proc are regular, of size zero, and may be endless.
                with open(handle, "rb", closefd=False) as file:
                    data = file.read(limits.max_bytes + 1) if state.st_size else b""
            finally:
                os.close(handle)
        except BusError:
            raise
        except FileNotFoundError:
            raise BusError("there is no such file", where=where, remedy="check the path") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a valid path"
            raise BusError(f"the file cannot be read ({reason})", where=where, remedy="check the path") from None
    if not data:
        raise BusError("the file is empty", where=where, remedy=EXPORT)
    if len(data) > limits.max_bytes:
        raise BusError(
            f"the file is larger than the {limits.max_bytes / 2**20:.0f} MB that are read",
            where=where,
            remedy="export a single image",
        )
    return data


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
def _damage_as_error(where: str) -> Iterator[None]:
    """Turn whatever Pillow raises while it opens and decodes into one sentence."""
    try:
        yield
    except BusError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's sentence begins with the number of pixels.
        number = re.search(r"\d+", str(error))
        pixels = f"{int(number[0]) / 1e6:.0f} million" if number else "far too many"
        raise BusError(
            f"the image has {pixels} pixels, over the {LIMITS.max_pixels / 1e6:.0f} million that are read",
            where=where,
            remedy="scale it down first",
        ) from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise BusError(f"this is no image of a known kind ({kinds})", where=where, remedy=EXPORT) from None
    except MemoryError:
        raise BusError("the image needs more memory than there is", where=where, remedy="scale it down") from None
    # Damaged data leads Pillow's decoders to errors of any kind; each means the same to whoever gave the file.
    except Exception:
        raise BusError("the image is damaged or cut short", where=where, remedy=EXPORT) from None


def _from_pillow(image: Image.Image, where: str, limits: Limits, tag: int | None = None) -> Decoded:
    """Decode after the header has passed the limits."""
    _choose_page(image, where)
    _check_size(image.size, where, limits)
    # A tile of a TIFF is unpacked whole, and may be far larger than the image.
    tags = getattr(image, "tag_v2", {})
    if tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0) > limits.max_pixels:
        raise BusError("the tiles of the file are far larger than its image", where=where, remedy=EXPORT)
    lossy = image.format in ("JPEG", "MPO", "WEBP")
    applied = remaining = tag
    if applied is None or remaining is None:
        applied = _orientation(image)
        # Pillow turns a TIFF while it loads it, and drops the tag then.
        image.load()
        remaining = _orientation(image)
    # Pillow turns "white is zero" around for up to 8 bits, and forgets it beyond.
    inverted = tags.get(_PHOTOMETRIC) == 0 and image.mode[0] in "IF"
    if image.mode[0] in "IF":
        pixels = _from_array(np.asarray(image), where, limits)
        return Decoded(turn(255 - pixels if inverted else pixels, remaining), applied, lossy=lossy)
    if image.mode == "P" or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        layers = turn(np.asarray(image.convert("RGBA")), remaining)
        colours, alpha = layers[:, :, :3], layers[:, :, 3]
        if alpha.min() < 255:
            return Decoded(_without_equal_channels(_on_black(layers)), applied, alpha, colours, lossy)
        return Decoded(_without_equal_channels(colours), applied, lossy=lossy)
    pixels = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    return Decoded(_without_equal_channels(turn(pixels, remaining)), applied, lossy=lossy)


def _deep(image: Image.Image) -> bool:
    """Whether the file holds colours of 16 bits, of which Pillow would keep the upper 8 alone."""
    tiles = getattr(image, "tile", None) or []
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in tiles)


def _at_8_bits(image: Image.Image, data: bytes, where: str, limits: Limits) -> Image.Image:
    """Colours of 16 bits, scaled as grey ones are; upright as stored."""
    # Here, since the process that decodes starts faster without it.
    import cv2

    _choose_page(image, where)
    _check_size(image.size, where, limits)
    if image.tell():
        raise BusError("the file holds a preview before its image", where=where, remedy=EXPORT)
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3:
        raise ValueError
    return Image.fromarray(_from_integers(array[:, :, [2, 1, 0, 3][: array.shape[2]]], where))


def turn(pixels: np.ndarray, tag: int) -> np.ndarray:
    """Turn stored pixels (H, W) or (H, W, channels) upright as the EXIF orientation 1..8 says."""
    if tag >= 5:
        pixels = pixels.swapaxes(0, 1)
    if tag in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if tag in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _choose_page(image: Image.Image, where: str) -> None:
    """Turn to the one picture of a file that holds another one only as its thumbnail; refuse real sequences."""
    # The second picture of an MPO is a preview or another exposure; every viewer shows the first.
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return
    full = []
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        for page in range(_MAX_PAGES + 1):
            try:
                image.seek(page)
            except EOFError:
                break
            if not image.tag_v2.get(_SUBFILE, 0) & 1:
                full.append((image.width * image.height, page))
    # A page of less than a quarter of the largest one is a thumbnail too, whatever its tag says.
    largest = max(full, default=(0, 0))
    if not full or page > _MAX_PAGES - 1 or sum(4 * area >= largest[0] for area, _ in full) > 1:
        raise BusError(FRAMES, where=where, remedy="export the one to be read as PNG")
    image.seek(largest[1])


def _on_black(layers: np.ndarray) -> np.ndarray:
    """Colours (H, W, 3) of uint8 (H, W, 4) in front of black."""
    out = np.empty((*layers.shape[:2], 3), np.uint8)
    for top in range(0, len(layers), _BAND):
        band = layers[top : top + _BAND]
        out[top : top + _BAND] = np.round(band[:, :, :3] * (band[:, :, 3:].astype(np.float32) / 255))
    return out


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
        low, high = float(array.min()), float(array.max())
        if not np.isfinite(array).all():
            raise BusError("the array holds values that are not finite", where=where, remedy=remedy)
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise BusError(f"the array ranges from {low:g} to {high:g}", where=where, remedy=remedy)
        # Half precision would round 255 times a value to whole numbers of its own.
        values = np.round(np.clip(array.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    else:
        raise BusError(f"the array is of type {array.dtype}", where=where, remedy=remedy)
    if values.ndim == 3 and values.shape[2] == 4:
        values = _on_black(values)
    return _without_equal_channels(np.ascontiguousarray(values))


def _from_integers(array: np.ndarray, where: str) -> np.ndarray:
    if array.ndim == 3 and array.shape[2] == 4:
        # The transparency has a range of its own.
        return np.dstack([_from_integers(array[:, :, :3], where), _from_integers(array[:, :, 3], where)])
    low, high = int(array.min()), int(array.max())
    if low < 0:
        raise BusError(f"the image holds negative values ({low})", where=where, remedy=EXPORT)
    if high <= 255:
        return array.astype(np.uint8)
    # 12-bit data in 16-bit files would be near black if scaled by the type's range.
    top = 65535 if 32768 <= high <= 65535 else high
    out = np.empty(array.shape, np.uint8)
    for row in range(0, len(array), _BAND):
        band = array[row : row + _BAND]
        out[row : row + _BAND] = np.round(band.astype(np.float64) * (255 / top))
    return out


def _without_equal_channels(pixels: np.ndarray) -> np.ndarray:
    """Grey stored in three equal channels becomes one."""
    if pixels.ndim == 2:
        return pixels
    red, green, blue = (pixels[:, :, channel] for channel in range(3))
    equal = np.array_equal(red, green) and np.array_equal(red, blue)
    return np.ascontiguousarray(red) if equal else pixels
