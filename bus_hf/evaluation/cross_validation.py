"""Figures of one member, trained once a fold: pooled over all images, and fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bus_hf.evaluation import metrics
from bus_hf.evaluation.evidence import reader, weighted_logits
from bus_hf.evaluation.weighting import Readings


def report(read: Readings, folds: np.ndarray, view_weights: Mapping[str, float]) -> dict[str, Any]:
    """Figures of out-of-fold logits, every image read by the network that left out its fold.

    Args:
        read: logits of one member.
        folds: int (n,), the fold of each image.
        view_weights: weight of each view.

    Returns:
        `pooled`, as of `evidence.reader` (temperature and thresholds fitted on other groups), and `folds`: the AUROC of
        each fold that holds both classes by source, their mean and standard deviation.
    """
    logits = weighted_logits(read, {read.members[0]: 1.0}, view_weights)
    parts = {"all": np.ones(len(folds), bool)} | {name: read.sources == name for name in sorted(set(read.sources))}
    by_fold: dict[str, dict[str, Any]] = {}
    for name, rows in parts.items():
        areas = {
            str(fold): round(float(metrics.auroc(read.labels[own], logits[own])), 6)
            for fold in sorted(set(folds.tolist()))
            if len(set(read.labels[own := rows & (folds == fold)])) == 2
        }
        values = list(areas.values())
        spread = round(float(np.std(values, ddof=1)), 6) if len(values) > 1 else None
        by_fold[name] = {"auroc": areas, "mean": round(float(np.mean(values)), 6) if values else None, "sd": spread}
    return {
        "pooled": reader(read, logits),
        "folds": by_fold,
        "view_weights": dict(view_weights),
        "interval": "95 % by bootstrap of groups",
    }
