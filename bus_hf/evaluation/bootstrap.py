"""Intervals by resampling groups: images of one patient or one scan are not independent of one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bus_hf.evaluation.figures import Estimate, wilson

RESAMPLES = 2000
# Resamples that are computed at a time: bounds memory.
_CHUNK = 250
# Resamples times rows that are kept for the next call (8 bytes each).
_KEPT = 8_000_000

Statistic = Callable[[np.ndarray, np.ndarray, np.ndarray | None], Any]


def group_bootstrap(
    statistic: Statistic,
    labels: np.ndarray,
    scores: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    n: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Value of a statistic with its 95 % percentile interval (B. Efron, R. Tibshirani, 1993, ch. 13), by groups.

    Args:
        statistic: one of `figures`, called with labels, scores and row weights.
        labels: int (rows,).
        scores: (rows,) whatever the statistic takes.
        groups: group of each row; whole groups are drawn with replacement.
        n: number of resamples.
        seed: of the draws.

    Returns:
        The estimate; bounds are NaN where the statistic is undefined in more than half of the resamples.
    """
    value = float(statistic(labels, scores, None))
    draws = [statistic(labels, scores, weights) for weights in resamples(groups, n, seed)]
    return Estimate(value, *interval(np.concatenate(draws)))


def settled(rate: Estimate, groups: Sequence[Any] | np.ndarray) -> Estimate:
    """A rate with bounds that mean something where all its cases agree.

    At 0 or 1 no resample differs from the cases, and the bootstrap would claim certainty. The bounds are then those of
    Wilson's interval with each group counted once.

    Args:
        rate: by bootstrap.
        groups: group of each case that the rate counts.
    """
    if rate.value not in (0.0, 1.0):
        return rate
    count = len(np.unique(numbered(groups)))
    bounds = wilson(round(rate.value) * count, count)
    return Estimate(rate.value, bounds.low, bounds.high)


def paired_difference(
    statistic: Statistic,
    labels: np.ndarray,
    scores: np.ndarray,
    others: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    n: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Estimate, float]:
    """Difference of a statistic between two readers of the same cases, and its two-sided bootstrap p-value."""
    value = float(statistic(labels, scores, None)) - float(statistic(labels, others, None))
    draws = np.concatenate(
        [statistic(labels, scores, w) - statistic(labels, others, w) for w in resamples(groups, n, seed)]
    )
    known = draws[~np.isnan(draws)]
    # Never 0: n resamples cannot show a smaller chance than 1 / (n + 1).
    tail = (1 + min((known <= 0).sum(), (known >= 0).sum())) / (1 + len(known))
    return Estimate(value, *interval(draws)), float(min(1.0, 2 * tail))


def numbered(groups: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Groups as numbers from 0, intp (rows,). One that is not known (None, NaN, NaT, NA, "") is of its row alone."""
    if isinstance(groups, np.ndarray) and groups.dtype.kind in "iub":
        return np.unique(groups, return_inverse=True)[1].astype(np.intp)
    values = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if all(isinstance(value, str) and value.strip() for value in values):
        return np.unique(np.asarray(values, str), return_inverse=True)[1].astype(np.intp)
    seen: dict[Any, int] = {}
    return np.array(
        [seen.setdefault(("row", row) if _unknown(value) else value, len(seen)) for row, value in enumerate(values)],
        np.intp,
    )


def _unknown(value: Any) -> bool:
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    try:
        # NaN and NaT differ from themselves.
        return bool(value != value)
    except TypeError:
        # NA answers neither yes nor no.
        return True


def resamples(groups: Sequence[Any] | np.ndarray, n: int = RESAMPLES, seed: int = 0) -> list[np.ndarray]:
    """Row weights of `n` resamples of whole groups: how often each row was drawn, in chunks of float (<=250, rows)."""
    place = numbered(groups)
    draw = _kept if n * len(place) <= _KEPT else _drawn
    return list(draw(place.astype(np.intp).tobytes(), n, seed))


def _drawn(place: bytes, n: int, seed: int) -> tuple[np.ndarray, ...]:
    """`resamples` of rows whose groups are numbered from 0, as bytes of intp (rows,); nobody may write into them."""
    rows = np.frombuffer(place, np.intp)
    count = int(rows.max()) + 1
    rng = np.random.default_rng(seed)
    sizes = [min(_CHUNK, n - start) for start in range(0, n, _CHUNK)]
    chances = np.full(count, 1 / count)
    drawn = tuple(rng.multinomial(count, chances, size=size).astype(float)[:, rows] for size in sizes)
    for chunk in drawn:
        chunk.flags.writeable = False
    return drawn


# One report asks for the same resamples hundreds of times, and drawing them takes longer than reading them.
_kept = lru_cache(maxsize=4)(_drawn)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the defined draws; NaN where more than half are undefined."""
    known = draws[~np.isnan(draws)]
    if len(known) * 2 < len(draws) or not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, (2.5, 97.5))
    return float(low), float(high)
