"""Screens of scanners, for near-duplicates: text, bars, ticks and frames around two scans do not make them alike.

Each image is held against the images that it seems to be a copy of. What most of them show as it does, grey value by
grey value, is either the screen around the scan or, between true copies, everything. The largest part that is not
shared is the scan: two images are copies only if they are alike there too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import cv2
import numpy as np

# Side of the grey thumbnails, and how far two of them may differ at a pixel that they share (grey values).
_SIDE = 64
_SHARED = 4
# Shares of the picture between which the box of what is not shared is looked at alone: less is a mark, more is all.
_LEAST, _MOST = 0.05, 0.9
# What only two images share may be a copy that was cut or marked. So a third one has to be like them, or to show this
# share of what they have in common around the box; it is looked for among so many images of the set.
_WITNESS = 0.8
_ASKED = 512

Pair = tuple[int, int]
Box = tuple[slice, slice]


def alike_inside(
    images: Sequence[np.ndarray],
    pairs: Iterable[Pair],
    likeness: Callable[[np.ndarray, np.ndarray], float],
    threshold: float,
) -> set[Pair]:
    """Pairs that are alike inside the screen as well.

    Args:
        images: uint8 (H, W) each.
        pairs: rows of images that are alike as a whole.
        likeness: of two images.
        threshold: likeness that has to be passed.

    Returns:
        Those of the pairs that stay.
    """
    pairs = list(pairs)
    boxes = _boxes(images, pairs)
    kept, scans = set(), defaultdict(list)
    for i, j in pairs:
        box = boxes.get((i, j))
        if box is None or likeness(_cut(images[i], box), _cut(images[j], box)) > threshold:
            kept.add((i, j))
        else:
            scans[i].append(box)
            scans[j].append(box)
    # Where a screen was recognised, the scan in it is known, for pairs across two screens too.
    known = {row: _middle(scan_boxes) for row, scan_boxes in scans.items()}
    for i, j in list(kept):
        if i in known and j in known:
            box = _common(known[i], known[j])
            if (
                min(side.stop - side.start for side in box) > 0
                and likeness(_cut(images[i], box), _cut(images[j], box)) <= threshold
            ):
                kept.remove((i, j))
    return kept


def _boxes(images: Sequence[np.ndarray], pairs: Sequence[Pair]) -> dict[Pair, Box]:
    """Where a scan seems to lie in a shared screen, for each pair of which that can be told."""
    small = {row: _thumbnail(images[row]) for pair in pairs for row in pair}
    partners = Counter(row for pair in pairs for row in pair)
    differing = {row: np.zeros((_SIDE, _SIDE), np.int32) for row in small}
    for i, j in pairs:
        apart = np.abs(small[i] - small[j]) > _SHARED
        differing[i] += apart
        differing[j] += apart
    unshared = {row: count > 0.5 * partners[row] for row, count in differing.items()}
    others = range(0, len(images), -(-len(images) // _ASKED) or 1)
    sample = {row: small[row] if row in small else _thumbnail(images[row]) for row in others} if pairs else {}
    inside = {}
    for i, j in pairs:
        rows, columns = box = _largest(unshared[i] | unshared[j])
        if not _LEAST < (rows.stop - rows.start) * (columns.stop - columns.start) / _SIDE**2 < _MOST:
            continue
        around = np.abs(small[i] - small[j]) <= _SHARED
        around[box] = False
        witnesses = [other for row, other in sample.items() if row not in (i, j)]
        if max(partners[i], partners[j]) > 1 or _shown(small[i][around], [other[around] for other in witnesses]):
            inside[i, j] = box
    return inside


def _shown(values: np.ndarray, others: Sequence[np.ndarray]) -> bool:
    """Whether one of the others, (n,) each as the values are, has most of them."""
    return any((np.abs(other - values) <= _SHARED).mean() >= _WITNESS for other in others if len(other))


def _middle(boxes: Sequence[Box]) -> Box:
    edges = np.median([(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in boxes], axis=0)
    top, bottom, left, right = (int(edge) for edge in edges)
    return slice(top, bottom), slice(left, right)


def _common(first: Box, second: Box) -> Box:
    rows, columns = zip(first, second, strict=True)
    return (
        slice(max(part.start for part in rows), min(part.stop for part in rows)),
        slice(max(part.start for part in columns), min(part.stop for part in columns)),
    )


def _thumbnail(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)


def _largest(mask: np.ndarray) -> Box:
    """Box (rows, columns) inside the largest connected part of bool (64, 64); empty where there is none."""
    # A margin, as closing would widen what lies near the edge.
    wide = np.pad(mask.astype(np.uint8), 4)
    opened = cv2.morphologyEx(wide, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    solid = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))[4:-4, 4:-4]
    _, _, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(solid))
    if len(stats) < 2:
        return slice(0, 0), slice(0, 0)
    left, top, width, height = map(int, max(stats[1:], key=lambda row: row[cv2.CC_STAT_AREA])[:4])
    # Its outermost pixels hold the frame, too.
    return slice(top + 1, top + height - 1), slice(left + 1, left + width - 1)


def _cut(image: np.ndarray, box: Box) -> np.ndarray:
    """The part of uint8 (H, W) that a box of its thumbnail covers."""
    sides = zip(box, image.shape, strict=True)
    rows, columns = (slice(part.start * side // _SIDE, -(-part.stop * side // _SIDE)) for part, side in sides)
    return image[rows, columns]
