"""Squares with the grey values of another hospital: histogram specification on training images of other sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from bus_hf.data.dataset import Case
from bus_hf.errors import BusError

# How far a square goes towards the other distribution.
_SHARE = (0.5, 1.0)


class GreyExchange:
    """Gives a square the distribution of grey values of a training image of another source.

    Histogram specification (R. C. Gonzalez, R. E. Woods, "Digital Image Processing", 4th ed. 2018, 3.3): each grey
    value becomes the one of equal rank in the other image. Pixels of value 0 lie outside the beam: they stay 0 and do
    not count.

    Args:
        cases: training images; no others give their grey values.
        probability: that a square is changed.

    Raises:
        BusError: there is only one source.
    """

    def __init__(self, cases: Sequence[Case], probability: float) -> None:
        self._probability = probability
        self._ranks: dict[str, list[np.ndarray]] = defaultdict(list)
        for case in cases:
            self._ranks[case.source].append(_ranks(case.image))
        if len(self._ranks) < 2:
            raise BusError(
                "grey values cannot be exchanged between the images of one source",
                where="training config",
                remedy="set grey_exchange to 0, or give data of several sources",
            )

    def __call__(self, square: np.ndarray, source: str, rng: np.random.Generator) -> np.ndarray:
        """Change a uint8 (S, S) square of `source`, or return it as it is."""
        if rng.random() >= self._probability:
            return square
        others = [ranks for name, ranks in self._ranks.items() if name != source]
        target = others[rng.integers(len(others))]
        matched = np.interp(_ranks(square), target[rng.integers(len(target))], np.arange(256))
        share = rng.uniform(*_SHARE)
        table = np.clip((1 - share) * np.arange(256) + share * matched, 1, 255).round().astype(np.uint8)
        table[0] = 0
        return table[square]


def _ranks(image: np.ndarray) -> np.ndarray:
    """Share of an image's pixels above 0 that do not exceed each grey value, float64 (256,), strictly rising."""
    counts = np.bincount(image.ravel(), minlength=256).astype(float)
    # A value that no pixel has keeps a rank of its own, so that ranks can be looked up both ways.
    counts[1:] += 1e-6 * max(counts[1:].sum(), 1.0)
    counts[0] = 0.0
    return np.asarray(np.cumsum(counts) / counts.sum())
