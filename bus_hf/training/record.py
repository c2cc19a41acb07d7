"""Pictures of a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from bus_hf.evaluation import plots
from bus_hf.labels import LabelSet
from bus_hf.views import VIEW_WEIGHTS


def write_plots(frame: pd.DataFrame, labels: LabelSet, history: list[dict[str, float]], output: Path) -> None:
    """Write `training_history.png`, `roc_curve.png` and `confusion_matrix.png` of the out-of-fold views.

    Views are averaged by their default weights, without calibration. ROC and confusion matrix are those of the
    malignant class against the rest; the matrix is drawn at a probability of one half.
    """
    columns = [f"logit_{k}" for k in range(labels.num_logits)]
    weights = frame["view"].map(VIEW_WEIGHTS).to_numpy()
    weighted = frame[columns].mul(weights, axis=0).assign(name=frame["name"])
    logits = weighted.groupby("name", sort=False)[columns].sum().to_numpy()
    images = frame.groupby("name", sort=False).first()
    truth = (images["label"].to_numpy() == labels.cancer).astype(int)
    if labels.num_logits == 1:
        malignant = 1 / (1 + np.exp(-logits[:, 0]))
    else:
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        malignant = (raised / raised.sum(axis=1, keepdims=True))[:, labels.cancer]
    plots.training_history(output / "training_history.png", history)
    plots.roc_curve(output / "roc_curve.png", truth, malignant, images["group"].to_numpy())
    plots.confusion_matrix(output / "confusion_matrix.png", truth, malignant, 0.5)
