"""Figures of a binary reader. Every function takes row weights, so that one definition serves value and bootstrap.

Shapes: labels int (n,) of 0 and 1; scores or probabilities float (n,); weights float (..., n), each row of it one
resample; the result then has the shape (...,). Where a figure is not defined (no case of a class), it is NaN.
Scores and probabilities that are not finite are a BusError.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bus_hf.errors import BusError


class Estimate(NamedTuple):
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready: what is not defined is None."""
        return {key: None if np.isnan(number) else round(float(number), 6) for key, number in self._asdict().items()}


def auroc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counted half."""
    positive, negative = _by_score(labels, scores, weights)
    wins = np.cumsum(negative, axis=-1) - 0.5 * negative
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * wins).sum(-1) / (positive.sum(-1) * negative.sum(-1))


def auprc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Average precision: mean of the precision at each threshold, weighted by the recall gained there."""
    positive, negative = _by_score(labels, scores, weights)
    true = np.cumsum(positive[..., ::-1], axis=-1)
    called = true + np.cumsum(negative[..., ::-1], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, true / called, 0)
        return (precision * positive[..., ::-1]).sum(-1) / positive.sum(-1)


def brier(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Mean squared distance of probability and label (G. W. Brier, 1950)."""
    _known(probabilities)
    return _mean((probabilities - labels) ** 2, weights)


def ece(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None, bins: int = 10) -> Any:
    """Expected calibration error over equal-width bins of probability (M. P. Naeini et al., AAAI 2015)."""
    _known(probabilities)
    rows = np.ones(len(labels)) if weights is None else weights
    place = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    gap = probabilities - labels
    total = sum(np.abs((rows * (gap * (place == k))).sum(-1)) for k in range(bins))
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / rows.sum(-1)


def sensitivity(labels: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Share of the positives that are called positive; `called` is bool (n,)."""
    return _share(called, labels == 1, weights)


def specificity(labels: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Share of the negatives that are not called positive; `called` is bool (n,)."""
    return _share(~called.astype(bool), labels == 0, weights)


def accuracy(labels: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Share of the cases that are called rightly; `called` is bool (n,)."""
    return _mean((called == (labels == 1)).astype(float), weights)


def f1(labels: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Harmonic mean of precision and sensitivity; `called` is bool (n,)."""
    rows = np.ones(len(labels)) if weights is None else weights
    hits = (rows * (called & (labels == 1))).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hits / ((rows * called).sum(-1) + (rows * (labels == 1)).sum(-1))


def ppv(labels: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Positive predictive value at the cases' own prevalence: share of the called that are positive."""
    return _share(labels == 1, called, weights)


def npv(labels: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Negative predictive value at the cases' own prevalence: share of those not called that are negative."""
    return _share(labels == 0, ~called.astype(bool), weights)


def predictive_values(sensitivity: Any, specificity: Any, prevalence: float) -> tuple[Any, Any]:
    """Positive and negative predictive value at a stated prevalence, by Bayes' rule; NaN where nobody is called so."""
    ill, well = prevalence, 1 - prevalence
    called, cleared = sensitivity * ill + (1 - specificity) * well, (1 - sensitivity) * ill + specificity * well
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(sensitivity * ill, called), np.divide(specificity * well, cleared)


def predictive_value(prevalence: float, place: int) -> Any:
    """The statistic PPV (`place` 0) or NPV (1) of calls, bool (n,), at a stated prevalence."""

    def statistic(labels: np.ndarray, called: np.ndarray, weights: np.ndarray | None = None) -> Any:
        found, cleared = sensitivity(labels, called, weights), specificity(labels, called, weights)
        return predictive_values(found, cleared, prevalence)[place]

    return statistic


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> Estimate:
    """Wilson score interval of a rate (E. B. Wilson, 1927); for cases that are independent of one another."""
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    rate, square = successes / n, z * z / n
    centre = (rate + square / 2) / (1 + square)
    half = z / (1 + square) * np.sqrt(rate * (1 - rate) / n + square / (4 * n))
    return Estimate(rate, max(0.0, centre - half), min(1.0, centre + half))


def _known(scores: np.ndarray) -> None:
    """Refuse scores that are not finite: sorting would give them a place that means nothing."""
    if not np.isfinite(np.asarray(scores, float)).all():
        raise BusError("a score is not a finite number", remedy="check what gave it; a training may have diverged")


def _by_score(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, ascending; BusError for one that has no place."""
    _known(scores)
    rows = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
    order = np.argsort(scores, kind="stable")
    ordered = np.asarray(scores)[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ill = np.asarray(labels)[order] == 1
    sorted_rows = rows[..., order]
    positive, negative = sorted_rows * ill, sorted_rows * ~ill
    if len(starts) == len(ordered):  # without ties there is nothing to add up, which spares most of the time
        return positive, negative
    return np.add.reduceat(positive, starts, axis=-1), np.add.reduceat(negative, starts, axis=-1)


def _mean(values: np.ndarray, weights: np.ndarray | None) -> Any:
    if weights is None:
        return float(np.mean(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * values).sum(-1) / weights.sum(-1)


def _share(hits: np.ndarray, among: np.ndarray, weights: np.ndarray | None) -> Any:
    rows = np.ones(len(among)) if weights is None else weights
    with np.errstate(invalid="ignore", divide="ignore"):
        return (rows * (hits & among)).sum(-1) / (rows * among).sum(-1)
