"""Temperature, bias and operating points, fitted on logits of images that no member trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import RESAMPLES, interval, numbered, rates, resamples
from bus_hf.probabilities import sigmoid

# How many of 1000 cancers an operating point may miss.
POINTS = {"miss_10_in_100": 0.90, "miss_5_in_100": 0.95, "miss_25_in_1000": 0.975}
# Groups of each class that a calibration needs at the least.
MIN_GROUPS = 10
_TEMPERATURES, _BIASES = (0.05, 20.0), (-20.0, 20.0)
# Standard deviations of a normal prior on the logarithm of the temperature and on the bias, around the values that are
# kept where the cases say nothing: what a few cases claim is held near those, and hundreds of cases outweigh it.
_PRIOR = (1.0, 3.0)
_CROSS_FIT = 10


class Scale(NamedTuple):
    """Calibration of one logit: probability = sigmoid(logit / temperature + bias) (J. Platt, 1999)."""

    temperature: float = 1.0
    bias: float = 0.0

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits, float (n,)."""
        return logits / self.temperature + self.bias

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float (n,)."""
        return sigmoid(self.logits(logits))


# Logits as they are: what is kept where there is nothing older.
PLAIN = Scale()


def fit_scale(
    logits: np.ndarray, y_true: np.ndarray, start: Scale = PLAIN, sample_weight: np.ndarray | None = None
) -> Scale | None:
    """Temperature and bias of the highest posterior: a logistic regression that few cases cannot drive to its ends.

    Where a threshold separates the classes, every temperature towards 0 fits better than the last: that of `start` is
    kept, and the bias alone is fitted.

    Args:
        logits: float (n,).
        y_true: int (n,), 1 malignant, both classes.
        start: what the prior lies around.
        sample_weight: float (n,), how many cases each one counts as; 1 where None.

    Returns:
        The fit, to six decimals; None where it lies at a bound (temperature 0.05 to 20, bias -20 to 20).
    """
    from scipy.optimize import minimize

    positive, weights = y_true == 1, np.ones(len(y_true)) if sample_weight is None else sample_weight
    separated = logits[positive].min() > logits[~positive].max()
    centre = np.array([np.log(start.temperature), start.bias])

    def loss(free: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = logits * np.exp(-free[0])
        calibrated = scaled + free[1]
        apart = (free - centre) / _PRIOR
        # d/dz of log(1 + exp z) - y z; tanh does not overflow.
        slope = weights * (0.5 * (1 + np.tanh(calibrated / 2)) - positive)
        value = (weights * (np.logaddexp(0, calibrated) - positive * calibrated)).sum() + 0.5 * (apart**2).sum()
        return float(value), np.array([-(slope * scaled).sum(), slope.sum()]) + apart / _PRIOR

    kept = (centre[0], centre[0]) if separated else tuple(np.log(_TEMPERATURES))
    fit = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=[kept, _BIASES], options={"ftol": 1e-12}).x
    inside = [low + 1e-3 < value < high - 1e-3 for value, (low, high) in zip(fit, (kept, _BIASES), strict=True)]
    if not (np.isfinite(fit).all() and (separated or inside[0]) and inside[1]):
        return None
    return Scale(start.temperature if separated else round(float(np.exp(fit[0])), 6), round(float(fit[1]), 6))


def fit_temperature(logits: np.ndarray, y_true: np.ndarray) -> float:
    """Temperature of a softmax that minimises the cross-entropy (C. Guo et al., ICML 2017), held as in `fit_scale`.

    Args:
        logits: float (n, K).
        y_true: int (n,), the class of each case.

    Returns:
        A number from 0.05 to 20 that logits are divided by.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(y_true))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        terms = np.logaddexp.reduce(scaled, axis=1) - scaled[rows, y_true]
        return float(terms.sum() + 0.5 * (log_temperature / _PRIOR[0]) ** 2)

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def needed(missed: float) -> int:
    """Groups of a class that it takes to miss one of them at a rate of `missed`: 40 for a sensitivity of 0.975."""
    return math.ceil(1 / missed - 1e-9)


def counts(y_true: np.ndarray, groups: Sequence[Any] | np.ndarray) -> tuple[int, int]:
    """Number of groups that hold a malignant image, and of those that hold a benign one."""
    place = numbered(groups)
    return len(np.unique(place[y_true == 1])), len(np.unique(place[y_true == 0]))


def case_weights(y_true: np.ndarray, groups: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Weights under which the images of one group and one label count as one together, float (n,).

    Those of a class add up to its number of groups (`counts`), so that no patient outweighs another by many frames.
    """
    _, place, sizes = np.unique(2 * numbered(groups) + y_true, return_inverse=True, return_counts=True)
    return 1 / sizes[place]


def check_counts(y_true: np.ndarray, groups: Sequence[Any] | np.ndarray) -> None:
    """BusError where a class has fewer groups than a calibration needs."""
    for kind, count in zip(("malignant", "benign"), counts(y_true, groups), strict=True):
        if count < MIN_GROUPS:
            raise BusError(
                f"there are {count} {kind} patients or lesions, and a calibration needs {MIN_GROUPS} at the least",
                where="the labelled images",
                remedy=f"give more {kind} cases",
            )


def supported(y_true: np.ndarray, groups: Sequence[Any] | np.ndarray) -> dict[str, float]:
    """Those of `POINTS` that the malignant groups given are enough for (`needed`), sensitivity by name."""
    malignant = counts(y_true, groups)[0]
    return {name: target for name, target in POINTS.items() if malignant >= needed(1 - target)}


def threshold_for_sensitivity(
    y_true: np.ndarray, y_score: np.ndarray, target: float, sample_weight: np.ndarray | None = None
) -> float:
    """The largest threshold at which `y_score >= threshold` finds at least `target` of the positives given.

    It is the score of one of them as it is: a rounded one could lose that case, or merge scores near 0 and 1.
    `sample_weight` float (n,) says how many positives each one counts as; 1 where None.

    Raises:
        BusError: there is no positive.
    """
    scores = y_score[y_true == 1]
    if not len(scores):
        raise BusError("there is no positive case to fit a threshold on", remedy="give malignant cases too")
    weights = np.ones(len(scores)) if sample_weight is None else sample_weight[y_true == 1]
    order = np.argsort(-scores, kind="stable")
    share = np.cumsum(weights[order])
    return float(scores[order][np.searchsorted(share, target * share[-1] - 1e-9)])


def operating_points(
    y_true: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Thresholds for those of `POINTS` that are `supported`, with the sensitivity and specificity to expect.

    The threshold is fitted on all cases. Its rates are those of thresholds fitted on nine tenths of the groups and
    measured on the tenth that was held out, so that they do not flatter. Intervals are by group bootstrap; that of the
    specificity fits the threshold anew in every resample.

    Args:
        y_true: int (n,), 1 malignant.
        logits: float (n,), calibrated.
        groups: group of each case.
        seed: of the split into tenths.
        sample_weight: float (n,), how many cases each one counts as; 1 where None.

    Returns:
        Dicts with name, logit (the threshold), sensitivity and specificity as [value, low, high].

    Raises:
        BusError: a class has fewer than ten groups.
    """
    groups = np.asarray(groups)
    check_counts(y_true, groups)
    points = []
    for name, target in supported(y_true, groups).items():
        predicted = cross_fitted_predictions(y_true, logits, groups, target, seed, sample_weight)
        sensitivity = rates(y_true, predicted, groups, ["sensitivity"], sample_weight=sample_weight)["sensitivity"]
        draws = refitted_specificities(y_true, logits, groups, target, sample_weight=sample_weight)
        specificity = float(metrics.specificity(y_true, predicted, sample_weight))
        points.append(
            {
                "name": name,
                "logit": threshold_for_sensitivity(y_true, logits, target, sample_weight),
                "sensitivity": rounded(sensitivity),
                "specificity": rounded(metrics.Estimate(specificity, *interval(draws))),
            }
        )
    return points


def cross_fitted_predictions(
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: np.ndarray,
    target: float,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Whether each case is predicted positive at a threshold fitted for a sensitivity of `target` on other groups.

    Returns:
        bool (n,).
    """
    return y_score >= cross_fitted_thresholds(y_true, y_score, groups, target, seed, sample_weight)


def cross_fitted_thresholds(
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: np.ndarray,
    target: float,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """For each case the threshold that a sensitivity of `target` takes on other groups, float (n,)."""
    thresholds = np.zeros(len(y_true))
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    for fit, test in cross_fits(y_true, groups, seed):
        thresholds[test] = threshold_for_sensitivity(y_true[fit], y_score[fit], target, weights[fit])
    return thresholds


def cross_fitted_probabilities(
    logits: np.ndarray,
    y_true: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    start: Scale = PLAIN,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Probability of each case under a `fit_scale` of other groups; logits float (n,), returns float (n,)."""
    probabilities = np.zeros(len(y_true))
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    for fit, test in cross_fits(y_true, groups, seed):
        scale = fit_scale(logits[fit], y_true[fit], start, weights[fit]) or start
        probabilities[test] = scale.probabilities(logits[test])
    return probabilities


def refitted_specificities(
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: np.ndarray,
    target: float,
    n: int = RESAMPLES,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Specificity in resamples of groups, each at its own threshold: how far the threshold itself is uncertain."""
    order = np.argsort(-y_score, kind="stable")
    positive, negative = y_true[order] == 1, y_true[order] == 0
    # All cases of one score are predicted positive, or none: the last place of each.
    ordered = y_score[order]
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    draws = []
    for chunk in resamples(groups, n, seed):
        rows = (chunk * weights)[:, order]
        true_positives, false_positives = np.cumsum(rows * positive, axis=1), np.cumsum(rows * negative, axis=1)
        # The first place, from the most suspicious case down, where enough of the positives are found.
        place = (true_positives >= target * true_positives[:, -1:] - 1e-9).argmax(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            specificity = 1 - false_positives[np.arange(len(rows)), last[place]] / false_positives[:, -1]
        draws.append(np.where(true_positives[:, -1] > 0, specificity, np.nan))
    return np.concatenate(draws)


def cross_fits(y_true: np.ndarray, groups: np.ndarray, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Index pairs (fit, test) of up to ten parts that share no group, each with like shares of the classes.

    Raises:
        BusError: a class has fewer than two groups, so that some part would be fitted without it.
    """
    place = numbered(groups)
    least = min(len(np.unique(place[y_true == value])) for value in (0, 1))
    if least < 2:
        raise BusError(
            "a class has fewer than two groups of images, so thresholds cannot be fitted and tested apart",
            remedy="give more cases of both classes",
        )
    parts = min(_CROSS_FIT, least)
    return list(_parts(y_true.astype(np.int64).tobytes(), place.astype(np.intp).tobytes(), parts, seed))


# One report splits the same cases dozens of times, and each split takes half a second.
@lru_cache(maxsize=8)
def _parts(labels: bytes, place: bytes, parts: int, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """`cross_fits` of labels, int64 (n,), and numbers of groups, intp (n,), both as bytes."""
    from sklearn.model_selection import StratifiedGroupKFold

    y_true, group = np.frombuffer(labels, np.int64), np.frombuffer(place, np.intp)
    pairs = tuple(StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(y_true, y_true, group))
    for pair in pairs:
        for rows in pair:
            rows.flags.writeable = False
    return pairs


def rounded(estimate: metrics.Estimate) -> list[float]:
    """Value, low, high to six decimals, the bounds never past the value."""
    value, low, high = estimate
    return [round(value, 6), round(min(low, value), 6), round(max(high, value), 6)]
