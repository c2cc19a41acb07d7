"""What a finished run leaves beside its member: logits, record, history, pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bus_hf.config import TrainConfig, to_mapping
from bus_hf.evaluation.combine import combine
from bus_hf.filenames import HISTORY, LOGITS, RUN
from bus_hf.labels import LabelSet
from bus_hf.probabilities import log_odds
from bus_hf.reporting import plots
from bus_hf.views import VIEW_WEIGHTS

# Where things lie, which says nothing about the weights.
_PLACES = ("data", "output", "push_to_hub", "hub_private")


def recorded_settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that a run's record keeps."""
    return {key: value for key, value in to_mapping(config).items() if key not in _PLACES}


def write_run(
    frame: pd.DataFrame, labels: LabelSet, record: Mapping[str, Any], history: list[dict[str, float]], output: Path
) -> None:
    """Write `out_of_fold.parquet`, `history.json`, three plots and `run.json`.

    Args:
        frame: as `held_out.held_out_logits` makes it.
        labels: of the run.
        record: of the run, JSON-ready.
        history: one row an epoch.
        output: the folder to write into, that of `files.replace_together`: what says that a run is finished has to
            come with all the rest.
    """
    frame.to_parquet(output / LOGITS, index=False)
    (output / HISTORY).write_text(json.dumps(history, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _write_plots(frame, labels, history, output)
    (output / RUN).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _write_plots(frame: pd.DataFrame, labels: LabelSet, history: list[dict[str, float]], output: Path) -> None:
    """Write `training_history.png`, `roc_curve.png` and `confusion_matrix.png` of the out-of-fold views.

    Views are averaged by their default weights, without calibration. ROC and confusion matrix are those of the
    malignant class against the rest; the matrix is drawn at a probability of one half.
    """
    images = combine(frame, {str(frame["member"].iloc[0]): 1.0}, VIEW_WEIGHTS)
    logits = images[[f"logit_{k}" for k in range(labels.num_logits)]].to_numpy()
    y_true = (images["label"].to_numpy() == labels.cancer).astype(int)
    y_score = np.array([log_odds(row, labels.cancer) for row in logits])
    plots.training_history(output / "training_history.png", history)
    plots.roc_curve(output / "roc_curve.png", y_true, y_score, images["group"].to_numpy())
    plots.confusion_matrix(output / "confusion_matrix.png", y_true, y_score, threshold=0.0)
