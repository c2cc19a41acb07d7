"""Figures as PNG files; drawn without a screen, legible in grey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import group_bootstrap, resamples
from bus_hf.files import replace_file
from bus_hf.probabilities import sigmoid

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#777777"
_GRID = np.linspace(0, 1, 201)


def roc_curve(
    path: Path,
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    n: int = 500,
    others: Mapping[str, np.ndarray] | None = None,
) -> None:
    """ROC curve with its 95 % confidence band by `n` resamples of groups; y_true int (rows,), y_score float (rows,).

    `others` are scores of single members by name, drawn thinly beside it.
    """
    draws = [_roc(y_true, y_score, row) for weights in resamples(groups, n) for row in weights if _both(y_true, row)]
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    # As many resamples as a report takes, so that picture and table say one thing.
    area = group_bootstrap(metrics.auroc, y_true, y_score, groups)
    with canvas(path, "False positive rate (1 - specificity)", "Sensitivity") as axes:
        axes.fill_between(_GRID, low, high, color=_BLUE, alpha=0.2, label="95 % confidence band, by group")
        axes.plot(
            _GRID, _roc(y_true, y_score, None), color=_BLUE, lw=2, label="AUROC {:.3f} ({:.3f}-{:.3f})".format(*area)
        )
        for place, (name, values) in enumerate((others or {}).items()):
            area_alone = float(metrics.auroc(y_true, values))
            style = ("--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))[place % 6]
            axes.plot(_GRID, _roc(y_true, values, None), lw=0.9, ls=style, label=f"{name} {area_alone:.3f}")
        axes.plot((0, 1), (0, 1), color=_GREY, ls=":", label="chance")
        axes.set_title(f"{len(y_true)} images, {int(np.sum(y_true))} malignant")
        axes.legend(loc="lower right", fontsize=8)


def reliability(path: Path, y_true: np.ndarray, y_prob: np.ndarray, bins: int = 10) -> None:
    """Observed share of malignant cases against the predicted probability, in equal-width bins, Wilson intervals."""
    place = np.clip((y_prob * bins).astype(int), 0, bins - 1)
    with canvas(path, "Predicted probability", "Observed share malignant") as axes:
        axes.plot((0, 1), (0, 1), color=_GREY, ls=":", label="perfect calibration")
        for k in range(bins):
            rows = place == k
            if not rows.any():
                continue
            share = metrics.wilson(int(y_true[rows].sum()), int(rows.sum()))
            centre = float(y_prob[rows].mean())
            axes.errorbar(
                centre,
                share.value,
                yerr=[[max(0.0, share.value - share.low)], [max(0.0, share.high - share.value)]],
                fmt="o",
                color=_BLUE,
                capsize=3,
                label="images in bin, 95 % interval" if k == place.min() else None,
            )
            axes.annotate(
                f"n={int(rows.sum())}", (centre, share.value), (6, -10), textcoords="offset points", fontsize=7
            )
        axes.set_title(f"Calibration, expected error {metrics.ece(y_true, y_prob):.3f}")
        axes.legend(loc="upper left")


def confusion_matrix(path: Path, y_true: np.ndarray, logits: np.ndarray, threshold: float) -> None:
    """Counts at a threshold on calibrated logits (n,): rows the true class, columns the predicted one."""
    y_pred = logits >= threshold
    counts = np.array([[np.sum((y_true == row) & (y_pred == column)) for column in (0, 1)] for row in (0, 1)])
    title = f"At a probability of {sigmoid(threshold):.3f}"
    draw_counts(path, counts, ("benign", "malignant"), title, size=(4.4, 4))


def draw_counts(
    path: Path, counts: np.ndarray, classes: Sequence[str], title: str = "", size: tuple[float, float] = (5.6, 5)
) -> None:
    """Confusion matrix of counts, int (K, K): rows the true class, columns the predicted one; shares of each row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    places = range(len(counts))
    with canvas(path, "Predicted", "True", size) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in places:
            for column in places:
                text = f"{counts[row, column]}\n{shares[row, column]:.0%} of row"
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set_xticks(places, classes)
        axes.set_yticks(places, classes, rotation=90, va="center")
        axes.set_title(title)
        axes.grid(False)


def decision_curve(path: Path, y_true: np.ndarray, y_prob: np.ndarray) -> None:
    """Net benefit against the threshold probability (A. Vickers, E. Elkin, 2006)."""
    thresholds = np.linspace(0.01, 0.8, 80)
    odds = thresholds / (1 - thresholds)
    malignant, n = y_true == 1, len(y_true)
    true_positives = np.array([np.sum(malignant & (y_prob >= t)) for t in thresholds]) / n
    false_positives = np.array([np.sum(~malignant & (y_prob >= t)) for t in thresholds]) / n
    with canvas(path, "Threshold probability", "Net benefit") as axes:
        axes.plot(thresholds, true_positives - false_positives * odds, color=_BLUE, lw=2, label="this model")
        share = float(malignant.mean())
        axes.plot(thresholds, share - (1 - share) * odds, color=_ORANGE, ls="--", label="refer everybody")
        axes.axhline(0, color=_GREY, ls=":", label="refer nobody")
        axes.set_ylim(-0.05, share * 1.1)
        axes.legend(loc="upper right")


def training_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Loss terms and AUROC on the held-out fold, epoch by epoch."""
    epochs = [row["epoch"] for row in history]
    with canvas(path, "Epoch", "Loss") as axes:
        for key, style, name in (
            ("loss", "-", "total"),
            ("loss_classes", "--", "classes"),
            ("loss_lesion", "-.", "lesion"),
            ("loss_inside", ":", "inside"),
        ):
            axes.plot(epochs, [row[key] for row in history], color=_BLUE, ls=style, label=f"loss: {name}")
        lines = list(axes.get_lines())
        # A run that holds nothing out measures no AUROC.
        if all("auroc" in row for row in history):
            right = axes.twinx()
            areas = [row["auroc"] for row in history]
            right.plot(epochs, areas, color=_ORANGE, marker="o", ms=4, label="AUROC, held-out images")
            right.set_ylabel("AUROC (whole view)")
            lines += right.get_lines()
        axes.legend(lines, [str(line.get_label()) for line in lines], loc="center right", fontsize=8)


def _both(y_true: np.ndarray, row: np.ndarray) -> bool:
    return bool((row * y_true).sum() > 0 and (row * (1 - y_true)).sum() > 0)


def _roc(y_true: np.ndarray, y_score: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
    """Sensitivity at each false positive rate of the grid."""
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    order = np.argsort(-y_score, kind="stable")
    last = np.r_[y_score[order][1:] != y_score[order][:-1], True]
    true_positives = np.cumsum((weights * y_true)[order])[last]
    false_positives = np.cumsum((weights * (1 - y_true))[order])[last]
    return np.interp(
        _GRID, np.r_[0, false_positives / false_positives[-1]], np.r_[0, true_positives / true_positives[-1]]
    )


@contextmanager
def canvas(path: Path, x: str, y: str, size: tuple[float, float] = (6, 4.6)) -> Iterator[Any]:
    """Axes with named sides, written to `path` as PNG when the block ends."""
    # Figures of their own, not pyplot's: nothing is kept, and no screen is asked for.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    yield axes
    with replace_file(path) as part:
        figure.savefig(part, format="png")
