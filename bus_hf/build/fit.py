"""What an ensemble is fitted to: weights, calibration, operating points and abstention, on out-of-fold logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bus_hf.errors import BusError
from bus_hf.evaluation import abstention, calibration, combine, no_lesion, weighting
from bus_hf.views import MIN_PEAK, VIEW_WEIGHTS

DEFAULT_POINT = "miss_5_in_100"


@dataclass(frozen=True)
class Fit:
    """Everything that is fitted, beside what it was fitted on.

    `weights` and `views` are the weights of members and views, each summing to 1, and `weighting` says how they came
    about. `scale` calibrates; `points` (from the least to the most sensitive one) and the ends of `interval` are
    calibrated logits. `found_peak` is the peak of the lesion map from which a lesion counts as found.

    `images` has one row an image; `logits` float (n,) are its calibrated ones, `y_true` int (n,) is 1 for malignant,
    `groups` (n,) are of any kind, `peaks` float (n,) are those of the light member's lesion map, 0..1, and `balance`
    float (n,) are the weights under which every source counts alike in all that is fitted.
    """

    weights: dict[str, float]
    views: dict[str, float]
    weighting: dict[str, Any]
    scale: calibration.Scale
    points: list[dict[str, Any]]
    default_point: str
    interval: dict[str, Any] | None
    found_peak: float
    images: pd.DataFrame
    y_true: np.ndarray
    groups: np.ndarray
    logits: np.ndarray
    peaks: np.ndarray
    balance: np.ndarray


def fit(frame: pd.DataFrame, members: Sequence[str], where: object, given: Mapping[str, float] | None = None) -> Fit:
    """Fit an ensemble to out-of-fold logits.

    Args:
        frame: one row an image, member and view.
        members: names; the first one is the light member.
        where: names the logits in errors.
        given: weight of each member where it is not to be fitted; the views then keep their default weights.

    Raises:
        BusError: too few groups of a class, or no temperature and bias fit.
    """
    weights, views, how = fit_weights(frame, members, given)
    images = combine.combine(frame, weights, views)
    y_true, groups = images["label"].to_numpy(), images["group"].to_numpy()
    combined, balance = (
        images["logit_0"].to_numpy(),
        weighting.balance(images["source"].to_numpy()),
    )
    scale = calibration.fit_scale(combined, y_true, sample_weight=balance)
    if scale is None:
        raise BusError(
            "no temperature and bias fit the held-out logits",
            where=where,
            remedy="train the members again, more slowly",
        )
    logits = scale.logits(combined)
    points = calibration.operating_points(y_true, logits, groups, sample_weight=balance)
    names = [point["name"] for point in points]
    peaks = _peaks(frame, members[0], images["name"])
    return Fit(
        weights=weights,
        views=views,
        weighting=how,
        scale=scale,
        points=points,
        default_point=DEFAULT_POINT if DEFAULT_POINT in names else names[-1],
        interval=abstention.fit(y_true, logits, groups, sample_weight=balance),
        found_peak=no_lesion.fit_found_peak(peaks, images["pathology"].to_numpy() != "normal", MIN_PEAK),
        images=images,
        y_true=y_true,
        groups=groups,
        logits=logits,
        peaks=peaks,
        balance=balance,
    )


def fit_weights(
    frame: pd.DataFrame, members: Sequence[str], given: Mapping[str, float] | None
) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """Weights of members and of views, and how they came about: given, or by d′ where that pays out-of-fold."""
    if given is not None:
        return dict(given), dict(VIEW_WEIGHTS), {"how": "given"}
    held_out = weighting.held_out_logits(frame, members, list(VIEW_WEIGHTS))
    gain = weighting.gain(held_out, VIEW_WEIGHTS)
    if not gain["pays"]:
        return *weighting.equal(held_out, VIEW_WEIGHTS), {"how": "equal: weights by d′ did not pay", **gain}
    return *weighting.by_dprime(held_out, VIEW_WEIGHTS), {"how": "by d′", **gain}


def _peaks(frame: pd.DataFrame, member: str, names: pd.Series) -> np.ndarray:
    """Peak of a member's lesion map on each of the images `names`, float (n,)."""
    rows = frame[frame["member"] == member].drop_duplicates("name").set_index("name")
    return rows.loc[names, "peak"].to_numpy()
