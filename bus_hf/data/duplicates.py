"""Near-duplicates: images of one scan that were exported, cropped, marked or saved more than once.

Two images are near-duplicates when their 64 x 64 pictures, high-passed and evened in contrast, correlate above a
threshold at the best shift, or well above it once aligned. Comparing every pair like that would be slow, so a sieve
comes first: every pair is correlated at half the size, and only those that are somewhat alike there are compared. On
BUSI and BUS-BRA the sieve loses none of the pairs that a comparison of all with all finds. What a scanner's screen
around the scans makes alike is discounted at last (`screens`).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from bus_hf.data.screens import alike_inside

if TYPE_CHECKING:
    from bus_hf.data.dataset import Case

# Side of the small picture, largest shift that is tried, both in its pixels; sigma of the high-pass.
_SIDE = 64
_SHIFT = 5
_SIGMA = 6.0
# Contrast is evened down to this standard deviation (grey values), and clipped, so that marks and text weigh little.
_FLOOR = 3.0
_CLIP = 2.0
# A small picture that varies less shows nothing; those of scans vary by 0.5 to 1.
_FLAT = 0.05
# A correlation from _DOUBT on is tried again with an affine alignment (a crop, a stretch), which has to reach more,
# because its six free parameters fit strangers too: on 2,125 images, pairs of strangers reach 0.78.
_DOUBT = 0.35
_ALIGNED = 0.8
# Sieve: side of the half-size picture, and largest shift in its pixels.
_COARSE_SIDE = 32
_COARSE_SHIFT = 3


@dataclass(frozen=True)
class Sieve:
    """Which pairs are compared closely, after a correlation of all pairs at half the size.

    Attributes:
        min_correlation: pairs below are not compared.
        max_candidates: of one image. Bounds the cost where all images share a frame or an overlay.
        block: rows of one matrix product.
    """

    min_correlation: float = 0.4
    max_candidates: int = 64
    block: int = 1024


class Pair(NamedTuple):
    """Two near-duplicates, `i` < `j` (rows), and their correlation at the best shift or alignment."""

    i: int
    j: int
    score: float


@dataclass(frozen=True)
class Audit:
    """What is known about copies in a data set.

    Attributes:
        names: name of each case, in order; `pairs` count along it.
        pairs: near-duplicates, best first.
        groups: group of each case once near-duplicates are joined.
        conflicts: groups with more than one pathology.
        counts: images of each (source, pathology).
        identical: sets of names whose pixels are the same to the bit (MD5).
    """

    names: tuple[str, ...]
    pairs: tuple[Pair, ...]
    groups: tuple[str, ...]
    conflicts: frozenset[str]
    counts: dict[tuple[str, str], int]
    identical: tuple[tuple[str, ...], ...]


def near_duplicates(images: Sequence[np.ndarray], threshold: float = 0.6, sieve: Sieve = Sieve()) -> list[Pair]:
    """Pairs of images that show one scan.

    Args:
        images: uint8 (H, W) each, of any sizes.
        threshold: normalised cross-correlation from which two images count as one; well below the default the sieve
            loses some.
        sieve: which pairs are compared closely.

    Returns:
        Pairs, best first. Of a cluster of more copies than the sieve's candidates only the nearest are paired, which
        still connects it.
    """
    # OpenCV lets other threads run while it computes.
    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(small_picture, images))
        # Correlation means nothing where there is nothing to see.
        rows = [row for row, picture in enumerate(pictures) if picture.std() > _FLAT]
        if len(rows) < 2:
            return []
        seen = np.stack([pictures[row] for row in rows])
        candidates = sieve_pairs(seen, sieve)
        compared = pool.map(lambda i: _compare(seen, i, candidates[i], threshold), candidates)
        pairs = [Pair(rows[pair.i], rows[pair.j], pair.score) for pairs_of_row in compared for pair in pairs_of_row]
        same_scan = alike_inside(
            images,
            [pair[:2] for pair in pairs],
            lambda first, second: _likeness(small_picture(first), small_picture(second), threshold),
            threshold,
        )
        pairs = [pair for pair in pairs if pair[:2] in same_scan]
    return sorted(pairs, key=lambda pair: (-pair.score, pair.i, pair.j))


def join_groups(groups: Sequence[str], pairs: Iterable[Pair]) -> list[str]:
    """Unite groups that a pair connects; a united group bears the smallest of its members' names."""
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for pair in pairs:
        first, second = sorted((root(groups[pair.i]), root(groups[pair.j])))
        parent[second] = first
    return [root(group) for group in groups]


def conflicting(groups: Sequence[str], labels: Sequence[object]) -> set[str]:
    """Groups that hold more than one label."""
    labels_by_group: dict[str, set[object]] = defaultdict(set)
    for group, label in zip(groups, labels, strict=True):
        labels_by_group[group].add(label)
    return {group for group, values in labels_by_group.items() if len(values) > 1}


def audit(cases: Sequence[Case]) -> Audit:
    """Look for copies in decoded cases and for groups whose classes contradict each other."""
    pairs = near_duplicates([case.image for case in cases])
    groups = join_groups([case.group for case in cases], pairs)
    same: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        digest = hashlib.md5(repr(case.image.shape).encode() + case.image.tobytes(), usedforsecurity=False)
        same[digest.hexdigest()].append(case.name)
    return Audit(
        names=tuple(case.name for case in cases),
        pairs=tuple(pairs),
        groups=tuple(groups),
        conflicts=frozenset(conflicting(groups, [case.pathology for case in cases])),
        counts=dict(sorted(Counter((case.source, case.pathology) for case in cases).items())),
        identical=tuple(tuple(names) for names in same.values() if len(names) > 1),
    )


def paired_groups(result: Audit) -> dict[str, list[int]]:
    """Rows of each group of more than one image that a pair connects."""
    paired = {row for pair in result.pairs for row in (pair.i, pair.j)}
    groups: dict[str, list[int]] = {}
    for row, group in enumerate(result.groups):
        groups.setdefault(group, []).append(row)
    return {group: rows for group, rows in groups.items() if paired & set(rows)}


def contact_sheet(
    images: Sequence[np.ndarray], names: Sequence[str], pairs: Sequence[Pair], columns: int = 4, limit: int = 200
) -> np.ndarray:
    """Draw pairs side by side, each with its score and names.

    Args:
        images: uint8 (H, W) each.
        names: name of each image.
        pairs: rows to draw, at most `limit` of them.
        columns: pairs in a line.
        limit: so many pairs are drawn; the rest is not drawn.

    Returns:
        RGB uint8 (height, width, 3); white where nothing is drawn.
    """
    width, height, foot = 160, 128, 44
    shown = list(pairs)[:limit]
    lines = max(1, -(-len(shown) // columns))
    sheet = np.full((lines * (height + foot), columns * (2 * width + 8), 3), 255, np.uint8)
    for place, pair in enumerate(shown):
        top, left = place // columns * (height + foot), place % columns * (2 * width + 8)
        for side, row in enumerate((pair.i, pair.j)):
            x = left + side * width
            sheet[top : top + height, x : x + width] = _thumbnail(images[row], width, height)[..., None]
            _write(sheet, names[row].partition("/")[2][-26:], x + 2, top + height + 28)
        _write(sheet, f"{pair.score:.3f}", left + 2, top + height + 12)
    return sheet


def _write(sheet: np.ndarray, text: str, x: int, y: int) -> None:
    cv2.putText(sheet, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.33, (0, 0, 0), 1, cv2.LINE_AA)


def _thumbnail(image: np.ndarray, width: int, height: int) -> np.ndarray:
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    out = np.zeros((height, width), np.uint8)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    out[y : y + size[1], x : x + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return out


def small_picture(image: np.ndarray) -> np.ndarray:
    """Small picture of an image, float32 (64, 64): high-passed, contrast evened, clipped."""
    small = cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    high = small - cv2.GaussianBlur(small, (0, 0), _SIGMA)
    power = cv2.GaussianBlur(high * high, (0, 0), 1.5 * _SIGMA)
    return np.clip(high / np.sqrt(power + _FLOOR**2), -_CLIP, _CLIP)


def _compare(pictures: np.ndarray, i: int, others: Sequence[int], threshold: float) -> list[Pair]:
    """Near-duplicates of picture `i` (float32 (n, 64, 64)) among the others."""
    pairs = []
    for j in others:
        score = _likeness(pictures[i], pictures[j], threshold)
        if score > threshold:
            pairs.append(Pair(i, j, score))
    return pairs


def _likeness(first: np.ndarray, second: np.ndarray, threshold: float) -> float:
    """Correlation at the best shift; where that leaves doubt and an alignment is clear, that of the alignment."""
    score, shift = _correlation(first, second)
    if _DOUBT <= score <= threshold:
        aligned = _aligned(first, second, shift)
        return aligned if aligned > _ALIGNED else score
    return score


def _correlation(first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[int, int]]:
    """Best normalised cross-correlation within the largest shift, and that shift (right, down)."""
    inner = slice(_SHIFT, _SIDE - _SHIFT)
    scores = cv2.matchTemplate(first, second[inner, inner], cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(scores)
    return float(best), (x - _SHIFT, y - _SHIFT)


def _aligned(first: np.ndarray, second: np.ndarray, shift: tuple[int, int]) -> float:
    """Correlation after the best affine alignment, begun at a shift; -1 where none is found.

    Enhanced correlation coefficient: Evangelidis and Psarakis, IEEE TPAMI 30(10), 2008.
    """
    start = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-3)
    try:
        return float(
            cv2.findTransformECC(second, first, start, cv2.MOTION_AFFINE, stop, np.full_like(first, 255, np.uint8), 5)[
                0
            ]
        )
    except cv2.error:
        return -1.0


def sieve_pairs(pictures: np.ndarray, sieve: Sieve) -> dict[int, list[int]]:
    """For each row i the rows j > i whose pictures are somewhat alike at half the size and some shift.

    The one step whose cost grows with the square of the images: a few seconds for 2,000.

    Args:
        pictures: float32 (n, 64, 64), of `small_picture`.
        sieve: how alike they have to be.
    """
    coarse = np.stack([cv2.resize(picture, (_COARSE_SIDE,) * 2, interpolation=cv2.INTER_AREA) for picture in pictures])
    side, shifts = _COARSE_SIDE - 2 * _COARSE_SHIFT, range(2 * _COARSE_SHIFT + 1)
    inner = _standardised(coarse[:, _COARSE_SHIFT:-_COARSE_SHIFT, _COARSE_SHIFT:-_COARSE_SHIFT])
    candidates: dict[int, list[int]] = {}
    for start in range(0, len(coarse), sieve.block):
        block = coarse[start : start + sieve.block]
        likeness = np.full((len(block), len(coarse) - start), -1, np.float32)
        for down, right in product(shifts, shifts):
            moved = _standardised(block[:, down : down + side, right : right + side])
            np.maximum(likeness, moved @ inner[start:].T, out=likeness)
        for row, alike in enumerate(likeness):
            others = row + 1 + np.flatnonzero(alike[row + 1 :] >= sieve.min_correlation)
            if len(others):
                nearest = np.argsort(-alike[others], kind="stable")[: sieve.max_candidates]
                candidates[start + row] = sorted((start + others[nearest]).tolist())
    return candidates


def _standardised(pictures: np.ndarray) -> np.ndarray:
    """Rows of mean 0 and length 1, float32 (n, d), whose products are correlations."""
    rows = pictures.reshape(len(pictures), -1)
    rows = rows - rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
