"""What surrounds the pixels of an image file: it is checked and dropped before a decoder sees it.

Text, profiles and previews cost memory and time that the pixels do not explain, and none of them changes a grey value.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bus_hf.errors import BusError

# Pillow's name of a format -> the bytes that its files start with.
MAGIC = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "WEBP": (b"RIFF",),
    "GIF": (b"GIF87a", b"GIF89a"),
}
EXPORT = "export the image again as PNG or JPEG"
FRAMES = "the file holds more than one frame"

_ORIENTATION = 0x0112
# Chunks of a PNG that decide on its pixels; acTL tells that it moves.
_PNG_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL"})
_MAX_CHUNKS = 50_000
# A progressive JPEG has about 10 scans.
_MAX_SCANS = 100
# Directories of a TIFF, tags in each, strips or tiles, and bytes that other tags hold in all.
_MAX_PAGES, _MAX_TAGS, _MAX_STRIPS, _MAX_TAG_BYTES = 8, 200, 65_536, 262_144
_TIFF_SIZES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
# Tags of a TIFF: places and lengths of strips and tiles; whole numbers that stand alone.
_PLACES = frozenset({273, 279, 324, 325})
_NUMBERS = frozenset({254, 256, 257, 259, 262, 266, 274, 277, 278, 284, 317, 322, 323})


@dataclass(frozen=True)
class Slim:
    """The file without what no pixel needs, Pillow's name of its format, and its EXIF orientation (1..8)."""

    data: bytes
    kind: str
    orientation: int = 1


def slim(data: bytes, where: str) -> Slim:
    """Drop what surrounds the pixels; BusError for a file of another kind, of several frames, or overfull."""
    if data[128:132] == b"DICM":
        raise BusError("DICOM files are not read here", where=where, remedy="export the image as PNG")
    for kind, starts in MAGIC.items():
        if data.startswith(starts) and (kind != "WEBP" or data[8:12] == b"WEBP"):
            break
    else:
        kinds = ", ".join(MAGIC)
        raise BusError(f"this is no image of a known kind ({kinds})", where=where, remedy=EXPORT)
    try:
        return {"PNG": _png, "JPEG": _jpeg, "BMP": _bmp, "TIFF": _tiff, "WEBP": _webp, "GIF": _gif}[kind](data)
    except (struct.error, IndexError):
        raise BusError("the image is damaged or cut short", where=where, remedy=EXPORT) from None
    except _OverfullError:
        raise BusError("the file has far more parts than an image needs", where=where, remedy=EXPORT) from None
    except _MovingError:
        raise BusError(FRAMES, where=where, remedy="export the one to be read as PNG") from None


class _OverfullError(Exception):
    pass


class _MovingError(Exception):
    pass


def _exif(block: bytes) -> int:
    """Orientation in an EXIF block; 1 where it has none or is damaged. Only the first directory is looked at."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for place in range(start + 2, start + 2 + 12 * min(count, _MAX_TAGS), 12):
            tag, kind, number, value = struct.unpack_from(f"{order}HHIH", block, place)
            if tag == _ORIENTATION and (kind, number) == (3, 1) and 1 <= value <= 8:
                return value
    except struct.error:
        pass
    return 1


def _png(data: bytes) -> Slim:
    parts, place, chunks, orientation = [data[:8]], 8, 0, 1
    while place + 8 <= len(data):
        chunks += 1
        if chunks > _MAX_CHUNKS:
            raise _OverfullError
        (length,) = struct.unpack_from(">I", data, place)
        name = data[place + 4 : place + 8]
        if name in _PNG_KEPT:
            parts.append(data[place : place + 12 + length])
        elif name == b"eXIf":
            orientation = _exif(data[place + 8 : place + 8 + length])
        place += 12 + length
        if name == b"IEND":
            break
    return Slim(b"".join(parts), "PNG", orientation)


def _jpeg(data: bytes) -> Slim:
    """Application segments and comments go, but for JFIF's and Adobe's, which tell the colours."""
    # A scan starts with FF DA; compressed data never holds these two bytes.
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise _OverfullError
    parts, place, orientation, segments = [data[:2]], 2, 1, 0
    while True:
        while data[place] == 0xFF and data[place + 1] == 0xFF:
            place += 1
        if data[place] != 0xFF:
            raise IndexError
        segments += 1
        if segments > _MAX_CHUNKS:
            raise _OverfullError
        marker = data[place + 1]
        if marker == 0xDA:
            # Scans follow up to the end; a second picture behind it (MPO) is not looked at.
            parts.append(data[place:])
            return Slim(b"".join(parts), "JPEG", orientation)
        (length,) = struct.unpack_from(">H", data, place + 2)
        body = data[place + 4 : place + 2 + length]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _exif(body)
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (marker in (0xE0, 0xEE) and length < 64):
            parts.append(data[place : place + 2 + length])
        place += 2 + length


def _bmp(data: bytes) -> Slim:
    # Run-length packing lets a kilobyte unpack to a gigabyte, and nobody writes it.
    if struct.unpack_from("<I", data, 14)[0] >= 40 and struct.unpack_from("<I", data, 30)[0] in (1, 2):
        raise _OverfullError
    return Slim(data, "BMP")


def _webp(data: bytes) -> Slim:
    parts: list[bytes] = []
    place, orientation, frames = 12, 1, 0
    while place + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, place)
        end = place + 8 + length + (length & 1)
        frames += name == b"ANMF"
        if frames > 1 or len(parts) > _MAX_CHUNKS:
            raise _MovingError
        if name == b"EXIF":
            orientation = _exif(data[place + 8 : place + 8 + length])
        elif name == b"VP8X":
            # The flags of profile, EXIF and XMP, which go.
            parts.append(data[place : place + 8] + bytes([data[place + 8] & ~0x2C]) + data[place + 9 : end])
        elif name in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            parts.append(data[place:end])
        place = end
    body = b"WEBP" + b"".join(parts)
    return Slim(b"RIFF" + struct.pack("<I", len(body)) + body, "WEBP", orientation)


def _gif(data: bytes) -> Slim:
    """Keep the screen, the first picture and its graphic control (transparency)."""
    flags = data[10]
    place = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    parts, pictures, blocks = [data[:place]], 0, 0
    while data[place] != 0x3B:
        start, blocks = place, blocks + 1
        if blocks > _MAX_CHUNKS:
            raise _OverfullError
        if data[place] == 0x21:
            control = data[place + 1] == 0xF9
            place = _gif_blocks(data, place + 2)
            if control and not pictures:
                parts.append(data[start:place])
        elif data[place] == 0x2C:
            pictures += 1
            if pictures > 1:
                raise _MovingError
            flags = data[place + 9]
            place = _gif_blocks(data, place + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0))
            parts.append(data[start:place])
        else:
            raise IndexError
    return Slim(b"".join(parts) + b";", "GIF")


def _gif_blocks(data: bytes, place: int) -> int:
    while data[place]:
        place += 1 + data[place]
    return place + 1


def _tiff(data: bytes) -> Slim:
    """Directories are checked: nothing in them may be large but the list of strips. Their orientation goes.

    Decoders differ in whether they turn the pixels by it. That of the largest page is returned.
    """
    order = "<" if data[:2] == b"II" else ">"
    upright = bytearray(data)
    largest, orientation, seen = 0, 1, set()
    for page, start in enumerate(_directories(data, order)):
        if start in seen or page >= _MAX_PAGES:
            raise _MovingError
        seen.add(start)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        if count > _MAX_TAGS:
            raise _OverfullError
        total, page_orientation, sides = 0, 1, {256: 0, 257: 0}
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", data, place)
            size = number * (_TIFF_SIZES[kind] if kind < len(_TIFF_SIZES) else 1)
            if tag in _PLACES:
                if kind not in (3, 4) or number > _MAX_STRIPS:
                    raise _OverfullError
            elif tag in _NUMBERS and (kind not in (1, 3, 4) or number != 1):
                raise _OverfullError
            else:
                total += size
            if tag in (*sides, _ORIENTATION):
                (value,) = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}[kind], data, place + 8)
                if tag in sides:
                    sides[tag] = value
                else:
                    page_orientation = value if 1 <= value <= 8 else 1
                    upright[place + 8 : place + 12] = struct.pack(f"{order}HH", 1, 0)
                    upright[place + 2 : place + 4] = struct.pack(f"{order}H", 3)
        if total > _MAX_TAG_BYTES:
            raise _OverfullError
        if math.prod(sides.values()) > largest:
            largest, orientation = math.prod(sides.values()), page_orientation
    return Slim(bytes(upright), "TIFF", orientation)


def _directories(data: bytes, order: str) -> Iterator[int]:
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    while start:
        yield start
        (count,) = struct.unpack_from(f"{order}H", data, start)
        (start,) = struct.unpack_from(f"{order}I", data, start + 2 + 12 * count)
