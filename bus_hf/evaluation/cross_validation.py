"""Metrics of one architecture, trained once a fold: pooled over all images, and fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bus_hf.evaluation import metrics
from bus_hf.evaluation.evidence import model_metrics
from bus_hf.evaluation.weighting import HeldOutLogits


def report(held_out: HeldOutLogits, folds: np.ndarray, view_weights: Mapping[str, float]) -> dict[str, Any]:
    """Metrics of out-of-fold logits, every image from the network that held out its fold.

    Args:
        held_out: logits of one member.
        folds: int (n,), the fold of each image.
        view_weights: weight of each view.

    Returns:
        `pooled`, as of `evidence.model_metrics` (temperature and thresholds fitted on other groups), and `folds`: the
        AUROC of each fold that holds both classes by source, their mean and standard deviation.
    """
    logits = held_out.averaged({held_out.members[0]: 1.0}, view_weights)
    sources = sorted(set(held_out.sources))
    parts = {"all": np.ones(len(folds), bool)} | {name: held_out.sources == name for name in sources}
    return {
        "pooled": model_metrics(held_out, logits),
        "folds": {name: _by_fold(held_out.y_true[rows], logits[rows], folds[rows]) for name, rows in parts.items()},
        "view_weights": dict(view_weights),
        "interval": "95 % by bootstrap of groups",
    }


def _by_fold(y_true: np.ndarray, logits: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    """AUROC of each fold that holds both classes, with mean and standard deviation."""
    both = [fold for fold in sorted(set(folds.tolist())) if len(set(y_true[folds == fold])) == 2]
    areas = {str(fold): round(float(metrics.auroc(y_true[folds == fold], logits[folds == fold])), 6) for fold in both}
    return {"auroc": areas, **mean_and_sd(list(areas.values()))}


def mean_and_sd(values: list[float]) -> dict[str, float | None]:
    """Mean and standard deviation over folds, to six decimals; None where there are too few."""
    return {
        "mean": round(float(np.mean(values)), 6) if values else None,
        "sd": round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None,
    }
