"""Hostile image files, made anew for each run: bombs, floods, lies in headers, damage. More than 200 in all."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from bus_hf.data.phantoms import phantom


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width, height, colour, rows, *extra):
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(tags, tail=b"", order="<"):
    """A TIFF of (tag, type, count, value) entries; `tail` follows the directory."""
    entries = b"".join(struct.pack(f"{order}HHII", *entry) for entry in sorted(tags))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4) + tail


def shared_blob(count, size, kind=2, order="<", first=40_000):
    """A directory of `count` tags that all point at one blob."""
    start = 8 + 2 + 12 * (count + 9) + 4
    basis = [(256, 4, 1, 100), (257, 4, 1, 100), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, start)]
    basis += [(277, 3, 1, 1), (278, 4, 1, 100), (279, 4, 1, 10_000)]
    tags = [(first + index, kind, size, start) for index in range(count)]
    return tiff(basis + tags, bytes(max(size * 8, 10_000)), order)


def strips(count, width=100, height=100, kind=4, compression=1, bits=8):
    start = 8 + 2 + 12 * 9 + 4
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, compression), (262, 3, 1, 1)]
    tags += [(273, kind, count, start), (277, 3, 1, 1), (278, 4, 1, 1), (279, kind, count, start)]
    return tiff(tags, bytes(4 * count))


def tile(kind, count, value):
    tags = [(256, 4, 1, 100), (257, 4, 1, 100), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, kind, count, value), (323, kind, count, value), (324, 4, 1, 200), (325, 4, 1, 100)]
    return tiff(tags, b"7" * 10_000)


def segments(jpeg, marker, count, body=b""):
    return jpeg[:2] + (b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body) * count + jpeg[2:]


def gif_blocks(gif, label, count, body=b"x"):
    start = 13 + 3 * 256
    return gif[:start] + (b"\x21" + bytes([label, len(body)]) + body + b"\0") * count + gif[start:]


def riff(webp, name, body):
    """The file as an extended one with another chunk."""
    head = b"VP8X" + struct.pack("<I", 10) + b"\x0c\0\0\0" + struct.pack("<I", 159)[:3] + struct.pack("<I", 119)[:3]
    parts = b"WEBP" + head + webp[12:] + name + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


def bmp(width, height, compression, body, bits=8):
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, 256, 0)
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(body), 0, 0, 54 + 1024) + head + palette + body


def behind_header(png, chunks):
    return png[:33] + chunks + png[33:]


def files():
    """Names and bytes of the files."""
    grey = phantom(np.random.default_rng(0), "benign", (120, 160))[0]
    image = Image.fromarray(grey)
    plain = {kind: encoded(image, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")}
    progressive = encoded(image, "JPEG", progressive=True)
    blank = zlib.compress(bytes(24_000_000), 9)
    result = {}
    # Bombs of pixels: little data, many pixels, in every colour type.
    for colour, channels in ((0, 1), (2, 3), (3, 1), (4, 2), (6, 4)):
        for width, height in ((6_000, 4_000), (24_000_000, 1), (5_000, 5_000), (30_000, 30_000), (2**31 - 1, 1)):
            rows = blank if channels * width * height < 3e8 else b""
            extra = [chunk(b"PLTE", bytes(768))] if colour == 3 else []
            result[f"png {width}x{height} type {colour}"] = png(width, height, colour, rows, *extra)
    # Tags that share a blob, alone and as EXIF.
    for count in (150, 199, 1_000, 8_000):
        for size in (1_000, 50_000):
            for kind in (2, 12):
                blob = shared_blob(count, size, kind)
                result[f"tiff {count} tags of {size} type {kind}"] = blob
                if len(blob) < 900_000:
                    result[f"png exif {count}/{size}/{kind}"] = behind_header(plain["PNG"], chunk(b"eXIf", blob))
                    result[f"webp exif {count}/{size}/{kind}"] = riff(plain["WEBP"], b"EXIF", blob)
                    result[f"jpeg exif {count}/{size}/{kind}"] = segments(
                        plain["JPEG"], 0xE1, 1, b"Exif\0\0" + blob[:65_000]
                    )
    for count in (1_000, 65_536, 65_537, 500_000, 2_000_000):
        result[f"tiff {count} strips"] = strips(count)
        result[f"tiff {count} short strips"] = strips(count, kind=3)
    for kind, count in ((2, 9_000), (1, 4), (12, 1), (7, 9_000), (4, 2_000), (3, 9_000), (5, 1), (99, 9)):
        result[f"tiff tile type {kind} x {count}"] = tile(kind, count, 200)
    for side in (100, 4_000, 65_535, 2**31, 2**32 - 1):
        result[f"tiff tile of {side}"] = tile(4, 1, side)
    for width in (6_000, 100_000, 2**32 - 1):
        for compression in (1, 2, 5, 8, 32773):
            result[f"tiff {width} wide, compression {compression}"] = strips(4, width, 4_000, compression=compression)
    for count in (1, 100, 5_000, 49_000, 60_000, 400_000):
        for marker in (0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE):
            result[f"jpeg {count} segments {marker:X}"] = segments(plain["JPEG"], marker, count)
    start = progressive.rindex(b"\xff\xda")
    scan = progressive[start : start + 2 + int.from_bytes(progressive[start + 2 : start + 4], "big")]
    for count in (50, 90, 200, 20_000):
        result[f"jpeg {count} scans"] = progressive[:-2] + scan * count + progressive[-2:]
        large = bytearray(progressive[:-2] + scan * count + progressive[-2:])
        frame = large.index(b"\xff\xc2")
        large[frame + 5 : frame + 9] = struct.pack(">HH", 4_000, 6_000)
        result[f"jpeg {count} scans of 24 megapixels"] = bytes(large)
    for count in (1, 1_000, 40_000, 60_000, 500_000):
        for label in (0xFE, 0xFF, 0x01, 0xF9):
            result[f"gif {count} blocks {label:X}"] = gif_blocks(plain["GIF"], label, count)
    for count in (1, 1_000, 40_000, 60_000, 500_000):
        for name in (b"tEXt", b"zTXt", b"iTXt", b"abCd", b"IDAT"):
            body = b"k\0\0" + zlib.compress(bytes(100_000)) if count < 2_000 and name == b"zTXt" else b""
            result[f"png {count} chunks {name.decode()}"] = behind_header(plain["PNG"], chunk(name, body) * count)
    for width, height in ((6_000, 4_000), (65_535, 360), (2**31 - 1, 2**31 - 1), (-5, 5)):
        for compression in (0, 1, 2, 3):
            result[f"bmp {width}x{height} packing {compression}"] = bmp(width, height, compression, b"\xff\x01" * 500)
    rng = np.random.default_rng(7)
    for number in range(30):
        kind = list(plain)[number % 6]
        data = bytearray(plain[kind])
        for place in rng.integers(0, len(data), 1 + number):
            data[place] = rng.integers(256)
        result[f"damaged {kind} {number}"] = bytes(data)
    return result


def honest():
    """Large files that are what they say: read, or refused with a sentence, within the same bounds."""
    rng = np.random.default_rng(0)
    result = {}
    for mode, channels in (("L", ()), ("RGB", (3,)), ("RGBA", (4,))):
        part = rng.integers(0, 256, (500, 750, *channels), dtype=np.uint8)
        image = Image.fromarray(np.tile(part, (8, 8, 1)[: part.ndim]))
        for kind in ("PNG", "JPEG", "TIFF", "GIF"):
            if mode == "L" or kind in ("PNG", "TIFF") or (mode, kind) == ("RGB", "JPEG"):
                result[f"{kind} {mode} of 24 megapixels"] = encoded(
                    image, kind, **({"compress_level": 1} if kind == "PNG" else {})
                )
    return result
