"""Images in which no lesion was found: the peak of the lesion map that decides it, and what such images get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bus_hf.evaluation.bootstrap import rates

# Share of the images with a lesion in which the lesion map may miss it.
MISSED = 0.05
# With fewer images of a lesion that share means nothing.
_MIN_IMAGES = 40


def fit_found_peak(peaks: np.ndarray, has_lesion: np.ndarray, least: float) -> float:
    """The highest peak of the lesion map below which at most `MISSED` of the images with a lesion lie.

    Args:
        peaks: float (n,), maximum of the lesion map of each image, 0..1.
        has_lesion: bool (n,).
        least: the answer is never lower; it is the answer where fewer than 40 images have a lesion.

    Returns:
        A peak, 0..1, rounded down to three decimals.
    """
    ordered = np.sort(peaks[has_lesion])
    if len(ordered) < _MIN_IMAGES:
        return least
    return max(least, float(np.floor(ordered[int(MISSED * len(ordered))] * 1e3) / 1e3))


def fitted(measured: Mapping[str, Any]) -> bool:
    """Whether the peak of what `measure` returned was fitted, since enough of its images have a lesion."""
    return sum(row["n"] for name, row in measured["pathologies"].items() if name != "normal") >= _MIN_IMAGES


def predicted_positive(
    logits: np.ndarray, peaks: np.ndarray, found_peak: float, threshold: float, without_lesion: float
) -> np.ndarray:
    """Predictions of an operating point, bool (n,): at its threshold, or at a higher one where no lesion was found.

    Args:
        logits: float (n,), calibrated.
        peaks: float (n,), maximum of the lesion map, 0..1.
        found_peak: peak from which a lesion counts as found.
        threshold: logit of the operating point.
        without_lesion: logit from which an image without a lesion is still predicted malignant; it counts where it is
            the higher of the two.
    """
    return logits >= np.where(peaks >= found_peak, threshold, max(threshold, without_lesion))


def measure(
    y_true: np.ndarray,
    logits: np.ndarray,
    peaks: np.ndarray,
    pathologies: np.ndarray,
    groups: np.ndarray,
    *,
    found_peak: float,
    threshold: float,
    without_lesion: float,
) -> dict[str, Any]:
    """What the rule does to images that no member trained on, JSON-ready.

    Args:
        y_true: int (n,), 1 malignant.
        logits: float (n,), calibrated.
        peaks: float (n,), maximum of the lesion map, 0..1.
        pathologies: text (n,).
        groups: group of each image, (n,).
        found_peak: as in `predicted_positive`.
        threshold: as in `predicted_positive`.
        without_lesion: as in `predicted_positive`.

    Returns:
        The peak, for each pathology how many images there are, in how many no lesion was found and how many of those
        are predicted malignant without and with the rule; sensitivity and specificity with the rule, by bootstrap of
        groups.
    """
    before = logits >= threshold
    after = predicted_positive(logits, peaks, found_peak, threshold, without_lesion)
    no_lesion = peaks < found_peak
    rows = {}
    for name in sorted(set(pathologies.tolist())):
        here = pathologies == name
        rows[name] = {
            "n": int(here.sum()),
            "no_lesion_found": int((here & no_lesion).sum()),
            "predicted_malignant_without_the_rule": int((here & no_lesion & before).sum()),
            "predicted_malignant": int((here & no_lesion & after).sum()),
        }
    measured = {name: rate.to_dict() for name, rate in rates(y_true, after, groups).items()}
    return {"found_peak": found_peak, "without_lesion_logit": without_lesion, "pathologies": rows, **measured}
