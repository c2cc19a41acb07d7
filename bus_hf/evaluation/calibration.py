"""Temperature and operating points, fitted on logits of images that no member trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import figures
from bus_hf.evaluation.bootstrap import RESAMPLES, group_bootstrap, interval, resamples, settled

# How many of 1000 cancers an operating point may miss.
POINTS = {"miss_10_in_100": 0.90, "miss_5_in_100": 0.95, "miss_25_in_1000": 0.975}
_TEMPERATURES = (0.05, 20.0)
_CROSS_FIT = 10


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Temperature that minimises the cross-entropy (C. Guo et al., ICML 2017).

    Args:
        logits: (n, K): K = 1 for a sigmoid, else softmax.
        labels: int (n,).

    Returns:
        A number from 0.05 to 20 that logits are divided by.
    """
    from scipy.optimize import minimize_scalar

    full = np.concatenate([np.zeros_like(logits), logits], axis=1) if logits.shape[1] == 1 else logits
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = full / np.exp(log_temperature)
        top = scaled.max(axis=1)
        return float(np.mean(top + np.log(np.exp(scaled - top[:, None]).sum(axis=1)) - scaled[rows, labels]))

    low, high = np.log(_TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def threshold_for_sensitivity(labels: np.ndarray, probabilities: np.ndarray, target: float) -> float:
    """The largest threshold at which `probability >= threshold` finds at least `target` of the positives given.

    Raises:
        BusError: there is no positive.
    """
    found = np.sort(probabilities[labels == 1])[::-1]
    if not len(found):
        raise BusError("there is no positive case to fit a threshold on", remedy="give malignant cases too")
    needed = int(np.ceil(target * len(found) - 1e-9))
    # Rounded down: the manifest's decimals must not lose the case that the threshold stands on.
    return float(np.floor(found[max(needed, 1) - 1] * 1e6) / 1e6)


def operating_points(
    labels: np.ndarray, probabilities: np.ndarray, groups: Sequence[Any] | np.ndarray, seed: int = 0
) -> list[dict[str, Any]]:
    """Thresholds for each of `POINTS`, with the sensitivity and specificity to expect.

    The threshold is fitted on all cases. Its rates are those of thresholds fitted on nine tenths of the groups and
    read on the tenth that was left out, so that they do not flatter. Intervals are by group bootstrap; that of the
    specificity fits the threshold anew in every resample.

    Args:
        labels: int (n,), 1 malignant.
        probabilities: float (n,), calibrated.
        groups: group of each case.
        seed: of the split into tenths.

    Returns:
        Dicts with name, threshold, sensitivity and specificity as [value, low, high].

    Raises:
        BusError: a class has fewer than two groups.
    """
    groups = np.asarray(groups)
    points = []
    for name, target in POINTS.items():
        called = cross_fitted_calls(labels, probabilities, groups, target, seed)
        points.append(
            {
                "name": name,
                "threshold": threshold_for_sensitivity(labels, probabilities, target),
                "sensitivity": rounded(
                    settled(group_bootstrap(figures.sensitivity, labels, called, groups), groups[labels == 1])
                ),
                "specificity": rounded(
                    figures.Estimate(
                        float(figures.specificity(labels, called)),
                        *interval(refitted_specificities(labels, probabilities, groups, target)),
                    )
                ),
            }
        )
    return points


def cross_fitted_calls(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, target: float, seed: int = 0
) -> np.ndarray:
    """Whether each case is called malignant at a threshold fitted for a sensitivity of `target` on other groups.

    Returns:
        bool (n,).
    """
    return probabilities >= cross_fitted_thresholds(labels, probabilities, groups, target, seed)


def cross_fitted_thresholds(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, target: float, seed: int = 0
) -> np.ndarray:
    """For each case the threshold that a sensitivity of `target` takes on other groups, float (n,)."""
    found = np.zeros(len(labels))
    for fit, test in cross_fits(labels, groups, seed):
        found[test] = threshold_for_sensitivity(labels[fit], probabilities[fit], target)
    return found


def cross_fitted_probabilities(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probability of each case under a temperature fitted on other groups; logits float (n,), returns float (n,)."""
    found = np.zeros(len(labels))
    for fit, test in cross_fits(labels, groups, seed):
        found[test] = 1 / (1 + np.exp(-logits[test] / fit_temperature(logits[fit, None], labels[fit])))
    return found


def refitted_specificities(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    target: float,
    n: int = RESAMPLES,
    seed: int = 0,
) -> np.ndarray:
    """Specificity in resamples of groups, each at its own threshold: how far the threshold itself is uncertain."""
    order = np.argsort(-probabilities, kind="stable")
    ill, well = labels[order] == 1, labels[order] == 0
    # A threshold calls all cases of one probability or none: the last place of each.
    ordered = probabilities[order]
    last = np.searchsorted(-ordered, -ordered, side="right") - 1
    found = []
    for chunk in resamples(groups, n, seed):
        rows = chunk[:, order]
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
    least = min(len(np.unique(groups[labels == value])) for value in (0, 1))
    if least < 2:
        raise BusError(
            "a class has fewer than two groups of images, so thresholds cannot be fitted and tested apart",
            remedy="give more cases of both classes",
        )
    _, place = np.unique(groups, return_inverse=True)
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


def rounded(estimate: figures.Estimate) -> list[float]:
    """Value, low, high to six decimals, the bounds never past the value."""
    value, low, high = estimate
    return [round(value, 6), round(min(low, value), 6), round(max(high, value), 6)]
