"""Metrics of a binary classifier. Every function takes row weights, so that one definition serves value and bootstrap.

Shapes: `y_true` int (n,) of 0 and 1; `y_score` float (n,), logits or probabilities; `y_pred` bool (n,), whether a case
is predicted positive; `sample_weight` float (..., n), each row one resample: the result then has the shape (...,).
A metric that is not defined (no case of a class) is NaN. A score that is not finite is a BusError.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from bus_hf.errors import BusError


class Estimate(NamedTuple):
    """A metric with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """JSON-ready, to six decimals; what is not defined is None."""
        return {key: None if np.isnan(number) else round(float(number), 6) for key, number in self._asdict().items()}


def auroc(y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Area under the ROC curve: how often a positive scores above a negative, ties counted half.

    Example:
        >>> float(auroc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8])))
        0.75
    """
    positive, negative = _by_score(y_true, y_score, sample_weight)
    wins = np.cumsum(negative, axis=-1) - 0.5 * negative
    with np.errstate(invalid="ignore", divide="ignore"):
        return (positive * wins).sum(-1) / (positive.sum(-1) * negative.sum(-1))


def auprc(y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Average precision: mean of the precision at each threshold, weighted by the recall gained there.

    Example:
        >>> round(float(auprc(np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.35, 0.8]))), 3)
        0.833
    """
    positive, negative = _by_score(y_true, y_score, sample_weight)
    true_positive = np.cumsum(positive[..., ::-1], axis=-1)
    predicted_positive = true_positive + np.cumsum(negative[..., ::-1], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(predicted_positive > 0, true_positive / predicted_positive, 0)
        return (precision * positive[..., ::-1]).sum(-1) / positive.sum(-1)


def brier(y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Mean squared distance of probability and label (G. W. Brier, 1950).

    Example:
        >>> round(float(brier(np.array([0, 1]), np.array([0.1, 0.8]))), 3)
        0.025
    """
    _check_finite(y_score)
    return weighted_mean((y_score - y_true) ** 2, sample_weight)


def ece(y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None, bins: int = 10) -> Any:
    """Expected calibration error over equal-width bins of probability (M. P. Naeini et al., AAAI 2015).

    Example:
        >>> round(float(ece(np.array([0, 1, 1, 1]), np.array([0.05, 0.05, 0.95, 0.95]))), 3)
        0.25
    """
    _check_finite(y_score)
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    place = np.clip((y_score * bins).astype(int), 0, bins - 1)
    gap = y_score - y_true
    total = sum(np.abs((weights * (gap * (place == k))).sum(-1)) for k in range(bins))
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / weights.sum(-1)


def sensitivity(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Share of the positives that are predicted positive.

    Example:
        >>> float(sensitivity(np.array([1, 1, 1, 1, 0]), np.array([True, True, True, False, False])))
        0.75
    """
    return _share(y_pred, y_true == 1, sample_weight)


def specificity(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Share of the negatives that are predicted negative.

    Example:
        >>> float(specificity(np.array([1, 0, 0]), np.array([True, True, False])))
        0.5
    """
    return _share(~y_pred.astype(bool), y_true == 0, sample_weight)


def accuracy(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Share of the cases that are predicted rightly; classes may be several, int (n,)."""
    return weighted_mean((y_true == y_pred).astype(float), sample_weight)


def f1(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Harmonic mean of precision and sensitivity."""
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    true_positive = (weights * (y_pred & (y_true == 1))).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * true_positive / ((weights * y_pred).sum(-1) + (weights * (y_true == 1)).sum(-1))


def ppv(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Positive predictive value at the prevalence of the cases: share of the predicted positive that are positive.

    Example:
        >>> float(ppv(np.array([1, 0, 0]), np.array([True, True, False])))
        0.5
    """
    return _share(y_true == 1, y_pred, sample_weight)


def npv(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Negative predictive value at the prevalence of the cases: share of the predicted negative that are negative."""
    return _share(y_true == 0, ~y_pred.astype(bool), sample_weight)


def predictive_values(sensitivity: Any, specificity: Any, prevalence: float) -> tuple[Any, Any]:
    """Positive and negative predictive value at a stated prevalence, by Bayes' rule; NaN where nobody is predicted so.

    Example:
        >>> ppv_of_screening, _ = predictive_values(0.9, 0.8, 0.01)
        >>> round(float(ppv_of_screening), 3)
        0.043
    """
    absent = 1 - prevalence
    positive, negative = (
        sensitivity * prevalence + (1 - specificity) * absent,
        (1 - sensitivity) * prevalence + specificity * absent,
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.divide(sensitivity * prevalence, positive), np.divide(specificity * absent, negative)


def predictive_value(prevalence: float, place: int) -> Any:
    """The metric PPV (`place` 0) or NPV (1) at a stated prevalence."""

    def metric(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
        rates = sensitivity(y_true, y_pred, sample_weight), specificity(y_true, y_pred, sample_weight)
        return predictive_values(*rates, prevalence)[place]

    return metric


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> Estimate:
    """Wilson score interval of a rate (E. B. Wilson, 1927); for cases that are independent of one another.

    Example:
        >>> [round(float(number), 4) for number in wilson(31, 32)]
        [0.9688, 0.8426, 0.9945]
    """
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"))
    rate, square = successes / n, z * z / n
    centre = (rate + square / 2) / (1 + square)
    half = z / (1 + square) * np.sqrt(rate * (1 - rate) / n + square / (4 * n))
    return Estimate(rate, max(0.0, centre - half), min(1.0, centre + half))


def weighted_mean(values: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """Mean of values (n,); NaN where no row has weight."""
    if sample_weight is None:
        return float(np.mean(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sample_weight * values).sum(-1) / sample_weight.sum(-1)


def mean_score(_: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
    """The metric that is the mean of the scores themselves, whatever the labels."""
    return weighted_mean(y_score, sample_weight)


def _check_finite(y_score: np.ndarray) -> None:
    """Refuse scores that are not finite: sorting would give them a place that means nothing."""
    if not np.isfinite(np.asarray(y_score, float)).all():
        raise BusError("a score is not a finite number", remedy="check what gave it; a training may have diverged")


def _by_score(
    y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, ascending; BusError for one that has no place."""
    _check_finite(y_score)
    weights = np.ones(len(y_true)) if sample_weight is None else np.asarray(sample_weight, float)
    order = np.argsort(y_score, kind="stable")
    ordered = np.asarray(y_score)[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    is_positive = np.asarray(y_true)[order] == 1
    weights = weights[..., order]
    positive, negative = weights * is_positive, weights * ~is_positive
    if len(starts) == len(ordered):  # without ties there is nothing to add up, which spares most of the time
        return positive, negative
    return np.add.reduceat(positive, starts, axis=-1), np.add.reduceat(negative, starts, axis=-1)


def _share(successes: np.ndarray, among: np.ndarray, sample_weight: np.ndarray | None) -> Any:
    weights = np.ones(len(among)) if sample_weight is None else sample_weight
    with np.errstate(invalid="ignore", divide="ignore"):
        return (weights * (successes & among)).sum(-1) / (weights * among).sum(-1)
