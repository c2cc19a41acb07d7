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

if TYPE_CHECKING:
    import pandas as pd

# Of the separation that votes follow; chosen by trials (LOG.md).
POWER = 4.0

Weights = tuple[dict[str, float], dict[str, float]]


@dataclass(frozen=True)
class Readings:
    """Logits as an array: (n, M, V) of n images, M members and V views, with what is known of each image."""

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    members: tuple[str, ...]
    views: tuple[str, ...]


def readings(frame: pd.DataFrame, members: Sequence[str], views: Sequence[str]) -> Readings:
    """Bring out-of-fold logits of one logit a view into an array, images in the order of the frame.

    Raises:
        BusError: an image lacks a member or a view, or has one twice.
    """
    used = frame[frame["member"].isin(members) & frame["view"].isin(views)]
    facts = used.drop_duplicates("name").set_index("name")
    whole = len(used) == len(facts) * len(members) * len(views)
    if not whole or used.duplicated(["name", "member", "view"]).any():
        raise BusError(
            "an image lacks a member or a view, or has one twice", remedy="give whole out-of-fold logits of each member"
        )
    cube = used.set_index(["name", "member", "view"])["logit_0"].unstack(["member", "view"])
    columns = [(member, view) for member in members for view in views]
    values = cube.loc[facts.index, columns].to_numpy(float)
    return Readings(
        values.reshape(len(facts), len(members), len(views)),
        facts["label"].to_numpy(),
        facts["group"].to_numpy(),
        facts["source"].to_numpy(),
        tuple(members),
        tuple(views),
    )


def equal(read: Readings, default_views: Mapping[str, float]) -> Weights:
    """Equal votes and the default views, whatever was read."""
    flat = np.full(len(read.members), 1 / len(read.members))
    return _rounded(read.members, flat), _rounded(read.views, _prior(read.views, default_views))


def by_separation(read: Readings, default_views: Mapping[str, float], power: float = POWER) -> Weights:
    """Votes in proportion to a power of the separation of each member alone; the views keep their default weights.

    The separation of a member is d = sqrt(2) z(AUROC), z the normal quantile (the d' of A. J. Simpson, M. J. Fitter,
    Psychological Bulletin 1973), of its mean over the sources. Votes that are found one by one stay near equal ones,
    where those of a joint fit (`joint`) go to the few members that happen to fit a few cases best.

    Args:
        read: logits and labels.
        default_views: weight of each view, above 0.
        power: of the separation; 0 gives equal votes, a high one all of them to the best member.

    Returns:
        Weight of each member and of each view, each summing to 1; equal votes where no member separates the classes.
    """
    from scipy.special import ndtri

    prior = _prior(read.views, default_views)
    logits = np.einsum("nmv,v->nm", read.logits, prior)
    rows = [np.flatnonzero(read.sources == source) for source in np.unique(read.sources)]
    rows = [part for part in rows if len(np.unique(read.labels[part])) == 2]
    separations = np.zeros(len(read.members))
    for part in rows:
        malignant = int(read.labels[part].sum())
        # An AUROC of 1 on few cases is not an endless separation.
        most = 1 - 0.5 / (malignant * (len(part) - malignant))
        areas = [metrics.auroc(read.labels[part], logits[part, member]) for member in range(len(read.members))]
        separations += np.sqrt(2) * ndtri(np.clip(areas, 0.5, most)) / len(rows)
    if not separations.any():
        return equal(read, default_views)
    raised = (separations / separations.max()) ** power
    return _rounded(read.members, raised / raised.sum()), _rounded(read.views, prior)


def joint(read: Readings, default_views: Mapping[str, float], shrinkage: float) -> Weights:
    """Weights of members and of views that minimise the log loss together, every source counted alike.

    A mean of logits with weights >= 0 that sum to 1 (logarithmic opinion pool: C. Genest, J. Zidek, Statistical
    Science 1986), its temperature fitted beside them; `shrinkage` times the Kullback-Leibler distance from equal votes
    and from `default_views` is added, in nats of log loss an image.

    Args:
        read: logits and labels.
        default_views: weight of each view to shrink towards, above 0.
        shrinkage: 0 for the plain minimum.

    Returns:
        Weight of each member and of each view, each summing to 1.
    """
    from scipy.optimize import minimize

    balance = _balance(read.sources)
    count = len(read.members)
    prior = _prior(read.views, default_views)

    def loss(free: np.ndarray) -> float:
        members, views = _softmax(free[:count]), _softmax(free[count:-1] + np.log(prior))
        pooled = np.einsum("nmv,m,v->n", read.logits, members, views) / np.exp(free[-1])
        pull = (members * np.log(members * count)).sum() + (views * np.log(views / prior)).sum()
        return float(_loss(pooled, read.labels, balance) + shrinkage * pull)

    # Bounds keep exp() finite; a weight of e-12 is none.
    start = np.zeros(count + len(prior) + 1)
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(-12.0, 12.0)] * (len(start) - 1) + [(-3.0, 3.0)]).x
    members, views = _softmax(found[:count]), _softmax(found[count:-1] + np.log(prior))
    return _rounded(read.members, members), _rounded(read.views, views)


def combined(read: Readings, weights: Weights) -> np.ndarray:
    """Weighted mean logits (n,) of the images."""
    members, views = weights
    return np.einsum(
        "nmv,m,v->n",
        read.logits,
        [members[member] for member in read.members],
        [views[view] for view in read.views],
    )


def cross_fitted(read: Readings, rule: Callable[[Readings], Weights], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n,) of images whose groups the weights were not fitted on, and the same calibrated, fitted with those.

    Order images by the former: each part has a calibration of its own, which would mix their order.

    Args:
        read: logits and labels.
        rule: gives weights of members and views.
        seed: of the ten parts of groups, each of which is read with what was fitted on the others.
    """
    found, calibrated = np.zeros(len(read.labels)), np.zeros(len(read.labels))
    for rows, test in cross_fits(read.labels, read.groups, seed):
        fitted = _rows(read, rows)
        logits = combined(read, rule(fitted))
        found[test] = logits[test]
        # As many cases as there are, every source counted alike.
        balance = len(rows) * _balance(fitted.sources)
        scale = fit_scale(logits[rows], fitted.labels, weights=balance) or PLAIN
        calibrated[test] = scale.logits(logits[test])
    return found, calibrated


def gain(read: Readings, default_views: Mapping[str, float], seed: int = 0) -> dict[str, Any]:
    """What votes by separation gain over equal votes on images that they were not fitted on.

    Args:
        read: logits and labels.
        default_views: weight of each view.
        seed: of the parts.

    Returns:
        log_loss and auroc, each of `equal` and `fitted` (fitted on nine tenths of the groups, read on the tenth left
        out, with the calibration fitted there too), the difference of AUROC with its interval and p, and `pays`:
        whether the cross-fitted log loss, every source counted alike, is the lower one.
    """
    found = {
        name: cross_fitted(read, partial(rule, default_views=default_views), seed)
        for name, rule in (("equal", equal), ("fitted", by_separation))
    }
    balance = _balance(read.sources)
    losses = {name: _loss(calibrated, read.labels, balance) for name, (_, calibrated) in found.items()}
    areas = {name: float(metrics.auroc(read.labels, logits)) for name, (logits, _) in found.items()}
    difference, p = paired_difference(metrics.auroc, read.labels, found["fitted"][0], found["equal"][0], read.groups)
    return {
        "log_loss": {name: round(value, 6) for name, value in losses.items()},
        "auroc": {name: round(value, 6) for name, value in areas.items()},
        "auroc_difference": difference.to_dict(),
        "p": round(p, 6),
        "pays": losses["fitted"] < losses["equal"],
    }


def _rows(read: Readings, rows: np.ndarray) -> Readings:
    return replace(
        read, logits=read.logits[rows], labels=read.labels[rows], groups=read.groups[rows], sources=read.sources[rows]
    )


def _loss(logits: np.ndarray, labels: np.ndarray, balance: np.ndarray) -> float:
    """Weighted log loss, in nats."""
    return float((balance * (np.logaddexp(0, logits) - labels * logits)).sum())


def _balance(sources: np.ndarray) -> np.ndarray:
    """Weights that count every source alike and sum to 1."""
    _, place, counts = np.unique(sources, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[place])


def _prior(views: Sequence[str], default_views: Mapping[str, float]) -> np.ndarray:
    weights = np.array([default_views[view] for view in views])
    return weights / weights.sum()


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()


def _rounded(names: Sequence[str], weights: np.ndarray) -> dict[str, float]:
    """Weights of four decimals that still sum to 1."""
    found = np.round(weights, 4)
    found[found.argmax()] += 1 - found.sum()
    return {name: round(float(weight), 4) for name, weight in zip(names, found, strict=True)}
