"""Intervals by resampling groups: images of one patient or one scan are not independent of one another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from numbers import Number
from typing import Any

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.metrics import Estimate, wilson
from bus_hf.text import says_unknown, without_decimals

RESAMPLES = 2000
# Resamples that are computed at a time: bounds memory.
_CHUNK = 250
# Resamples times rows that are kept for the next call (8 bytes each).
_KEPT = 8_000_000

# Called with y_true, y_score or y_pred, and sample_weight: one of `metrics`.
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray | None], Any]
# What each rate counts: the metric, and which cases it is a share of, given y_true and y_pred.
_RATES: dict[str, tuple[Metric, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "sensitivity": (metrics.sensitivity, lambda y_true, _: y_true == 1),
    "specificity": (metrics.specificity, lambda y_true, _: y_true == 0),
    "ppv": (metrics.ppv, lambda _, y_pred: y_pred),
    "npv": (metrics.npv, lambda _, y_pred: ~y_pred),
    "accuracy": (metrics.accuracy, lambda y_true, _: np.ones(len(y_true), bool)),
}


def group_bootstrap(
    metric: Metric,
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    n: int = RESAMPLES,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> Estimate:
    """Value of a metric with its 95 % percentile interval (B. Efron, R. Tibshirani, 1993, ch. 13), by groups.

    Args:
        metric: one of `metrics`.
        y_true: int (rows,).
        y_score: (rows,) whatever the metric takes.
        groups: group of each row; whole groups are drawn with replacement.
        n: number of resamples.
        seed: of the draws.
        sample_weight: float (rows,), how much each row counts; 1 where None.

    Returns:
        The estimate; bounds are NaN where the metric is undefined in more than half of the resamples.
    """
    value = float(metric(y_true, y_score, sample_weight))
    weights = 1.0 if sample_weight is None else sample_weight
    draws = [metric(y_true, y_score, drawn * weights) for drawn in resamples(groups, n, seed)]
    return Estimate(value, *interval(np.concatenate(draws)))


def rates(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    names: Sequence[str] = ("sensitivity", "specificity"),
    n: int = RESAMPLES,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Rates of predictions, each by `group_bootstrap` and `settled` on the groups of the cases that it counts.

    Args:
        y_true: int (rows,), 1 malignant.
        y_pred: bool (rows,), whether a case is predicted positive.
        groups: group of each row.
        names: of "sensitivity", "specificity", "ppv", "npv" and "accuracy".
        n: number of resamples.
        seed: of the draws.
        sample_weight: float (rows,), how much each row counts; 1 where None.
    """
    groups = numbered(groups)
    return {name: _rate(name, y_true, y_pred, groups, n, seed, sample_weight) for name in names}


def counted(name: str, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Which cases the rate `name` is a share of, bool (n,)."""
    return _RATES[name][1](y_true, y_pred)


def _rate(
    name: str,
    y_true: np.ndarray,
    y_pred: np.ndarray,
    groups: np.ndarray,
    n: int,
    seed: int,
    sample_weight: np.ndarray | None,
) -> Estimate:
    estimate = group_bootstrap(_RATES[name][0], y_true, y_pred, groups, n, seed, sample_weight)
    return settled(estimate, groups[counted(name, y_true, y_pred)])


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
    metric: Metric,
    y_true: np.ndarray,
    y_score: np.ndarray,
    others: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    n: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Estimate, float]:
    """Difference of a metric between two models on the same cases, and its two-sided bootstrap p-value.

    `y_score` are the scores of the one model, `others` those of the other, float (rows,).
    """
    value = float(metric(y_true, y_score, None)) - float(metric(y_true, others, None))
    draws = np.concatenate([metric(y_true, y_score, w) - metric(y_true, others, w) for w in resamples(groups, n, seed)])
    known = draws[~np.isnan(draws)]
    # Never 0: n resamples cannot show a smaller probability than 1 / (n + 1).
    tail = (1 + min((known <= 0).sum(), (known >= 0).sum())) / (1 + len(known))
    return Estimate(value, *interval(draws)), float(min(1.0, 2 * tail))


def numbered(groups: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Groups as numbers from 0, intp (rows,); 1, 1.0 and "1" are one group.

    One that is not known (None, NaN, NaT, NA, or a text that says so) is of its row alone.

    Raises:
        BusError: a group is no name but a list, say.
    """
    if isinstance(groups, np.ndarray) and groups.dtype.kind in "iub":
        return np.unique(groups, return_inverse=True)[1].astype(np.intp)
    values = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    names = [_name(value) for value in values]
    if all(names) and all(isinstance(value, str) for value in values):
        return np.unique(np.asarray(names, str), return_inverse=True)[1].astype(np.intp)
    # Numbered as they come, as rows without groups are.
    seen: dict[str | int, int] = {}
    return np.array([seen.setdefault(name or row, len(seen)) for row, name in enumerate(names)], np.intp)


def _name(value: Any) -> str:
    """A group's name, whole numbers without decimals; "" where it is not known."""
    if isinstance(value, str):
        return "" if says_unknown(value) else without_decimals(value.strip())
    try:
        hash(value)
    except TypeError:
        raise BusError(
            f"a group is of the kind {type(value).__name__}, which names nothing",
            where="groups",
            remedy="give a text or a number a case, or None where the group is not known",
        ) from None
    try:
        # NaN and NaT differ from themselves.
        if value is None or value != value:
            return ""
        return str(int(value)) if isinstance(value, Number) and value == int(value) else str(value)  # type: ignore[call-overload]
    except (TypeError, ArithmeticError):
        # NA answers neither yes nor no; infinity is no whole number.
        return ""


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
    equal = np.full(count, 1 / count)
    drawn = tuple(rng.multinomial(count, equal, size=size).astype(float)[:, rows] for size in sizes)
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
