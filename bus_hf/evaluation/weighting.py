"""Weights of members and views, fitted on logits of images that no member trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import paired_difference
from bus_hf.evaluation.calibration import PLAIN, cross_fits, fit_scale
from bus_hf.evaluation.combine import average

if TYPE_CHECKING:
    import pandas as pd

# Power of d' that the weights follow; chosen by trials (research/README.md).
POWER = 4.0

Weights = tuple[dict[str, float], dict[str, float]]


@dataclass(frozen=True)
class HeldOutLogits:
    """Held-out logits of malignancy, float (n, M, V) of n images, M members and V views, with facts of each image.

    `y_true` int (n,), 1 malignant; `groups` and `sources` (n,).
    """

    logits: np.ndarray
    y_true: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    members: tuple[str, ...]
    views: tuple[str, ...]

    def rows(self, rows: np.ndarray) -> HeldOutLogits:
        """Those of some images, by index or mask."""
        return replace(
            self,
            logits=self.logits[rows],
            y_true=self.y_true[rows],
            groups=self.groups[rows],
            sources=self.sources[rows],
        )

    @property
    def balance(self) -> np.ndarray:
        """Weights (n,) that count every source alike and sum to the number of images."""
        return balance(self.sources)

    def averaged(self, members: Mapping[str, float], views: Mapping[str, float]) -> np.ndarray:
        """Weighted mean logits (n,), weights scaled to sum to 1; a member or view that is not named has none."""
        return average(
            self.logits,
            np.array([members.get(name, 0.0) for name in self.members]),
            np.array([views.get(name, 0.0) for name in self.views]),
        )


def held_out_logits(frame: pd.DataFrame, members: Sequence[str], views: Sequence[str]) -> HeldOutLogits:
    """Bring held-out logits of one logit a view into an array, images in the order of the frame.

    Raises:
        BusError: an image lacks a member or a view, or has one twice.
    """
    used = frame[frame["member"].isin(members) & frame["view"].isin(views)]
    facts = used.drop_duplicates("name").set_index("name")
    complete = len(used) == len(facts) * len(members) * len(views)
    if not complete or used.duplicated(["name", "member", "view"]).any():
        raise BusError(
            "an image lacks a member or a view, or has one twice", remedy="give whole out-of-fold logits of each member"
        )
    cube = used.set_index(["name", "member", "view"])["logit_0"].unstack(["member", "view"])
    columns = [(member, view) for member in members for view in views]
    values = cube.loc[facts.index, columns].to_numpy(float)
    return HeldOutLogits(
        values.reshape(len(facts), len(members), len(views)),
        facts["label"].to_numpy(),
        facts["group"].to_numpy(),
        facts["source"].to_numpy(),
        tuple(members),
        tuple(views),
    )


def equal(held_out: HeldOutLogits, default_views: Mapping[str, float]) -> Weights:
    """Equal weights of the members and the default ones of the views, whatever the logits are."""
    flat = np.full(len(held_out.members), 1 / len(held_out.members))
    return rounded(held_out.members, flat), rounded(held_out.views, view_prior(held_out.views, default_views))


def by_dprime(held_out: HeldOutLogits, default_views: Mapping[str, float], power: float = POWER) -> Weights:
    """Weights in proportion to a power of the d' of each member alone; the views keep their default weights.

    d' = sqrt(2) z(AUROC), z the normal quantile (A. J. Simpson, M. J. Fitter, Psychological Bulletin 1973), its mean
    over the sources. Weights that are fitted member by member stay near equal ones, where those of a joint fit go to
    the few members that happen to fit a few cases best.

    Args:
        held_out: logits and labels.
        default_views: weight of each view, above 0.
        power: of d'; 0 gives equal weights, a high one all weight to the best member.

    Returns:
        Weight of each member and of each view, each summing to 1; equal ones where no member separates the classes.
    """
    from scipy.special import ndtri

    prior = view_prior(held_out.views, default_views)
    logits = np.einsum("nmv,v->nm", held_out.logits, prior)
    parts = [np.flatnonzero(held_out.sources == source) for source in np.unique(held_out.sources)]
    parts = [part for part in parts if len(np.unique(held_out.y_true[part])) == 2]
    dprime = np.zeros(len(held_out.members))
    for part in parts:
        malignant = int(held_out.y_true[part].sum())
        # An AUROC of 1 on few cases is not an endless separation.
        most = 1 - 0.5 / (malignant * (len(part) - malignant))
        areas = [metrics.auroc(held_out.y_true[part], logits[part, member]) for member in range(len(dprime))]
        dprime += np.sqrt(2) * ndtri(np.clip(areas, 0.5, most)) / len(parts)
    if not dprime.any():
        return equal(held_out, default_views)
    raised = (dprime / dprime.max()) ** power
    return rounded(held_out.members, raised / raised.sum()), rounded(held_out.views, prior)


def cross_fitted(
    held_out: HeldOutLogits, rule: Callable[[HeldOutLogits], Weights], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n,) of images whose groups the weights were not fitted on, and the same calibrated, fitted with those.

    Order images by the former: each part has a calibration of its own, which would mix their order.

    Args:
        held_out: logits and labels.
        rule: gives weights of members and views.
        seed: of the ten parts of groups, each of which is averaged with what was fitted on the others.
    """
    raw, calibrated = np.zeros(len(held_out.y_true)), np.zeros(len(held_out.y_true))
    for rows, test in cross_fits(held_out.y_true, held_out.groups, seed):
        fitted_on = held_out.rows(rows)
        logits = held_out.averaged(*rule(fitted_on))
        raw[test] = logits[test]
        scale = fit_scale(logits[rows], fitted_on.y_true, sample_weight=fitted_on.balance) or PLAIN
        calibrated[test] = scale.logits(logits[test])
    return raw, calibrated


def gain(held_out: HeldOutLogits, default_views: Mapping[str, float], seed: int = 0) -> dict[str, Any]:
    """What weights by d' gain over equal ones on images that they were not fitted on.

    Args:
        held_out: logits and labels.
        default_views: weight of each view.
        seed: of the parts.

    Returns:
        log_loss and auroc, each of `equal` and `fitted` (fitted on nine tenths of the groups, measured on the tenth
        held out, with the calibration fitted there too), the difference of AUROC with its interval and p, and `pays`:
        whether the cross-fitted log loss, every source counted alike, is the lower one.
    """
    logits = {
        name: cross_fitted(held_out, partial(rule, default_views=default_views), seed)
        for name, rule in (("equal", equal), ("fitted", by_dprime))
    }
    balance = source_balance(held_out.sources)
    losses = {name: log_loss(held_out.y_true, calibrated, balance) for name, (_, calibrated) in logits.items()}
    areas = {name: float(metrics.auroc(held_out.y_true, raw)) for name, (raw, _) in logits.items()}
    difference, p = paired_difference(
        metrics.auroc, held_out.y_true, logits["fitted"][0], logits["equal"][0], held_out.groups
    )
    return {
        "log_loss": {name: round(value, 6) for name, value in losses.items()},
        "auroc": {name: round(value, 6) for name, value in areas.items()},
        "auroc_difference": difference.to_dict(),
        "p": round(p, 6),
        "pays": losses["fitted"] < losses["equal"],
    }


def log_loss(y_true: np.ndarray, logits: np.ndarray, sample_weight: np.ndarray) -> float:
    """Weighted sum of the log loss of logits (n,), in nats."""
    return float((sample_weight * (np.logaddexp(0, logits) - y_true * logits)).sum())


def source_balance(sources: np.ndarray) -> np.ndarray:
    """Weights (n,) that count every source alike and sum to 1."""
    _, place, counts = np.unique(sources, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[place])


def balance(sources: np.ndarray) -> np.ndarray:
    """Weights (n,) that count every source alike and sum to n."""
    return len(sources) * source_balance(sources)


def view_prior(views: Sequence[str], default_views: Mapping[str, float]) -> np.ndarray:
    """Default weights (V,) of views, summing to 1."""
    weights = np.array([default_views[view] for view in views])
    return weights / weights.sum()


def rounded(names: Sequence[str], weights: np.ndarray) -> dict[str, float]:
    """Weights by name, of four decimals that still sum to 1."""
    kept = np.round(weights, 4)
    kept[kept.argmax()] += 1 - kept.sum()
    return {name: round(float(weight), 4) for name, weight in zip(names, kept, strict=True)}
