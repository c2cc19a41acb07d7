"""Temperature, bias and operating points, fitted on logits of images that no member trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import RESAMPLES, group_bootstrap, interval, numbered, resamples, settled

# How many of 1000 cancers an operating point may miss.
POINTS = {"miss_10_in_100": 0.90, "miss_5_in_100": 0.95, "miss_25_in_1000": 0.975}
# Groups of each class that a calibration needs at the least.
LEAST = 10
_TEMPERATURES, _BIASES = (0.05, 20.0), (-20.0, 20.0)
# Standard deviations of a normal prior on the logarithm of the temperature and on the bias, around the values that are
# kept where the cases say nothing: what a few cases claim is held near those, and hundreds of cases outweigh it.
_PRIOR = (1.0, 3.0)
_CROSS_FIT = 10


class Scale(NamedTuple):
    """Calibration of a reader with one logit: probability = sigmoid(logit / temperature + bias) (J. Platt, 1999)."""

    temperature: float = 1.0
    bias: float = 0.0

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits, float (n,)."""
        return logits / self.temperature + self.bias

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float (n,)."""
        from scipy.special import expit

        return np.asarray(expit(self.logits(logits)))


# Logits as they are: what is kept where there is nothing older.
PLAIN = Scale()


def fit_scale(
    logits: np.ndarray, labels: np.ndarray, start: Scale = PLAIN, weights: np.ndarray | None = None
) -> Scale | None:
    """Temperature and bias of the highest posterior: a logistic regression that few cases cannot drive to its ends.

    Where a threshold separates the classes, every temperature towards 0 fits better than the last: that of `start` is
    kept, and the bias alone is fitted.

    Args:
        logits: float (n,).
        labels: int (n,), 1 malignant, both classes.
        start: what the prior lies around.
        weights: float (n,), how many cases each one counts as; 1 where None.

    Returns:
        The fit, to six decimals; None where it lies at a bound (temperature 0.05 to 20, bias -20 to 20).
    """
    from scipy.optimize import minimize

    ill, rows = labels == 1, np.ones(len(labels)) if weights is None else weights
    separated = logits[ill].min() > logits[~ill].max()
    centre = np.array([np.log(start.temperature), start.bias])

    def loss(free: np.ndarray) -> tuple[float, np.ndarray]:
        slopes = logits * np.exp(-free[0])
        calibrated = slopes + free[1]
        apart = (free - centre) / _PRIOR
        # d/dz of log(1 + exp z) - y z; tanh does not overflow.
        pull = rows * (0.5 * (1 + np.tanh(calibrated / 2)) - ill)
        value = (rows * (np.logaddexp(0, calibrated) - ill * calibrated)).sum() + 0.5 * (apart**2).sum()
        return float(value), np.array([-(pull * slopes).sum(), pull.sum()]) + apart / _PRIOR

    kept = (centre[0], centre[0]) if separated else tuple(np.log(_TEMPERATURES))
    found = minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=[kept, _BIASES], options={"ftol": 1e-12}).x
    inside = [low + 1e-3 < value < high - 1e-3 for value, (low, high) in zip(found, (kept, _BIASES), strict=True)]
    if not (np.isfinite(found).all() and (separated or inside[0]) and inside[1]):
        return None
    return Scale(start.temperature if separated else round(float(np.exp(found[0])), 6), round(float(found[1]), 6))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature of a softmax that minimises the cross-entropy (C. Guo et al., ICML 2017), held as in `fit_scale`.

    Args:
        logits: (n, K).
        labels: int (n,).

    Returns:
        A number from 0.05 to 20 that logits are divided by.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1)
        terms = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[rows, labels]
        return float(terms.sum() + 0.5 * (log_temperature / _PRIOR[0]) ** 2)

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def needed(missed: float) -> int:
    """Groups of a class that it takes to miss one of them at a rate of `missed`: 40 for a sensitivity of 0.975."""
    return math.ceil(1 / missed - 1e-9)


def counts(labels: np.ndarray, groups: Sequence[Any] | np.ndarray) -> tuple[int, int]:
    """Number of groups that hold a malignant image, and of those that hold a benign one."""
    of = numbered(groups)
    return len(np.unique(of[labels == 1])), len(np.unique(of[labels == 0]))


def case_weights(labels: np.ndarray, groups: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Weights under which the images of one group and one label count as one together, float (n,).

    Those of a class add up to its number of groups (`counts`), so that no patient outvotes another by many frames.
    """
    _, place, sizes = np.unique(2 * numbered(groups) + labels, return_inverse=True, return_counts=True)
    return 1 / sizes[place]


def check_counts(labels: np.ndarray, groups: Sequence[Any] | np.ndarray) -> None:
    """BusError where a class has fewer groups than a calibration needs."""
    for kind, count in zip(("malignant", "benign"), counts(labels, groups), strict=True):
        if count < LEAST:
            raise BusError(
                f"there are {count} {kind} patients or lesions, and a calibration needs {LEAST} at the least",
                where="the labelled images",
                remedy=f"give more {kind} cases",
            )


def supported(labels: np.ndarray, groups: Sequence[Any] | np.ndarray) -> dict[str, float]:
    """Those of `POINTS` that the malignant groups given are enough for (`needed`), sensitivity by name."""
    malignant = counts(labels, groups)[0]
    return {name: target for name, target in POINTS.items() if malignant >= needed(1 - target)}


def threshold_for_sensitivity(
    labels: np.ndarray, scores: np.ndarray, target: float, weights: np.ndarray | None = None
) -> float:
    """The largest threshold at which `score >= threshold` finds at least `target` of the positives given.

    It is the score of one of them as it is: a rounded one could lose that case, or merge scores near 0 and 1. `weights`
    float (n,) says how many positives each one counts as; 1 where None.

    Raises:
        BusError: there is no positive.
    """
    found = scores[labels == 1]
    if not len(found):
        raise BusError("there is no positive case to fit a threshold on", remedy="give malignant cases too")
    rows = np.ones(len(found)) if weights is None else weights[labels == 1]
    order = np.argsort(-found, kind="stable")
    share = np.cumsum(rows[order])
    return float(found[order][np.searchsorted(share, target * share[-1] - 1e-9)])


def operating_points(
    labels: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Thresholds for those of `POINTS` that are `supported`, with the sensitivity and specificity to expect.

    The threshold is fitted on all cases. Its rates are those of thresholds fitted on nine tenths of the groups and
    read on the tenth that was left out, so that they do not flatter. Intervals are by group bootstrap; that of the
    specificity fits the threshold anew in every resample.

    Args:
        labels: int (n,), 1 malignant.
        logits: float (n,), calibrated.
        groups: group of each case.
        seed: of the split into tenths.
        weights: float (n,), how many cases each one counts as; 1 where None.

    Returns:
        Dicts with name, logit (the threshold), sensitivity and specificity as [value, low, high].

    Raises:
        BusError: a class has fewer than ten groups.
    """
    groups = np.asarray(groups)
    check_counts(labels, groups)
    points = []
    for name, target in supported(labels, groups).items():
        called = cross_fitted_calls(labels, logits, groups, target, seed, weights)
        found = group_bootstrap(metrics.sensitivity, labels, called, groups, weights=weights)
        points.append(
            {
                "name": name,
                "logit": threshold_for_sensitivity(labels, logits, target, weights),
                "sensitivity": rounded(settled(found, groups[labels == 1])),
                "specificity": rounded(
                    metrics.Estimate(
                        float(metrics.specificity(labels, called, weights)),
                        *interval(refitted_specificities(labels, logits, groups, target, weights=weights)),
                    )
                ),
            }
        )
    return points


def cross_fitted_calls(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    target: float,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Whether each case is called malignant at a threshold fitted for a sensitivity of `target` on other groups.

    Returns:
        bool (n,).
    """
    return scores >= cross_fitted_thresholds(labels, scores, groups, target, seed, weights)


def cross_fitted_thresholds(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    target: float,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """For each case the threshold that a sensitivity of `target` takes on other groups, float (n,)."""
    found = np.zeros(len(labels))
    rows = np.ones(len(labels)) if weights is None else weights
    for fit, test in cross_fits(labels, groups, seed):
        found[test] = threshold_for_sensitivity(labels[fit], scores[fit], target, rows[fit])
    return found


def cross_fitted_probabilities(
    logits: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    start: Scale = PLAIN,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Probability of each case under a `fit_scale` of other groups; logits float (n,), returns float (n,)."""
    found = np.zeros(len(labels))
    rows = np.ones(len(labels)) if weights is None else weights
    for fit, test in cross_fits(labels, groups, seed):
        found[test] = (fit_scale(logits[fit], labels[fit], start, rows[fit]) or start).probabilities(logits[test])
    return found


def refitted_specificities(
    labels: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray,
    target: float,
    n: int = RESAMPLES,
    seed: int = 0,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Specificity in resamples of groups, each at its own threshold: how far the threshold itself is uncertain."""
    order = np.argsort(-scores, kind="stable")
    ill, well = labels[order] == 1, labels[order] == 0
    # A threshold calls all cases of one score or none: the last place of each.
    ordered = scores[order]
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    of_rows = np.ones(len(labels)) if weights is None else weights
    found = []
    for chunk in resamples(groups, n, seed):
        rows = (chunk * of_rows)[:, order]
        hits, alarms = np.cumsum(rows * ill, axis=1), np.cumsum(rows * well, axis=1)
        # The first place, from the most suspicious case down, where enough of the positives are found.
        place = (hits >= target * hits[:, -1:] - 1e-9).argmax(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = 1 - alarms[np.arange(len(rows)), last[place]] / alarms[:, -1]
        found.append(np.where(hits[:, -1] > 0, rates, np.nan))
    return np.concatenate(found)


def cross_fits(labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Index pairs (fit, test) of up to ten parts that share no group, each with like shares of the classes.

    Raises:
        BusError: a class has fewer than two groups, so that some part would be fitted without it.
    """
    place = numbered(groups)
    least = min(len(np.unique(place[labels == value])) for value in (0, 1))
    if least < 2:
        raise BusError(
            "a class has fewer than two groups of images, so thresholds cannot be fitted and tested apart",
            remedy="give more cases of both classes",
        )
    parts = min(_CROSS_FIT, least)
    return list(_parts(labels.astype(np.int64).tobytes(), place.astype(np.intp).tobytes(), parts, seed))


# One report splits the same cases dozens of times, and each split takes half a second.
@lru_cache(maxsize=8)
def _parts(labels: bytes, place: bytes, parts: int, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """`cross_fits` of labels, int64 (n,), and numbers of groups, intp (n,), both as bytes."""
    from sklearn.model_selection import StratifiedGroupKFold

    ill, group = np.frombuffer(labels, np.int64), np.frombuffer(place, np.intp)
    found = tuple(StratifiedGroupKFold(parts, shuffle=True, random_state=seed).split(ill, ill, group))
    for part in found:
        for rows in part:
            rows.flags.writeable = False
    return found


def rounded(estimate: metrics.Estimate) -> list[float]:
    """Value, low, high to six decimals, the bounds never past the value."""
    value, low, high = estimate
    return [round(value, 6), round(min(low, value), 6), round(max(high, value), 6)]
