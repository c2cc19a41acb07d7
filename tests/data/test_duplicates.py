from collections import Counter

import cv2
import numpy as np
import pytest

from bus_hf.data.dataset import Case
from bus_hf.data.duplicates import (
    Pair,
    Sieve,
    audit,
    conflicting,
    contact_sheet,
    join_groups,
    near_duplicates,
    sieve_pairs,
    small_picture,
)
from bus_hf.data.images import read_image


def _tissue(rng, shape):
    """Layers at three scales, float32 of about unit variance each."""
    out = np.zeros(shape, np.float32)
    for scale in (24, 10, 5):
        layer = rng.normal(size=shape).astype(np.float32)
        layer = cv2.GaussianBlur(layer, (0, 0), sigmaX=2 * scale, sigmaY=scale)
        out += layer / layer.std()
    return out


def _scan(seed, shape=(200, 260), common=0.0):
    """A picture with layers, a lesion, speckle, and the same fall of brightness with depth in all.

    `common` is the share of the tissue that all pictures have alike.
    """
    rng = np.random.default_rng(seed)
    tissue = np.sqrt(1 - common) * _tissue(rng, shape) + np.sqrt(common) * _tissue(np.random.default_rng(999), shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    x, y = rng.uniform(0.3, 0.7, 2) * (shape[1], shape[0])
    lesion = ((columns - x) / 35) ** 2 + ((rows - y) / 22) ** 2 < 1
    beam = 1.6 * np.exp(-rows / 120) * np.clip(1.2 - np.abs(columns - shape[1] / 2) / 150, 0, 1)
    grey = beam * (60 + 18 * tissue) * np.where(lesion, 0.35, 1.0) * rng.gamma(12, 1 / 12, shape)
    return grey.clip(0, 255).astype(np.uint8)


def _jpeg(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 25])[1], cv2.IMREAD_GRAYSCALE)


def _moved(image):
    move = np.array([[1, 0, 0.06 * image.shape[1]], [0, 1, -0.05 * image.shape[0]]], np.float32)
    return cv2.warpAffine(image, move, image.shape[::-1])


def _marked(image, size=12):
    out = image.copy()
    cv2.putText(out, "LT BREAST 10 OCL", (10, 185), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    for place in ((80, 90), (170, 90), (120, 60), (120, 130)):
        cv2.drawMarker(out, place, 255, cv2.MARKER_CROSS, size, 2)
    cv2.line(out, (80, 90), (170, 90), 255, 1)
    return out


def _turned(image):
    height, width = image.shape
    return cv2.warpAffine(image, cv2.getRotationMatrix2D((width / 2, height / 2), 8, 1), (width, height))


EXPORTS = {
    "jpeg": _jpeg,
    "moved": _moved,
    "smaller": lambda image: cv2.resize(image, None, fx=0.45, fy=0.45, interpolation=cv2.INTER_AREA),
    "larger": lambda image: cv2.resize(image, None, fx=1.8, fy=1.8, interpolation=cv2.INTER_CUBIC),
    "marked": _marked,
    "brighter": lambda image: (255 * (image / 255.0) ** 0.6).astype(np.uint8),
    "cropped": lambda image: image[24:, 34:],
    "turned": _turned,
    "all": lambda image: _jpeg(cv2.resize(_moved(_marked(image, 6)), None, fx=0.5, fy=0.5)),
}
STRANGERS = [_scan(seed) for seed in range(40)]


@pytest.mark.parametrize("export", EXPORTS)
def test_a_copy_is_found_and_a_stranger_is_not(export):
    copies = [EXPORTS[export](image) for image in STRANGERS[:5]]
    pairs = near_duplicates(STRANGERS + copies)
    assert {(pair.i, pair.j) for pair in pairs} == {(row, 40 + row) for row in range(5)}
    assert all(0.6 < pair.score <= 1.0001 for pair in pairs)


def test_images_that_only_look_alike_are_no_pair():
    assert near_duplicates([_scan(seed, common=0.45) for seed in range(12)]) == []


def test_pairs_come_best_first_and_the_threshold_cuts_them():
    images = [*STRANGERS[:20], STRANGERS[3].copy(), EXPORTS["all"](STRANGERS[5])]
    pairs = near_duplicates(images)
    assert [(pair.i, pair.j) for pair in pairs] == [(3, 20), (5, 21)]
    assert pairs[0].score > 0.999 > pairs[1].score
    assert [(pair.i, pair.j) for pair in near_duplicates(images, threshold=0.99)] == [(3, 20)]


def test_a_copy_in_a_crowd_of_copies_is_joined():
    crowd = [_jpeg(STRANGERS[0])[row : 190 + row] for row in range(10)] * 3
    images = [*STRANGERS[1:], *crowd]
    groups = join_groups([str(row) for row in range(len(images))], near_duplicates(images))
    assert len(set(groups[39:])) == 1
    assert len(set(groups)) == 40


def test_the_sieve_holds_across_its_blocks():
    images = [*STRANGERS, _jpeg(STRANGERS[6]), _moved(STRANGERS[7]), _jpeg(STRANGERS[39])]
    assert {(pair.i, pair.j) for pair in near_duplicates(images, sieve=Sieve(block=7))} == {(6, 40), (7, 41), (39, 42)}


def test_the_close_comparison_is_made_for_few_pairs_only():
    noise = np.random.default_rng(0).integers(0, 255, (400, 64, 64), dtype=np.uint8)
    pictures = np.stack([small_picture(image) for image in noise])
    few, more = (sum(map(len, sieve_pairs(pictures[:count], Sieve()).values())) for count in (200, 400))
    assert few <= 200 * 16
    assert more <= 200 * 16 * 2.2


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_images_have_no_pairs(count):
    assert near_duplicates(STRANGERS[:count]) == []


def test_two_images_are_enough():
    assert [(pair.i, pair.j) for pair in near_duplicates([STRANGERS[0], _jpeg(STRANGERS[0])])] == [(0, 1)]
    assert near_duplicates(STRANGERS[:2]) == []


def test_blank_images_are_no_copies_of_anything():
    blank = np.zeros((80, 80), np.uint8)
    assert near_duplicates([blank, blank, STRANGERS[0], np.full((80, 80), 200, np.uint8)]) == []


def test_groups_are_united_along_chains_and_named_after_the_smallest():
    groups = ["d", "case-2", "b", "case-2", "e", "a"]
    pairs = [Pair(0, 1, 0.9), Pair(3, 4, 0.8), Pair(2, 5, 0.7)]
    assert join_groups(groups, pairs) == ["case-2", "case-2", "a", "case-2", "case-2", "a"]
    assert join_groups(groups, reversed(pairs)) == join_groups(groups, pairs)
    assert join_groups(groups, []) == groups


def test_only_groups_with_two_labels_conflict():
    assert conflicting(["a", "a", "b", "b", "c"], [0, 1, 1, 1, 0]) == {"a"}


def _case(name, image, pathology, group=None):
    source = name.partition("/")[0]
    return Case(
        name, group or name, source, int(pathology == "malignant"), image, None, None, None, None, None, pathology
    )


def test_the_audit_tells_pairs_groups_conflicts_counts_and_identical_pixels():
    result = audit(
        [
            _case("x/a", STRANGERS[0], "benign"),
            _case("x/b", _jpeg(STRANGERS[0]), "malignant"),
            _case("x/c", STRANGERS[1], "benign"),
            _case("y/d", STRANGERS[1].copy(), "normal"),
            _case("y/e", STRANGERS[2], "malignant", "y/case-1"),
            _case("y/f", STRANGERS[3], "malignant", "y/case-1"),
            _case("y/g", _moved(STRANGERS[4]), "benign"),
            _case("y/h", STRANGERS[4], "benign"),
        ]
    )
    assert {(result.names[pair.i], result.names[pair.j]) for pair in result.pairs} == {
        ("x/a", "x/b"),
        ("x/c", "y/d"),
        ("y/g", "y/h"),
    }
    assert result.groups == ("x/a", "x/a", "x/c", "x/c", "y/case-1", "y/case-1", "y/g", "y/g")
    assert result.conflicts == {"x/a", "x/c"}
    assert result.identical == (("x/c", "y/d"),)
    assert result.counts == {
        ("x", "benign"): 2,
        ("x", "malignant"): 1,
        ("y", "benign"): 2,
        ("y", "malignant"): 2,
        ("y", "normal"): 1,
    }


def test_the_contact_sheet_draws_each_pair():
    images = [np.full((50, 60), grey, np.uint8) for grey in (60, 120, 180)]
    sheet = contact_sheet(images, ["x/a", "x/b", "x/c"], [Pair(0, 1, 0.9), Pair(1, 2, 0.8)], columns=1)
    assert sheet.dtype == np.uint8
    assert sheet.ndim == 3
    assert sheet.shape[2] == 3
    centres = [[int(sheet[top + 64, left, 0]) for left in (80, 240)] for top in (0, sheet.shape[0] // 2)]
    assert centres == [[60, 120], [120, 180]]
    one = contact_sheet(images, ["x/a", "x/b", "x/c"], [Pair(0, 1, 0.9), Pair(1, 2, 0.8)], columns=1, limit=1)
    assert one.shape[0] == sheet.shape[0] // 2
    assert (contact_sheet(images, ["a"] * 3, []) == 255).all()


# The real data.


@pytest.fixture(scope="module")
def busi(shared_data):
    paths = [path for path in sorted((shared_data / "busi").glob("*/*.png")) if "_mask" not in path.name]
    return [path.stem for path in paths], [read_image(path) for path in paths]


def test_the_known_duplicates_of_busi_are_found(busi):
    names, images = busi
    pairs = near_duplicates(images)
    groups = join_groups(names, pairs)
    sizes = Counter(groups)
    assert len(pairs) == pytest.approx(193, abs=4)
    assert sum(size > 1 for size in sizes.values()) == pytest.approx(123, abs=3)
    classes = [name.split()[0] for name in names]
    assert len(conflicting(groups, classes)) == 8
    group_of = dict(zip(names, groups, strict=True))
    for first, second in (
        ("benign (433)", "malignant (145)"),
        ("benign (437)", "normal (34)"),
        ("benign (333)", "malignant (78)"),
        ("malignant (65)", "malignant (66)"),
    ):
        assert group_of[first] == group_of[second]


def test_the_sieve_loses_no_pair_of_cancers_of_busi(busi):
    names, images = busi
    rows = [row for row, name in enumerate(names) if name.startswith("malignant")]
    some = [images[row] for row in rows]
    sieved = near_duplicates(some)
    assert sieved == near_duplicates(some, sieve=Sieve(min_correlation=-2.0, max_candidates=len(some)))
    group_of = dict(zip([names[row] for row in rows], join_groups(list(map(str, rows)), sieved), strict=True))
    # Crops and stretches of one scan that an earlier sieve lost.
    assert group_of["malignant (98)"] == group_of["malignant (99)"]
    assert group_of["malignant (95)"] == group_of["malignant (96)"] == group_of["malignant (97)"]


def test_pairs_of_busbra_lie_within_a_patient_but_for_one_scan_under_two_numbers(shared_data):
    paths = sorted((shared_data / "busbra" / "Images").glob("*.png"))[:500]
    patients = [path.stem[:8] for path in paths]
    pairs = near_duplicates([read_image(path) for path in paths])
    assert len(pairs) >= 3
    across = [(paths[pair.i].stem, paths[pair.j].stem) for pair in pairs if patients[pair.i] != patients[pair.j]]
    assert across == [("bus_0056-r", "bus_0091-r")]
