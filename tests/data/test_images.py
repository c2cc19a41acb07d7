import importlib.util
import io
import os
import pickle
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bus_hf.data.images import LIMITS, MAX_COLOURED, MAX_OFF_TINT, Limits, colours, read_image, read_mask
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


def tinted(pixels, factors=(1.0, 0.86, 0.6)):
    grey = np.asarray(Image.fromarray(pixels).convert("RGB"))
    return (grey * np.array(factors)).astype(np.uint8)


def sample_photographs():
    """Photographs that come with packages of the `test` extra."""
    places = {
        "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
        "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
        "gradio": [f"media_assets/images/{name}" for name in ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")],
    }
    found = []
    for package, names in places.items():
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            found += [path for name in names if (path := Path(spec.origin).parent / name).is_file()]
    return found


def photograph():
    """A colour picture: sky, grass and a red roof, with noise."""
    rng = np.random.default_rng(0)
    picture = np.zeros((200, 300, 3), np.float32)
    picture[:100] = (110, 170, 230)
    picture[100:] = (80, 150, 60)
    picture[60:130, 90:200] = (190, 70, 50)
    return np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)


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


def test_exif_orientation_is_applied(grey):
    exif = Image.Exif()
    exif[0x0112] = 6
    out = read_image(encoded(Image.fromarray(grey), "PNG", exif=exif))
    assert np.array_equal(out, np.rot90(grey, -1))


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
    assert "far too many pixels" in refusal(png_header(30_000, 30_000, b"\0" * 10), name="huge.png")
    assert "8000 x 8000 pixels" in refusal(png_header(8_000, 8_000, b"\0" * 10), name="huge.png")


def test_zip_bomb_of_a_png_is_refused_from_its_header():
    bomb = png_header(20_000, 20_000, b"\0" * 20_000 * 2_000)
    assert len(bomb) < 100_000
    assert "far too many pixels" in refusal(bomb)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_text_that_unpacks_to_much_more_is_refused(grey, kind):
    data = encoded(Image.fromarray(grey))
    bomb = chunk(kind, b"k\0\0" + zlib.compress(bytes(20_000_000)))
    assert "damaged" in refusal(data[:33] + bomb + data[33:])


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


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_colour_photograph_is_no_ultrasound(kind):
    assert "colour picture" in refusal(encoded(Image.fromarray(photograph()), kind))


def test_a_colour_gradient_is_no_ultrasound():
    rows, columns = np.mgrid[0:1:200j, 0:1:300j]
    assert "colour picture" in refusal((np.dstack([columns, rows, 1 - columns]) * 255).astype(np.uint8))


def test_sample_photographs_are_refused_with_room_to_spare():
    files = sample_photographs()
    if not files:
        pytest.skip("no installed package brings sample photographs")
    for path in files:
        assert "colour picture" in refusal(path)
        coloured, off_tint = colours(np.asarray(Image.open(path).convert("RGB")))
        # cheetah.jpg is brown all over: the photograph that is nearest to a tint.
        assert coloured > 1.5 * MAX_COLOURED, path.name
        assert off_tint > (1.4 if path.name == "cheetah.jpg" else 4) * MAX_OFF_TINT, path.name


def test_coloured_marks_and_doppler_are_no_photograph(grey):
    colour = np.dstack([grey] * 3)
    colour[30:70, 40:100] = (200, 30, 30)
    coloured, _ = colours(colour)
    assert 0.05 < coloured < MAX_COLOURED
    assert read_image(colour).shape == grey.shape


@pytest.mark.parametrize("quality", [None, 50])
def test_a_tint_is_no_photograph(grey, quality):
    image = Image.fromarray(tinted(grey))
    data = encoded(image, "JPEG", quality=quality) if quality else encoded(image)
    coloured, off_tint = colours(np.asarray(Image.open(io.BytesIO(data))))
    assert coloured > MAX_COLOURED
    assert off_tint < MAX_OFF_TINT / 2
    assert read_image(data).shape == grey.shape


def test_no_real_image_is_refused_and_the_margin_is_wide(shared_data):
    files = [path for path in shared_data.rglob("*.png") if "mask" not in path.name]
    shares = []
    for path in files:
        assert read_image(path).ndim == 2
        with Image.open(path) as image:
            if image.mode not in ("L", "1"):
                shares.append(colours(np.asarray(image.convert("RGB")))[0])
    assert len(files) == 2125
    assert len(shares) >= 15
    assert max(shares) < MAX_COLOURED / 20


@pytest.mark.parametrize("factors", [(1.0, 0.86, 0.6), (0.7, 0.88, 1.0)])
def test_no_tinted_real_image_is_refused(shared_data, factors):
    files = sorted(path for path in shared_data.rglob("*.png") if "mask" not in path.name)
    coloured = [path for path in files if Image.open(path).mode == "RGB"]
    for path in files[::20] + coloured:
        pixels = tinted(np.asarray(Image.open(path)), factors)
        assert colours(pixels)[1] < 0.6 * MAX_OFF_TINT, path.name
        assert read_image(pixels).ndim == 2


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
    assert set(np.unique(read_image(grey > 100))) == {0, 255}


def test_limits_are_as_documented():
    assert LIMITS.max_bytes == 64 * 2**20
    assert Path("a").name in refusal("a")
