"""Metrics of a classifier of several classes from out-of-fold logits of one or more folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import Metric, group_bootstrap
from bus_hf.evaluation.calibration import cross_fits, fit_temperature
from bus_hf.evaluation.combine import combine
from bus_hf.evaluation.cross_validation import mean_and_sd
from bus_hf.probabilities import softmax

if TYPE_CHECKING:
    import pandas as pd


def report(
    frame: pd.DataFrame, classes: Sequence[str], view_weights: Mapping[str, float], balanced: bool = False
) -> dict[str, Any]:
    """Metrics over all images, and with one image a group; {value, low, high}, 95 % by bootstrap of groups.

    Args:
        frame: out-of-fold logits, one row an image and view, every image in one fold; `logit_k` for each class.
        classes: names in the order of the logits.
        view_weights: weight of each view.
        balanced: the networks saw every class equally often, so that their likeliest class favours rare ones.

    Returns:
        `all` and `one_a_group` and, where `balanced` and there are several folds, `at_shares` (`one_a_group` with the
        logits brought to the share that each class has in the other folds, which were trained on). Each has n,
        n_groups, accuracy, balanced_accuracy, macro_f1, log_loss (temperature fitted on other groups), by_class (n, f1,
        precision, recall, auroc one-against-rest), confusion (rows the true class, columns the predicted one), and
        `folds`: accuracy and macro F1 of each fold with mean and standard deviation.

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
        here = moved["fold"] == fold
        # Half an image more of each: a class that is nowhere else is rare, not impossible.
        moved.loc[here, list(columns)] += np.log((counts.to_numpy() + 0.5) / (counts.sum() + 0.5 * len(columns)))
    return moved


def better_than_chance(report: Mapping[str, Any]) -> bool:
    """Whether the lower bound of every class's AUROC lies above one half."""
    areas = [row["auroc"] for row in report["all"]["by_class"].values()]
    return all(area is not None and area["low"] is not None and area["low"] > 0.5 for area in areas)


def one_against_rest(metric: Metric, k: int) -> Metric:
    """A binary metric of class `k` against all others, for classes int (n,)."""

    def against_rest(y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None) -> Any:
        return metric((y_true == k).astype(int), y_pred == k, sample_weight)

    return against_rest


def macro(
    metric: Metric, classes: int, y_true: np.ndarray, y_pred: np.ndarray, sample_weight: np.ndarray | None = None
) -> Any:
    """Mean of a metric over the classes, each against all others."""
    return np.mean([one_against_rest(metric, k)(y_true, y_pred, sample_weight) for k in range(classes)], axis=0)


def _described(images: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    logits = images[[f"logit_{k}" for k in range(len(classes))]].to_numpy()
    y_true, groups = images["label"].to_numpy(), images["group"].to_numpy()
    y_pred = logits.argmax(axis=1)
    probabilities = _probabilities(logits, y_true, groups)
    losses = -np.log(np.clip(probabilities[np.arange(len(y_true)), y_true], 1e-12, 1))

    def measured(metric: Metric, y_true: np.ndarray, y_score: np.ndarray) -> dict[str, Any]:
        return group_bootstrap(metric, y_true, y_score, groups).to_dict()

    return {
        "n": len(y_true),
        "n_groups": len(np.unique(groups)),
        "accuracy": measured(metrics.accuracy, y_true, y_pred),
        "balanced_accuracy": measured(partial(macro, metrics.sensitivity, len(classes)), y_true, y_pred),
        "macro_f1": measured(partial(macro, metrics.f1, len(classes)), y_true, y_pred),
        "log_loss": measured(metrics.mean_score, y_true, losses),
        "by_class": {
            name: {
                "n": int((y_true == k).sum()),
                "f1": measured(one_against_rest(metrics.f1, k), y_true, y_pred),
                "precision": measured(one_against_rest(metrics.ppv, k), y_true, y_pred),
                "recall": measured(one_against_rest(metrics.sensitivity, k), y_true, y_pred),
                "auroc": measured(metrics.auroc, (y_true == k).astype(int), probabilities[:, k]),
            }
            for k, name in enumerate(classes)
        },
        "confusion": [
            [int(((y_true == row) & (y_pred == column)).sum()) for column in range(len(classes))]
            for row in range(len(classes))
        ],
        "folds": _by_fold(images["fold"].to_numpy(), y_true, y_pred, len(classes)),
    }


def _by_fold(folds: np.ndarray, y_true: np.ndarray, y_pred: np.ndarray, classes: int) -> dict[Any, Any]:
    """Accuracy and macro F1 of each fold, then mean and standard deviation of the two."""
    rows: dict[Any, Any] = {}
    for fold in np.unique(folds):
        fold_true, fold_pred = y_true[folds == fold], y_pred[folds == fold]
        # A class that neither occurs nor is predicted in a fold has no F1.
        f1 = [one_against_rest(metrics.f1, k)(fold_true, fold_pred, None) for k in range(classes)]
        rows[int(fold)] = {
            "n": len(fold_true),
            "accuracy": round(float(metrics.accuracy(fold_true, fold_pred)), 6),
            "macro_f1": round(float(np.nanmean(f1)), 6),
        }
    return rows | {name: mean_and_sd([row[name] for row in rows.values()]) for name in ("accuracy", "macro_f1")}


def _probabilities(logits: np.ndarray, y_true: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Softmax (n, K) under a temperature fitted on other groups."""
    probabilities = np.zeros_like(logits)
    # Parts are assigned by the rarest class against the rest.
    rarest = (y_true == np.bincount(y_true).argmin()).astype(int)
    for fit, test in cross_fits(rarest, groups):
        probabilities[test] = softmax(logits[test] / fit_temperature(logits[fit], y_true[fit]))
    return probabilities
