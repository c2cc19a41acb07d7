"""Plots of an ensemble folder and of each of its members."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from bus_hf.build.fit import Fit
from bus_hf.ensemble.records import RunRecord
from bus_hf.evaluation import calibration, combine
from bus_hf.reporting import plots


def draw(folder: Path, frame: pd.DataFrame, fitted: Fit, training: Mapping[str, RunRecord]) -> None:
    """Draw the plots of the ensemble and of each member alone, and the course of each member's training.

    Args:
        folder: of the ensemble, with a folder a member.
        frame: out-of-fold logits, one row an image, member and view.
        fitted: on those logits.
        training: records of the members, with their history.
    """
    alone = {
        member: combine.combine(frame, {member: 1.0}, fitted.views)["logit_0"].to_numpy() for member in fitted.weights
    }
    _draw(folder / "plots", fitted, fitted.logits, alone if len(alone) > 1 else {})
    for member, logits in alone.items():
        home = folder / member / "plots"
        _draw(home, fitted, fitted.scale.logits(logits))
        plots.training_history(home / "training_history.png", list(training[member].history or ()))


def _draw(folder: Path, fitted: Fit, logits: np.ndarray, others: Mapping[str, np.ndarray] | None = None) -> None:
    """Draw `cards.PLOTS` of calibrated logits (n,), and a confusion matrix at each operating point of their own."""
    folder.mkdir(exist_ok=True)
    y_true, groups = fitted.y_true, fitted.groups
    y_score = calibration.PLAIN.probabilities(logits)
    plots.roc_curve(folder / "roc_curve.png", y_true, y_score, groups, others=others)
    plots.reliability(folder / "reliability.png", y_true, y_score)
    plots.decision_curve(folder / "decision_curve.png", y_true, y_score)
    # Those of points that are no longer supported go.
    for stale in folder.glob("confusion_matrix*.png"):
        stale.unlink()
    for point, target in calibration.supported(y_true, groups).items():
        name = "confusion_matrix" if point == fitted.default_point else f"confusion_matrix_{point}"
        threshold = calibration.threshold_for_sensitivity(y_true, logits, target)
        plots.confusion_matrix(folder / f"{name}.png", y_true, logits, threshold)
