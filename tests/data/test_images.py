import io
import os
import pickle
import socket
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from bus_hf.data.decoding.decode import decode, orientation, turn
from bus_hf.data.images import LIMITS, Limits, read_image, read_mask
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError


@pytest.fixture(scope="module")
def grey():
    return phantom(np.random.default_rng(0), "benign", (120, 160))[0]


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width, height, data=b""):
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def tiled_tiff(side):
    """A TIFF of 100 x 100 pixels in one deflated tile of `side` x `side`."""
    body = zlib.compress(bytes(side * side))
    tags = {256: 100, 257: 100, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 134, 325: len(body)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + body


def refusal(source, **options):
    with pytest.raises(BusError) as caught:
        read_image(source, **options)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert caught.value.remedy
    return text


def test_every_source_gives_the_same_pixels(grey, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(grey).save(path)
    for source in (path, str(path), path.read_bytes(), Image.open(path), grey, np.dstack([grey] * 3), grey[:, :, None]):
        assert np.array_equal(read_image(source), grey)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_every_kind_is_read(grey, kind):
    out = read_image(encoded(Image.fromarray(grey), kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.abs(out.astype(int) - grey).mean() < 4


def test_16_bit_keeps_its_contrast(grey):
    full = read_image(encoded(Image.fromarray(grey.astype(np.uint16) * 257)))
    assert np.array_equal(full, grey)
    twelve = read_image(encoded(Image.fromarray(grey.astype(np.uint16) * 16)))
    assert np.abs(twelve.astype(int) - np.round(grey * (255 / grey.max()))).max() <= 1


def png_of_16_bits(array, colour_type):
    height, width = array.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in array.astype(">u2").reshape(height, -1))
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_of_16_bits(array, order="<", orientation=1):
    height, width, channels = array.shape
    tags = {256: width, 257: height, 258: 0, 259: 1, 262: 2, 273: 0, 274: orientation, 277: channels, 278: height}
    tags |= {279: array.nbytes, **({338: 2} if channels == 4 else {})}
    tags[258] = 10 + 12 * len(tags) + 4
    tags[273] = tags[258] + 2 * channels
    entries = b""
    for tag, value in tags.items():
        count = channels if tag == 258 else 1
        kind = 4 if tag in (256, 257, 273, 278, 279) else 3
        short = kind == 3 and count == 1
        body = struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
        entries += struct.pack(f"{order}HHI", tag, kind, count) + body
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    return start + entries + bytes(4) + bits + array.astype(f"{order}u2").tobytes()


@pytest.mark.parametrize("opaque", [4095, 65535])
@pytest.mark.parametrize("scale", [4, 16, 257])
def test_colours_of_16_bits_are_scaled_as_grey_is(grey, scale, opaque):
    deep = grey.astype(np.uint16) * scale
    want = read_image(deep)
    assert want.max() == 255 or scale == 257
    alpha = np.full_like(deep, opaque)
    rgb, rgba = np.dstack([deep] * 3), np.dstack([deep] * 3 + [alpha])
    files = [png_of_16_bits(rgb, 2), png_of_16_bits(np.dstack([deep, alpha]), 4), png_of_16_bits(rgba, 6)]
    files += [tiff_of_16_bits(array, order) for array in (rgb, rgba) for order in "<>"]
    for data in files:
        assert np.abs(read_image(data).astype(int) - want).max() <= 1
        assert np.abs(read_image(Image.open(io.BytesIO(data))).astype(int) - want).max() <= 1
    assert np.array_equal(read_image(rgba), want)


def test_colours_of_12_bits_keep_their_order_and_transparency(grey):
    deep = np.dstack([grey, grey * 0.9, grey * 0.8]).astype(np.uint16) * 16
    out = decode(png_of_16_bits(deep, 2), "x").pixels
    assert np.abs(out.astype(int) - np.round(deep * (255 / deep.max()))).max() <= 1
    alpha = np.full(grey.shape, 4095, np.uint16)
    alpha[:30] = 0
    out = read_image(png_of_16_bits(np.dstack([deep, alpha]), 6))
    assert not out[:30].any()
    assert out[30:].std() > 10


@pytest.mark.parametrize("tag", range(1, 9))
def test_colours_of_16_bits_are_turned_once(grey, tag):
    deep = np.dstack([grey.astype(np.uint16) * 257] * 3)
    for order in "<>":
        data = tiff_of_16_bits(deep, order, tag)
        for source in (data, Image.open(io.BytesIO(data))):
            assert np.array_equal(read_image(source), turn(grey, tag))


def test_cmyk_palette_and_alpha(grey):
    image = Image.fromarray(grey)
    cmyk = read_image(encoded(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(cmyk.astype(int) - grey).mean() < 4
    assert np.abs(read_image(encoded(image.convert("P"))).astype(int) - grey).max() <= 1
    alpha = np.dstack([grey] * 3 + [np.full_like(grey, 255)])
    alpha[:30, :, 3] = 0
    out = read_image(encoded(Image.fromarray(alpha)))
    assert not out[:30].any()
    assert np.array_equal(out[30:], grey[30:])


@pytest.fixture(params=["decoder turns", "decoder leaves it"])
def turning(request, monkeypatch):
    """TIFF decoders that turn the pixels by the tag while they load them, as Pillow does now, and that do not."""
    if request.param == "decoder leaves it":
        setup = TiffImagePlugin.TiffImageFile._setup

        def as_stored(image):
            setup(image)
            image._size = image._tile_size

        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_setup", as_stored)
        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load_end", lambda image: image.getexif())


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
def test_orientation_is_applied_once(grey, kind, options, tag, turning):
    if kind == "TIFF":
        options = options | {"tiffinfo": {274: tag}}
    else:
        exif = Image.Exif()
        exif[274] = tag
        options = options | {"exif": exif}
    stored = [grey, grey.astype(np.uint16) * 257] if kind in ("TIFF", "PNG") else [grey]
    for pixels in (*stored, np.dstack([grey] * 3)):
        data = encoded(Image.fromarray(pixels), kind, **options)
        unloaded, loaded = (Image.open(io.BytesIO(data)) for _ in range(2))
        loaded.load()
        for source in (data, unloaded, loaded):
            out = read_image(source, trusted=True)
            assert out.shape == turn(grey, tag).shape
            assert np.abs(out.astype(int) - turn(grey, tag)).mean() < (4 if kind == "JPEG" else 0.1)
        assert orientation(data) == tag


@pytest.mark.parametrize("first", [True, False])
def test_the_orientation_is_that_of_the_page_that_is_read(grey, first):
    image, small = Image.fromarray(grey), Image.fromarray(grey[::4, ::4].copy())
    image.encoderinfo, small.encoderinfo = {"tiffinfo": {274: 6}}, {"tiffinfo": {254: 1, 274: 3}}
    pages = [small, image] if first else [image, small]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], **pages[0].encoderinfo)
    assert np.array_equal(read_image(data), turn(grey, 6))
    assert orientation(data) == 6


def test_the_answer_is_a_copy_that_may_be_changed(grey):
    for source in (grey, encoded(Image.fromarray(grey)), Image.fromarray(grey)):
        out = read_image(source)
        assert out.flags.writeable
        assert not np.shares_memory(out, grey)


def test_mask_is_bool_whatever_its_values(tmp_path):
    mask = np.zeros((40, 50), np.uint8)
    mask[5:20, 10:30] = 1
    for scale in (1, 255):
        assert np.array_equal(read_mask(encoded(Image.fromarray(mask * scale))), mask.astype(bool))
    assert not read_mask(encoded(Image.fromarray(mask * 0))).any()


def test_empty_and_missing_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()
    assert "the file is empty" in refusal(tmp_path / "empty.png")
    assert "there is no such file" in refusal(tmp_path / "none.png")
    assert "this is a folder" in refusal(tmp_path)
    assert "cannot be read" in refusal("a\0b.png")


def test_only_regular_files_are_opened(tmp_path):
    pipe, path = tmp_path / "x.png", tmp_path / "socket.png"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        for name in (pipe, "/dev/zero", "/dev/null"):
            assert "no regular file" in refusal(name)
        assert "cannot be read" in refusal(path)
    assert "the file is empty" in refusal("/proc/self/status")


def test_a_dotfile_is_a_file_like_any_other(grey, tmp_path):
    path = tmp_path / ".png"
    path.write_bytes(encoded(Image.fromarray(grey)))
    assert np.array_equal(read_image(path), grey)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP"])
def test_too_many_pixels_are_refused_with_their_number_in_every_kind(kind):
    # Boxes and shapes of an image that is read at reduced scale would not be those of the file.
    data = encoded(Image.new("L", (7_000, 4_000), 90), kind)
    assert "the image is 7000 x 4000 pixels, over the 24 million that are read" in refusal(data)


def test_a_vast_file_is_not_read_into_memory(tmp_path):
    path = tmp_path / "vast.png"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    tracemalloc.start()
    try:
        assert "larger than" in refusal(path, limits=Limits(max_bytes=1000))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_name_cannot_leave_the_sentence():
    assert refusal(b"x", name="a\nb\x1b[31m.png").startswith("a?b?[31m.png: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(tmp_path):
    path = tmp_path / "locked.png"
    path.write_bytes(b"x")
    path.chmod(0)
    assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"])
def test_truncated_files_are_refused(grey, kind, share):
    data = encoded(Image.fromarray(grey), kind)
    assert refusal(data[: int(len(data) * share)], name="cut")


def test_pil_images_are_checked_like_files(grey):
    data = encoded(Image.fromarray(grey))
    assert "damaged or cut short" in refusal(Image.open(io.BytesIO(data[: len(data) // 2])))
    moving = encoded(Image.fromarray(grey), "GIF", save_all=True, append_images=[Image.fromarray(grey[::-1])])
    assert "more than one frame" in refusal(Image.open(io.BytesIO(moving)))
    assert "over the 0 million" in refusal(Image.fromarray(grey), limits=Limits(max_pixels=100))


@pytest.mark.parametrize("seed", range(30))
def test_damaged_bytes_never_raise_anything_else(grey, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(encoded(Image.fromarray(grey), ["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"][seed % 6]))
    for place in rng.integers(0, len(data), 20):
        data[place] = rng.integers(256)
    try:
        out = read_image(bytes(data))
    except BusError:
        return
    assert out.ndim == 2
    assert out.dtype == np.uint8


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"just some text, called .png", "no image of a known kind"),
        (pickle.dumps({"a": 1}), "no image of a known kind"),
        (b"%PDF-1.7 something", "no image of a known kind"),
        (b"\0" * 128 + b"DICM" + b"\0" * 50, "DICOM"),
    ],
)
def test_other_kinds_of_file(data, text):
    assert text in refusal(data, name="scan.png")


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA"])
def test_kinds_that_are_not_promised_are_not_decoded(grey, kind):
    assert "no image of a known kind" in refusal(encoded(Image.fromarray(grey), kind))


def test_one_pixel():
    assert "only 1 x 1 pixels" in refusal(encoded(Image.new("L", (1, 1), 90)))


def test_huge_is_refused_from_its_header():
    # The body is a few bytes: decoding it would fail with another sentence.
    text = refusal(png_header(30_000, 30_000, b"\0" * 10), name="huge.png")
    assert "the image has 900 million pixels, over the 24 million that are read" in text
    assert "8000 x 8000 pixels" in refusal(png_header(8_000, 8_000, b"\0" * 10), name="huge.png")


def test_zip_bomb_of_a_png_is_refused_from_its_header():
    bomb = png_header(20_000, 20_000, b"\0" * 20_000 * 2_000)
    assert len(bomb) < 100_000
    assert "400 million pixels" in refusal(bomb)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP", b"tEXt", b"eXIf"])
def test_text_that_unpacks_to_much_more_never_reaches_the_decoder(grey, kind):
    data = encoded(Image.fromarray(grey))
    bomb = chunk(kind, b"k\0\0" + zlib.compress(bytes(20_000_000)))
    assert np.array_equal(read_image(data[:33] + bomb + data[33:]), grey)


def test_many_parts_that_cost_hours_are_refused(grey):
    image = Image.fromarray(grey)
    data = encoded(image)
    assert "far more parts" in refusal(data[:33] + chunk(b"abCd", b"") * 50_001 + data[33:])
    assert np.array_equal(read_image(data[:33] + chunk(b"abCd", b"") * 100 + data[33:]), grey)
    jpeg = encoded(image, "JPEG", progressive=True)
    assert read_image(jpeg).shape == grey.shape
    start = jpeg.rindex(b"\xff\xda")
    scan = jpeg[start : start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")]
    assert "far more parts" in refusal(jpeg[:-2] + scan * 101 + jpeg[-2:])


def test_a_tile_far_larger_than_its_image_is_refused():
    small, large = tiled_tiff(112), tiled_tiff(1600)
    assert read_image(small, check=False).shape == (100, 100)
    limits = Limits(max_pixels=1_000_000)
    assert read_image(small, limits=limits, check=False).shape == (100, 100)
    assert "tiles of the file are far larger" in refusal(large, limits=limits)


def test_a_long_strip_in_colour_is_read(grey):
    strip = np.dstack([np.tile(grey[:16], (1, 100))] * 3)
    strip[0, 0] = (200, 0, 0)
    assert read_image(strip).shape == (16, 16000)


def test_bytes_are_bounded(tmp_path, grey):
    path = tmp_path / "a.png"
    Image.fromarray(grey).save(path)
    assert "MB that are read" in refusal(path, limits=Limits(max_bytes=100))
    assert "MB that are read" in refusal(path.read_bytes(), limits=Limits(max_bytes=100))
    assert "over the 0 million" in refusal(grey, limits=Limits(max_pixels=100))


def test_animation_is_refused(grey):
    frames = [Image.fromarray(np.roll(grey, shift, 1)) for shift in range(3)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert "more than one frame" in refusal(data)


@pytest.mark.parametrize(("value", "word"), [(0, "black"), (120, "one even shade")])
def test_blank_images(value, word):
    assert word in refusal(np.full((64, 64), value, np.uint8))


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((4, 4, 7)), "shape"),
        (np.zeros(10), "shape"),
        (np.zeros((0, 5)), "shape"),
        (np.full((40, 40), np.nan), "not finite"),
        (np.full((40, 40), 7.0), "ranges from"),
        (np.full((40, 40), -3), "negative"),
        (np.full((40, 40), "x"), "of type"),
        (np.zeros((40, 40), complex), "of type"),
    ],
)
def test_wrong_arrays(array, text):
    assert text in refusal(array)


@pytest.mark.parametrize("source", [None, 7, object()])
def test_what_is_no_image_at_all(source):
    assert "is no image" in refusal(source)


def test_right_arrays(grey):
    assert np.array_equal(read_image(grey / 255.0), grey)
    assert np.array_equal(read_image(grey.astype(np.int64)), grey)
    assert set(np.unique(read_image(grey > 100, check=False))) == {0, 255}


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4", ">f8"])
def test_floats_may_pass_their_range_by_rounding(grey, kind):
    array = grey / 255.0
    array[0, 0], array[0, 1], array[0, 2] = 1.0000001, -1e-9, 1.0005
    out = read_image(array.astype(kind))
    assert out[0, 0] == out[0, 2] == 255
    assert out[0, 1] == 0
    assert np.array_equal(out[1:], grey[1:])


@pytest.mark.parametrize("low_high", [(0.0, 1.1), (-0.1, 1.0), (0.0, 255.0), (0.0, 2.0)])
def test_floats_of_another_range_are_refused(grey, low_high):
    low, high = low_high
    assert "ranges from" in refusal(low + (high - low) * (grey / 255.0))


@pytest.mark.parametrize("kind", [">u2", ">i4", "<u2", ">u8"])
def test_byte_order_and_strides_do_not_matter(grey, kind):
    assert np.array_equal(read_image(grey.astype(kind) * 1), grey)
    assert np.array_equal(read_image(grey.astype(kind)[::-1, ::-1]), grey[::-1, ::-1])
    assert np.array_equal(read_image(np.asfortranarray(grey)[::2]), grey[::2])


def test_arrays_of_objects_are_refused(grey):
    assert "of type object" in refusal(grey.astype(object))


# Polarity: black is zero, whatever the file counts from.


def tiff(pixels, white_is_zero, **options):
    """A TIFF whose photometric tag says that white is zero; its stored values are `pixels`."""
    data = bytearray(encoded(Image.fromarray(pixels), "TIFF", **options))
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(f"{order}H", data, place)[0] == 262:
            struct.pack_into(f"{order}H", data, place + 8, 0 if white_is_zero else 1)
    return bytes(data)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
@pytest.mark.parametrize(("top", "kind"), [(255, np.uint8), (65535, np.uint16), (1, np.float32)])
def test_white_is_zero_is_turned_around(grey, top, kind, compression):
    stored = (grey / 255 * top).round(0 if top > 1 else 6).astype(kind)
    options = {"compression": compression} if compression else {}
    plain = read_image(tiff(stored, False, **options))
    turned = read_image(tiff((top - stored.astype(np.float64)).astype(kind), True, **options))
    assert np.abs(plain.astype(int) - grey).max() <= 1
    assert np.abs(turned.astype(int) - grey).max() <= 1


@pytest.mark.parametrize("kind", [">u2", np.int32])
def test_white_is_zero_that_pillow_does_not_know_is_refused_and_never_a_negative(grey, kind):
    assert "no image of a known kind" in refusal(tiff((grey * 257.0).astype(kind), True))
    assert np.array_equal(read_image(tiff((grey * 257.0).astype(kind), False)), grey)


def test_12_bits_with_white_as_zero_keep_their_contrast(grey):
    stored = 4095 - grey.astype(np.uint16) * 16
    out = read_image(tiff(stored, True))
    assert np.corrcoef(out.ravel(), grey.ravel())[0, 1] > 0.999
    assert out.std() > 0.9 * grey.std()


def test_one_bit_with_white_as_zero():
    bits = np.zeros((40, 56), bool)
    bits[10:30, 20:40] = True
    for white_is_zero in (False, True):
        assert np.array_equal(read_image(tiff(bits ^ white_is_zero, white_is_zero), check=False) > 0, bits)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_palette_from_white_to_black_is_followed(grey, kind):
    image = Image.fromarray(255 - grey)
    image.putpalette(np.repeat(np.arange(255, -1, -1, dtype=np.uint8), 3).tobytes())
    assert np.array_equal(read_image(encoded(image, kind)), grey)


def test_inverted_cmyk_jpeg_is_read_as_it_looks(grey):
    # Adobe's marker says that the stored values are inverted; Pillow writes it.
    data = encoded(Image.fromarray(np.dstack([grey] * 3)).convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    assert np.corrcoef(read_image(data).ravel(), grey.ravel())[0, 1] > 0.99


# Files of several pictures


def mpo(first, *others):
    return encoded(first, "MPO", save_all=True, append_images=list(others))


def test_the_first_picture_of_an_mpo_is_read(grey):
    image = Image.fromarray(grey)
    for second in (image.resize((40, 30)), Image.fromarray(grey[::-1].copy())):
        data = mpo(image, second)
        assert Image.open(io.BytesIO(data)).format == "MPO"
        assert np.abs(read_image(data).astype(int) - grey).mean() < 4


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_tiff_with_a_thumbnail_is_read_in_full(grey, first, flagged):
    image, small = Image.fromarray(grey), Image.fromarray(grey[::4, ::4].copy())
    small.encoderinfo = {"tiffinfo": {254: 1}} if flagged else {}
    pages = [small, image] if first else [image, small]
    assert np.array_equal(read_image(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])), grey)


@pytest.mark.parametrize("count", [2, 9, 40])
def test_a_tiff_of_equal_pages_stays_refused(grey, count):
    pages = [Image.fromarray(np.roll(grey, shift, 1)) for shift in range(count)]
    assert "more than one frame" in refusal(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_one_frame_in_a_kind_that_may_move_is_read(grey, kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(grey), kind, save_all=True, append_images=[], **options)
    assert np.abs(read_image(data).astype(int) - grey).max() <= 1


def test_limits_are_as_documented():
    assert LIMITS.max_bytes == 64 * 2**20
    assert Path("a").name in refusal("a")
