"""Different scans inside one scanner's screen are no copies of each other; copies inside it are still found."""

import cv2
import numpy as np
import pytest

from bus_hf.data.duplicates import near_duplicates
from bus_hf.data.images import read_image
from bus_hf.data.phantoms import KINDS, phantom

SHAPE = (480, 640)


def screen(seed):
    """Text lines, a grey bar, ticks and a frame, as a scanner draws them around a scan."""
    rng = np.random.default_rng(seed)
    out = np.zeros(SHAPE, np.uint8)
    height, width = SHAPE
    for line in range(4):
        text = "".join(rng.choice(list("ABCDEFGHIJ0123456789 "), 28))
        cv2.putText(out, text, (5, 20 + 18 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, int(rng.integers(140, 255)), 1)
    left = int(rng.integers(10, 40))
    out[120 : height - 40, left : left + 14] = np.linspace(255, 0, height - 160).astype(np.uint8)[:, None]
    for row in range(120, height - 40, 20):
        out[row : row + 2, width - 40 : width - 25] = 200
    for column in range(80, width - 60, 25):
        out[height - 20 : height - 12, column : column + 2] = 180
    cv2.rectangle(out, (width - 150, 5), (width - 10, 100), 90, 1)
    cv2.putText(out, "MI 0.9 TIS", (width - 145, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 220, 1)
    return out


def inside(scan, around, share=0.5):
    """The scan on a share of the screen."""
    out = around.copy()
    height, width = (int(side * share**0.5) for side in SHAPE)
    top, left = int((SHAPE[0] - height) * 0.75), (SHAPE[1] - width) // 2
    out[top : top + height, left : left + width] = cv2.resize(scan, (width, height), interpolation=cv2.INTER_AREA)
    return out


def jpeg(image, quality=30):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def marked(image):
    out = image.copy()
    for x, y in ((0.3, 0.4), (0.6, 0.5)):
        cv2.drawMarker(out, (int(x * image.shape[1]), int(y * image.shape[0])), 255, cv2.MARKER_CROSS, 16, 2)
    return out


def brighter(image):
    return (255 * (image / 255.0) ** 0.6).astype(np.uint8)


COPIES = (jpeg, marked, brighter)
SCANS = [phantom(np.random.default_rng(seed), KINDS[seed % 3])[0] for seed in range(24)]


def result(images):
    return {(pair.i, pair.j) for pair in near_duplicates(images)}


def test_without_the_discount_the_screen_would_make_copies_of_strangers(monkeypatch):
    monkeypatch.setattr("bus_hf.data.duplicates.alike_inside", lambda images, pairs, *_: set(pairs))
    assert len(result([inside(scan, screen(0), 0.4) for scan in SCANS])) > 20


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("count", [8, 24])
def test_scans_in_one_screen_are_no_copies(share, count):
    assert result([inside(scan, screen(0), share) for scan in SCANS[:count]]) == set()


def test_scans_in_several_screens_saved_as_jpeg_are_no_copies():
    assert result([jpeg(inside(scan, screen(row % 3))) for row, scan in enumerate(SCANS)]) == set()


@pytest.mark.parametrize("screens", [1, 2])
def test_true_copies_in_a_screen_are_found(screens):
    images = [inside(scan, screen(row % screens)) for row, scan in enumerate(SCANS)]
    images += [inside(copy(SCANS[row]), screen(row % screens)) for row, copy in enumerate(COPIES)]
    pairs, wanted = result(images), {(row, len(SCANS) + row) for row in range(len(COPIES))}
    assert wanted <= pairs
    assert len(pairs - wanted) <= 1


def test_a_crowd_of_copies_in_a_screen_stays_together_and_the_others_apart():
    crowd = [inside(jpeg(SCANS[0], quality), screen(0)) for quality in (90, 70, 50, 30)]
    images = [*crowd, *(inside(scan, screen(0)) for scan in SCANS[1:4])]
    assert result(images) == {(i, j) for i in range(4) for j in range(i + 1, 4)}


def test_real_scans_in_screens(shared_data):
    """Of 30 real scans in each of four sets, on half of one screen or of one of three; 5 of each come twice."""
    paths = sorted((shared_data / "busbra" / "Images").glob("*-l.png"))
    right = true = false = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        scans = [read_image(paths[row]) for row in rng.permutation(len(paths))[:30]]
        twins = result(scans)
        around = [screen(10 * seed + row % (1 if seed % 2 else 3)) for row in range(30)]
        images = [inside(scan, one) for scan, one in zip(scans, around, strict=True)]
        images += [inside(COPIES[row % 3](scans[row]), around[row]) for row in range(5)]
        wanted = {(row, 30 + row) for row in range(5)}
        pairs = result(images) - twins
        right, true, false = right + len(wanted & pairs), true + len(wanted), false + len(pairs - wanted)
    print(f"recall {right}/{true}, {false} false pairs of {4 * 35 * 34 // 2}")
    assert right == true
    assert false == 0
