"""Figures of a reader of several classes from out-of-fold logits of one or more folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import interval, resamples
from bus_hf.evaluation.calibration import cross_fits, fit_temperature
from bus_hf.evaluation.combine import combine

if TYPE_CHECKING:
    import pandas as pd


def report(
    frame: pd.DataFrame, classes: Sequence[str], view_weights: Mapping[str, float], balanced: bool = False
) -> dict[str, Any]:
    """Figures over all images, and with one image a group; {value, low, high}, 95 % by bootstrap of groups.

    Args:
        frame: out-of-fold logits, one row an image and view, every image in one fold; `logit_k` for each class.
        classes: names in the order of the logits.
        view_weights: weight of each view.
        balanced: the networks saw every class equally often, so that their likeliest class favours rare ones.

    Returns:
        `all` and `one_a_group` and, where `balanced` and there are several folds, `at_shares` (`one_a_group` with the
        logits brought to the share that each class has in the other folds, which were trained on). Each has n,
        n_groups, accuracy, balanced_accuracy, macro_f1, log_loss (temperature fitted on other groups), by_class (n, f1,
        precision, recall, auroc one-against-rest), confusion (rows what it is), and `folds`: accuracy and macro F1 of
        each fold with mean and standard deviation.

    Raises:
        BusError: the logits are of another number of classes.
    """
    columns = [f"logit_{k}" for k in range(len(classes))]
    if [name for name in frame.columns if name.startswith("logit_")] != columns:
        raise BusError(
            f"the logits are not those of {len(classes)} classes", remedy="give runs of the label set that is named"
        )
    member = str(frame["member"].iloc[0])
    images = combine(frame, {member: 1.0}, view_weights)
    first = images.sort_values("name").drop_duplicates("group")
    several = balanced and images["fold"].nunique() > 1
    at_shares = {"at_shares": _described(_at_shares(first, images, columns), classes)} if several else {}
    return {
        "classes": list(classes),
        "all": _described(images, classes),
        # Near-duplicates of one scan count as often as they were saved; here each counts once.
        "one_a_group": _described(first, classes),
        **at_shares,
        "view_weights": dict(view_weights),
        "interval": "95 % by bootstrap of groups; mean ± standard deviation over folds",
    }


def _at_shares(rows: pd.DataFrame, images: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Logits of `rows` for the shares of the classes in the other folds of `images`, instead of equal ones.

    The logarithm of each share is added, and nothing is fitted (post-hoc logit adjustment: A. K. Menon et al., ICLR
    2021).
    """
    moved = rows.copy()
    for fold in rows["fold"].unique():
        counts = images.loc[images["fold"] != fold, "label"].value_counts().reindex(range(len(columns)), fill_value=0)
        own = moved["fold"] == fold
        # Half an image more of each: a class that is nowhere else is rare, not impossible.
        moved.loc[own, list(columns)] += np.log((counts.to_numpy() + 0.5) / (counts.sum() + 0.5 * len(columns)))
    return moved


def better_than_chance(found: Mapping[str, Any]) -> bool:
    """Whether the lower bound of every class's AUROC lies above one half."""
    areas = [row["auroc"] for row in found["all"]["by_class"].values()]
    return all(area is not None and area["low"] is not None and area["low"] > 0.5 for area in areas)


def accuracy(labels: np.ndarray, said: np.ndarray, weights: np.ndarray | None = None) -> Any:
    """Share of the images whose class is said rightly; labels and said int (n,)."""
    rows = np.ones(len(labels)) if weights is None else weights
    return (rows * (labels == said)).sum(-1) / rows.sum(-1)


def recall(k: int) -> Any:
    """The statistic recall of class `k`."""
    return lambda labels, said, weights=None: _ratio(labels, said, weights, k)[0]


def precision(k: int) -> Any:
    """The statistic precision of class `k`."""
    return lambda labels, said, weights=None: _ratio(labels, said, weights, k)[1]


def f1(k: int) -> Any:
    """The statistic F1 of class `k`: harmonic mean of precision and recall."""
    return lambda labels, said, weights=None: _ratio(labels, said, weights, k)[2]


def _ratio(labels: np.ndarray, said: np.ndarray, weights: np.ndarray | None, k: int) -> tuple[Any, Any, Any]:
    rows = np.ones(len(labels)) if weights is None else weights
    hits, are, called = ((rows * part).sum(-1) for part in ((labels == k) & (said == k), labels == k, said == k))
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / are, hits / called, 2 * hits / (are + called)


def _described(images: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    logits = images[[f"logit_{k}" for k in range(len(classes))]].to_numpy()
    labels, groups = images["label"].to_numpy(), images["group"].to_numpy()
    said = logits.argmax(axis=1)
    drawn = resamples(groups)
    chances = _probabilities(logits, labels, groups)
    own = np.log(np.clip(chances[np.arange(len(labels)), labels], 1e-12, 1))
    counts = range(len(classes))
    confusion = [[int(((labels == is_) & (said == k)).sum()) for k in counts] for is_ in counts]
    by_fold = {}
    for fold, rows in images.assign(said=said).groupby("fold"):
        truth, call = rows["label"].to_numpy(), rows["said"].to_numpy()
        by_fold[int(fold)] = {
            "n": len(rows),
            "accuracy": round(float(accuracy(truth, call)), 6),
            "macro_f1": round(float(np.nanmean([f1(k)(truth, call) for k in counts])), 6),
        }
    return {
        "n": len(labels),
        "n_groups": len(np.unique(groups)),
        "accuracy": _estimate(accuracy, labels, said, drawn),
        "balanced_accuracy": _estimate(_mean_of([recall(k) for k in counts]), labels, said, drawn),
        "macro_f1": _estimate(_mean_of([f1(k) for k in counts]), labels, said, drawn),
        "log_loss": _estimate(_mean, own, -own, drawn),
        "by_class": {
            name: {
                "n": int((labels == k).sum()),
                "f1": _estimate(f1(k), labels, said, drawn),
                "precision": _estimate(precision(k), labels, said, drawn),
                "recall": _estimate(recall(k), labels, said, drawn),
                "auroc": _estimate(metrics.auroc, (labels == k).astype(int), chances[:, k], drawn),
            }
            for k, name in enumerate(classes)
        },
        "confusion": confusion,
        "folds": by_fold
        | {
            name: {
                "mean": round(float(np.mean([row[name] for row in by_fold.values()])), 6),
                "sd": round(float(np.std([row[name] for row in by_fold.values()], ddof=1)), 6)
                if len(by_fold) > 1
                else None,
            }
            for name in ("accuracy", "macro_f1")
        },
    }


def _probabilities(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Softmax (n, K) under a temperature fitted on other groups."""
    found = np.zeros_like(logits)
    # Parts are dealt by the commonest split: the rarest class against the rest.
    rarest = (labels == np.bincount(labels).argmin()).astype(int)
    for fit, test in cross_fits(rarest, groups):
        scaled = logits[test] / fit_temperature(logits[fit], labels[fit])
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        found[test] = raised / raised.sum(axis=1, keepdims=True)
    return found


def _mean_of(statistics: Sequence[Any]) -> Any:
    return lambda labels, said, weights=None: np.mean([one(labels, said, weights) for one in statistics], axis=0)


def _mean(_: np.ndarray, values: np.ndarray, weights: np.ndarray | None = None) -> Any:
    return values.mean() if weights is None else (weights * values).sum(-1) / weights.sum(-1)


def _estimate(statistic: Any, labels: np.ndarray, said: np.ndarray, drawn: Sequence[np.ndarray]) -> dict[str, Any]:
    draws = np.concatenate([statistic(labels, said, weights) for weights in drawn])
    return metrics.Estimate(float(statistic(labels, said, None)), *interval(draws)).to_dict()
