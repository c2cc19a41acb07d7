"""Pictures of figures, as PNG files; drawn without a screen, legible in grey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import group_bootstrap, resamples
from bus_hf.files import replace_file

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#777777"
_GRID = np.linspace(0, 1, 201)


def roc_curve(
    path: Path,
    labels: np.ndarray,
    scores: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    n: int = 500,
    others: Mapping[str, np.ndarray] | None = None,
) -> None:
    """ROC curve with its 95 % band by `n` resamples of groups; labels int (rows,), scores float (rows,).

    `others` are scores of single members by name, drawn thinly beside it.
    """
    draws = [_roc(labels, scores, row) for weights in resamples(groups, n) for row in weights if _both(labels, row)]
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    # As many resamples as a report takes, so that picture and table say one thing.
    area = group_bootstrap(metrics.auroc, labels, scores, groups)
    with canvas(path, "False positive rate (1 - specificity)", "Sensitivity") as axes:
        axes.fill_between(_GRID, low, high, color=_BLUE, alpha=0.2, label="95 % band, by group")
        axes.plot(
            _GRID, _roc(labels, scores, None), color=_BLUE, lw=2, label="AUROC {:.3f} ({:.3f}-{:.3f})".format(*area)
        )
        for place, (name, values) in enumerate((others or {}).items()):
            area_alone = float(metrics.auroc(labels, values))
            style = ("--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))[place % 6]
            axes.plot(_GRID, _roc(labels, values, None), lw=0.9, ls=style, label=f"{name} {area_alone:.3f}")
        axes.plot((0, 1), (0, 1), color=_GREY, ls=":", label="chance")
        axes.set_title(f"{len(labels)} images, {int(np.sum(labels))} malignant")
        axes.legend(loc="lower right", fontsize=8)


def reliability(path: Path, labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> None:
    """Observed share of malignant cases against the predicted probability, in equal-width bins, Wilson intervals."""
    place = np.clip((probabilities * bins).astype(int), 0, bins - 1)
    with canvas(path, "Predicted probability", "Observed share malignant") as axes:
        axes.plot((0, 1), (0, 1), color=_GREY, ls=":", label="perfect calibration")
        for k in range(bins):
            rows = place == k
            if not rows.any():
                continue
            share = metrics.wilson(int(labels[rows].sum()), int(rows.sum()))
            centre = float(probabilities[rows].mean())
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
        axes.set_title(f"Calibration, expected error {metrics.ece(labels, probabilities):.3f}")
        axes.legend(loc="upper left")


def confusion_matrix(path: Path, labels: np.ndarray, logits: np.ndarray, threshold: float) -> None:
    """Counts at a threshold on calibrated logits (n,): rows what it is, columns what is said."""
    called = logits >= threshold
    counts = np.array([[np.sum((labels == truth) & (called == said)) for said in (0, 1)] for truth in (0, 1)])
    with canvas(path, "Said", "Is", size=(4.4, 4)) as axes:
        axes.imshow(counts, cmap="Blues", vmin=0, vmax=counts.sum())
        for truth in (0, 1):
            for said in (0, 1):
                share = counts[truth, said] / max(counts[truth].sum(), 1)
                axes.text(said, truth, f"{counts[truth, said]}\n{share:.0%} of row", ha="center", va="center")
        axes.set_xticks((0, 1), ("benign", "malignant"))
        axes.set_yticks((0, 1), ("benign", "malignant"), rotation=90, va="center")
        axes.set_title(f"At a probability of {1 / (1 + np.exp(-threshold)):.3f}")
        axes.grid(False)


def decision_curve(path: Path, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Net benefit against the threshold probability (A. Vickers, E. Elkin, 2006)."""
    thresholds = np.linspace(0.01, 0.8, 80)
    odds = thresholds / (1 - thresholds)
    ill, n = labels == 1, len(labels)
    hits = np.array([np.sum(ill & (probabilities >= t)) for t in thresholds]) / n
    alarms = np.array([np.sum(~ill & (probabilities >= t)) for t in thresholds]) / n
    with canvas(path, "Threshold probability", "Net benefit") as axes:
        axes.plot(thresholds, hits - alarms * odds, color=_BLUE, lw=2, label="this reader")
        axes.plot(thresholds, ill.mean() - (1 - ill.mean()) * odds, color=_ORANGE, ls="--", label="refer everybody")
        axes.axhline(0, color=_GREY, ls=":", label="refer nobody")
        axes.set_ylim(-0.05, float(ill.mean()) * 1.1)
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
        right = axes.twinx()
        right.plot(
            epochs, [row["auroc"] for row in history], color=_ORANGE, marker="o", ms=4, label="AUROC, held-out fold"
        )
        right.set_ylabel("AUROC (whole view)")
        lines = [*axes.get_lines(), *right.get_lines()]
        axes.legend(lines, [str(line.get_label()) for line in lines], loc="center right", fontsize=8)


def _both(labels: np.ndarray, row: np.ndarray) -> bool:
    return bool((row * labels).sum() > 0 and (row * (1 - labels)).sum() > 0)


def _roc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Sensitivity at each false positive rate of the grid."""
    rows = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    last = np.r_[scores[order][1:] != scores[order][:-1], True]
    hits = np.cumsum((rows * labels)[order])[last]
    alarms = np.cumsum((rows * (1 - labels))[order])[last]
    return np.interp(_GRID, np.r_[0, alarms / alarms[-1]], np.r_[0, hits / hits[-1]])


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
