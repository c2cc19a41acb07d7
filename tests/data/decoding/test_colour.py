"""Scans, tinted scans, overlays and photographs, with the margin between them; masks by their content."""

import importlib.util
import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bus_hf.data.decoding.colour import MAX_COLOURED, MAX_OVERLAY, MAX_STRAY, looks_like_mask, measure
from bus_hf.data.images import read_image, read_scan
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError

# Channel exponents or factors of tints; "clipped" ones saturate, as bright maps do.
TINTS = {
    "sepia": ("factors", (1.0, 0.86, 0.6)),
    "blue": ("factors", (0.7, 0.88, 1.0)),
    "amber": ("factors", (1.0, 0.75, 0.35)),
    "green": ("factors", (0.5, 1.0, 0.6)),
    "bent": ("exponents", (1.5, 1.1, 0.7)),
    "clipped": ("clipped", (0.6, 0.85, 1.0)),
}


@pytest.fixture(scope="module")
def grey():
    return phantom(np.random.default_rng(0), "benign", (240, 320))[0]


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def tinted(grey, name="sepia", drift=0.0):
    """The grey picture under a map, whose red rises and whose blue falls by `drift` from left to right."""
    kind, values = TINTS[name]
    unit = grey[:, :, None] / 255
    slope = np.linspace(-drift / 2, drift / 2, grey.shape[1])[None, :, None] * np.array([1, 0, -1])
    mapped = unit ** np.array(values) if kind == "exponents" else unit * np.array(values)
    if kind == "clipped":
        mapped = np.minimum(1.35 * mapped, 1)
    return np.clip(mapped * (1 + slope) * 255, 0, 255).astype(np.uint8)


def doppler(pixels, share, rng):
    """Flow in red and blue inside a box, and the colour bar beside the scan."""
    out = pixels.copy()
    height, width = out.shape[:2]
    h, w = int(height * share**0.5), int(width * share**0.5)
    flow = cv2.GaussianBlur(rng.standard_normal((h, w)), (0, 0), h / 12)
    flow /= np.abs(flow).max()
    box = out[height // 4 : height // 4 + h, width // 4 : width // 4 + w]
    box[flow > 0.45], box[flow < -0.45] = (220, 60, 20), (30, 60, 220)
    out[:h, -12:] = np.linspace((255, 200, 0), (0, 0, 255), h)[:, None]
    return out


def elastography(pixels, share, rng):
    """Every hue, half transparent, inside a box."""
    out = pixels.copy()
    height, width = out.shape[:2]
    h, w = int(height * share**0.5), int(width * share**0.5)
    stiffness = cv2.GaussianBlur(rng.standard_normal((h, w)), (0, 0), h / 12)
    hue = ((stiffness / np.abs(stiffness).max() + 1) * 60).astype(np.uint8)
    colours = cv2.cvtColor(np.dstack([hue, np.full_like(hue, 230), np.full_like(hue, 220)]), cv2.COLOR_HSV2RGB)
    box = out[height // 4 : height // 4 + h, width // 4 : width // 4 + w]
    box[:] = (colours.astype(int) + box) // 2
    return out


def meadow():
    """Sky, grass and a red roof, with noise."""
    picture = np.zeros((200, 300, 3), np.float32)
    picture[:100], picture[100:], picture[60:130, 90:200] = (110, 170, 230), (80, 150, 60), (190, 70, 50)
    return np.clip(picture + np.random.default_rng(0).normal(0, 12, picture.shape), 0, 255).astype(np.uint8)


def portrait():
    """A face in skin colours with dark hair before a blue wall, lit from the left."""
    picture = np.full((240, 200, 3), (90, 120, 160), np.float32)
    for place, axes, colour in (
        ((100, 100), (75, 90), (60, 40, 30)),
        ((100, 125), (55, 75), (215, 165, 140)),
        ((100, 240), (95, 45), (150, 30, 40)),
    ):
        cv2.ellipse(picture, place, axes, 0, 0, 360, colour, -1)
    picture *= np.linspace(1.1, 0.6, 200, dtype=np.float32)[None, :, None]
    return np.clip(picture + np.random.default_rng(1).normal(0, 6, picture.shape), 0, 255).astype(np.uint8)


def gradient():
    rows, columns = np.mgrid[0:1:200j, 0:1:300j]
    return (np.dstack([columns, rows, 1 - columns]) * 255).astype(np.uint8)


def framed(picture, kind):
    """The picture as a screenshot or slide shows it."""
    value = {"black": 0, "white": 255, "grey": 128, "blue": (20, 40, 120)}.get(kind, 0)
    height, width = picture.shape[:2]
    top, left = (height // 3, width // 5) if kind != "screenshot" else (height, 0)
    out = np.full((height + 2 * top, width + 2 * left, 3), value, np.uint8)
    out[top : top + height, left : left + width] = picture
    if kind == "screenshot":
        cv2.putText(out, "12:45   98 %", (width // 20, height // 4), 0, height / 500, (255, 255, 255), 2)
    return out


def mapped(grey, name):
    """The grey picture under a colour map whose hue bends."""
    levels = np.arange(256, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{name}"))[:, 0, ::-1][grey]


BENT = ["HOT", "INFERNO", "VIRIDIS", "MAGMA", "PLASMA", "CIVIDIS"]
FRAMES = ["black", "white", "grey", "blue", "screenshot"]


def sample_photographs():
    """Photographs that come with packages of the `test` extra."""
    places = {
        "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
        "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
        "gradio": [f"media_assets/images/{name}" for name in ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")],
    }
    result = []
    for package, names in places.items():
        spec = importlib.util.find_spec(package)
        if spec and spec.origin:
            result += [path for name in names if (path := Path(spec.origin).parent / name).is_file()]
    return result


def scans_of(folder):
    """Every image of the three hospitals that is no mask."""
    files = sorted(path for path in folder.rglob("*.png") if path.parent.name != "Masks")
    return [path for path in files if not any(word in path.name for word in ("_mask", "_tumor", "_other"))]


def colour_scans(folder):
    return [path for path in scans_of(folder) if Image.open(path).mode == "RGB"]


@pytest.mark.parametrize("name", TINTS)
@pytest.mark.parametrize(("drift", "quality"), [(0, 95), (0.08, 30), (0.16, 30)])
def test_a_tint_is_no_photograph_however_it_drifts(grey, name, drift, quality):
    pixels = jpeg(tinted(grey, name, drift), quality)
    result = measure(pixels)
    assert result.coloured > MAX_COLOURED
    assert result.stray < 0.65 * MAX_STRAY
    assert result.overlay == 0
    assert read_image(pixels).shape == grey.shape


@pytest.mark.parametrize("make", [meadow, portrait, gradient])
@pytest.mark.parametrize("quality", [95, 30])
def test_made_photographs_are_refused_with_room_to_spare(make, quality):
    pixels = jpeg(make(), quality)
    result = measure(pixels)
    assert result.coloured > 1.5 * MAX_COLOURED
    assert result.stray > 1.5 * MAX_STRAY
    with pytest.raises(BusError, match="colour picture"):
        read_image(pixels)


def test_sample_photographs_are_refused_with_room_to_spare():
    files = sample_photographs()
    if not files:
        pytest.skip("no installed package brings sample photographs")
    for path in files:
        with pytest.raises(BusError, match="colour picture"):
            read_image(path)
        result = measure(np.asarray(Image.open(path).convert("RGB")))
        print(f"{path.name}: coloured {result.coloured:.3f}, stray {result.stray:.3f}")
        assert result.coloured > 1.5 * MAX_COLOURED, path.name
        # cheetah.jpg is brown all over: the photograph that is nearest to a tint.
        assert result.stray > (1.35 if path.name == "cheetah.jpg" else 2.2) * MAX_STRAY, path.name


@pytest.mark.parametrize("name", BENT)
@pytest.mark.parametrize("quality", [95, 30])
def test_a_map_that_bends_is_no_photograph(grey, name, quality):
    pixels = jpeg(mapped(grey, name), quality)
    result = measure(pixels)
    assert result.coloured > MAX_COLOURED
    assert result.stray < 0.65 * MAX_STRAY
    assert result.overlay < MAX_OVERLAY
    assert read_image(pixels).shape == grey.shape


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("quality", [95, 30])
def test_a_frame_excuses_no_photograph(kind, quality):
    files = sample_photographs()
    pictures = [cv2.resize(np.asarray(Image.open(path).convert("RGB")), (480, 360)) for path in files]
    names = [path.name for path in files] + ["meadow", "portrait"]
    for name, picture in zip(names, [*pictures, meadow(), portrait()], strict=True):
        pixels = jpeg(framed(picture, kind), quality)
        # The three flat colours of the meadow look like a mask.
        with pytest.raises(BusError, match=r"colour picture|like a mask"):
            read_image(pixels)
        result = measure(pixels)
        print(f"{name} in {kind}, q{quality}: coloured {result.coloured:.2f}, stray {result.stray:.3f}")
        assert result.stray > (1 if name == "cheetah.jpg" else 1.8) * MAX_STRAY, name


def test_text_beside_a_photograph_does_not_excuse_it():
    # Text on a slide is content, but no scan that lies around the picture.
    for path in sample_photographs():
        if path.name == "cheetah.jpg":
            continue
        picture = cv2.resize(np.asarray(Image.open(path).convert("RGB")), (480, 360))
        slide = np.full((420, 960, 3), 255, np.uint8)
        slide[60:, :480] = picture
        for line, text in enumerate(("A slide of", "a trip, 2020", "with friends")):
            cv2.putText(slide, text, (510, 150 + 70 * line), 0, 1.8, (0, 0, 0), 3)
        assert measure(slide).stray > 1.5 * MAX_STRAY, path.name


@pytest.mark.parametrize("kind", FRAMES)
def test_a_scan_in_a_frame_is_a_scan(grey, kind):
    plain = measure(jpeg(framed(np.dstack([grey] * 3), kind), 75))
    assert plain.coloured < MAX_COLOURED / 2
    if kind == "blue":
        return
    assert plain.overlay < MAX_OVERLAY
    for pixels in (tinted(grey), mapped(grey, "HOT")):
        result = measure(jpeg(framed(pixels, kind), 75))
        assert result.stray < 0.65 * MAX_STRAY
        assert result.overlay < MAX_OVERLAY


@pytest.mark.parametrize("quality", [95, 30])
@pytest.mark.parametrize("base", ["grey", "sepia"])
@pytest.mark.parametrize(("overlaid", "share"), [(doppler, 0.1), (doppler, 0.25), (elastography, 0.1)])
def test_an_overlay_is_a_scan_and_told(grey, overlaid, share, base, quality):
    plain = np.dstack([grey] * 3) if base == "grey" else tinted(grey, "sepia", 0.08)
    scan = read_scan(jpeg(overlaid(plain, share, np.random.default_rng(0)), quality))
    assert scan.grey.shape == grey.shape
    assert MAX_OVERLAY < scan.colour_overlay < share + 0.1


@pytest.mark.parametrize("quality", [95, 30])
@pytest.mark.parametrize("share", [0.25, 0.45])
def test_a_large_box_on_a_grey_scan_is_told_in_full(grey, share, quality):
    pixels = jpeg(elastography(np.dstack([grey] * 3), share, np.random.default_rng(0)), quality)
    assert read_scan(pixels).colour_overlay == pytest.approx(share, abs=0.08)


def whole_boxes(grey, kind, share, seed=0):
    """A box of elastography or flow in the middle of a grey scan."""
    rng = np.random.default_rng(seed)
    out = np.dstack([grey] * 3)
    height, width = grey.shape
    top, left = (int(side * (1 - share**0.5) / 2) for side in (height, width))
    box = out[top : height - top, left : width - left]
    field = cv2.GaussianBlur(rng.standard_normal(box.shape[:2]), (0, 0), 12)
    field = (field - field.min()) / np.ptp(field)
    if kind == "elastography":
        hues = cv2.applyColorMap((field * 255).astype(np.uint8), cv2.COLORMAP_JET)[:, :, ::-1]
        box[:] = (box.astype(int) + hues) // 2
    elif kind == "power Doppler":
        box[field > 0.6] = (0, 60, 200)
    else:
        box[field > 0.6] = (255, 120, 0)
    return out


BOXES = [("elastography", 0.5), ("elastography", 0.7), ("power Doppler", 0.5), ("power Doppler", 0.7), ("Doppler", 0.1)]


@pytest.mark.parametrize(("kind", "share"), BOXES)
def test_boxes_on_real_scans_are_scans(shared_data, kind, share):
    result = []
    for path in scans_of(shared_data)[::80]:
        result.append(measure(jpeg(whole_boxes(np.asarray(Image.open(path).convert("L")), kind, share), 30)))
    refused = np.mean([each.photograph for each in result])
    worst, flagged = max(each.stray for each in result), np.mean([each.overlay >= MAX_OVERLAY for each in result])
    print(f"{kind} {share}: refused {refused:.2f}, stray at most {worst:.3f}, flagged {flagged:.2f}")
    assert refused == 0
    assert flagged > 0.8


def test_a_dual_image_is_a_scan(shared_data):
    for path in scans_of(shared_data)[::150]:
        grey = np.asarray(Image.open(path).convert("L"))
        dual = np.hstack([np.dstack([grey] * 3), whole_boxes(grey, "elastography", 0.8)])
        assert measure(dual).stray < 0.3 * MAX_STRAY, path.name


def test_bent_maps_on_real_scans_are_scans(shared_data):
    for name in BENT:
        result = []
        for path in scans_of(shared_data)[::100]:
            result.append(measure(jpeg(mapped(np.asarray(Image.open(path).convert("L")), name), 30)))
        print(f"{name}: stray at most {max(each.stray for each in result):.3f} (limit {MAX_STRAY})")
        assert max(each.stray for each in result) < 0.8 * MAX_STRAY


def test_a_grey_scan_has_no_overlay(grey):
    assert read_scan(grey).colour_overlay == 0
    assert read_scan(jpeg(np.dstack([grey] * 3), 30)).colour_overlay == 0


def test_no_real_scan_is_refused_and_the_margin_is_wide(shared_data):
    files = scans_of(shared_data)
    assert len(files) == 2325
    result = {}
    for path in files:
        # In this process: another one would double the time and show nothing here.
        assert read_image(path, trusted=True).ndim == 2
        with Image.open(path) as image:
            if image.mode == "RGB":
                result[path.name] = measure(np.asarray(image))
    assert len(result) == 81
    stray, overlay = (max(getattr(each, name) for each in result.values()) for name in ("stray", "overlay"))
    print(f"81 real scans in colour: stray at most {stray:.3f} (limit {MAX_STRAY}), overlay {overlay:.3f}")
    assert stray < MAX_STRAY / 3
    assert overlay < MAX_OVERLAY


def test_no_tinted_real_scan_is_refused(shared_data):
    worst = overlay = 0.0
    for path in scans_of(shared_data)[::160] + colour_scans(shared_data)[::8]:
        grey = np.asarray(Image.open(path).convert("L"))
        for name in TINTS:
            result = measure(jpeg(tinted(grey, name, 0.08), 30))
            worst, overlay = max(worst, result.stray), max(overlay, result.overlay)
    print(f"tinted real scans: stray at most {worst:.3f} (limit {MAX_STRAY}), overlay {overlay:.3f}")
    assert worst < 0.8 * MAX_STRAY
    assert overlay < MAX_OVERLAY


# Masks


def labels(values, shape=(200, 260)):
    """A label map: one disc or rectangle for each value."""
    out = np.zeros((*shape, *np.shape(values[0])), np.uint8)
    for index, value in enumerate(values):
        top = 20 + 55 * index
        out[top : top + 45, 40 + 30 * index : 150 + 30 * index] = value
    return out


MASKS = {
    "black and white": labels([255]),
    "0 and 1": labels([1]),
    "0, 1 and 2": labels([1, 2]),
    "three greys": labels([85, 170, 255]),
    "green and blue": labels([(0, 255, 0), (0, 0, 255)]),
    "white ground": 255 - labels([255]),
}


@pytest.mark.parametrize("name", MASKS)
def test_a_picture_of_few_values_is_no_scan(name):
    with pytest.raises(BusError, match="looks like a mask, not an ultrasound image"):
        read_image(MASKS[name])


@pytest.mark.parametrize("quality", [30, 60, 95])
@pytest.mark.parametrize("name", ["black and white", "three greys", "green and blue", "white ground"])
def test_a_mask_is_seen_behind_jpeg_too(name, quality):
    with pytest.raises(BusError, match="looks like a mask"):
        read_image(jpeg(MASKS[name], quality))


def test_a_smooth_mask_of_another_size_is_no_scan():
    with pytest.raises(BusError, match="looks like a mask"):
        read_image(cv2.resize(MASKS["black and white"], (120, 90), interpolation=cv2.INTER_AREA))


@pytest.mark.parametrize("kind", ["normal", "benign", "malignant"])
def test_a_scan_is_no_mask_even_in_a_black_screen_or_blurred(kind):
    grey = phantom(np.random.default_rng(3), kind, (240, 320))[0]
    screen = np.zeros((400, 520), np.uint8)
    screen[60:300, 90:410] = grey
    for pixels in (grey, screen, cv2.GaussianBlur(grey, (0, 0), 3), jpeg(grey, 10), grey // 16 * 16):
        assert not looks_like_mask(pixels)


def test_real_masks_are_told_from_real_scans(shared_data):
    scans = scans_of(shared_data)
    masks = sorted(set(shared_data.rglob("*.png")) - set(scans))[::20]
    drawn = [pixels for path in masks if (pixels := np.asarray(Image.open(path).convert("L"))).any()]
    assert len(drawn) > 100
    assert all(looks_like_mask(pixels) for pixels in drawn)
    assert np.mean([looks_like_mask(jpeg(pixels, 75)) for pixels in drawn]) == 1
    for path in scans[::20]:
        grey = np.asarray(Image.open(path).convert("L"))
        assert not looks_like_mask(grey), path.name
        assert not looks_like_mask(np.pad(grey, [(side // 4, side // 4) for side in grey.shape])), path.name
