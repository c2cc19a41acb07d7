"""How a predicted box and a heat map lie on a drawn lesion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def on_lesion(mask: np.ndarray | None, box: Sequence[float] | None, heat: np.ndarray | None) -> dict[str, float]:
    """Metrics of one image; NaN where there is no lesion to measure on.

    Args:
        mask: bool (H, W) of the lesion, or None where it is not drawn.
        box: the predicted box as left, top, width, height in pixels, or None.
        heat: float (H, W) of evidence, not negative, or None where it was not made.

    Returns:
        box_* (the predicted box), mask_* (the drawn one), box_iou (0 where none was found), pointing_hit (1 where the
        heat map is strongest inside the lesion: J. Zhang et al., ECCV 2016) and energy_inside (share of the evidence
        inside: H. Wang et al., CVPRW 2020). A heat map without evidence points nowhere and counts 0.
    """
    nothing = float("nan")
    metrics = {f"box_{side}": nothing for side in "xywh"} | {f"mask_{side}": nothing for side in "xywh"}
    metrics |= dict.fromkeys(("box_iou", "pointing_hit", "energy_inside"), nothing)
    if box is not None:
        metrics |= {f"box_{side}": float(value) for side, value in zip("xywh", box, strict=True)}
    if mask is None or not mask.any():
        return metrics
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    drawn = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    metrics |= {f"mask_{side}": float(value) for side, value in zip("xywh", drawn, strict=True)}
    metrics["box_iou"] = 0.0 if box is None else box_iou(box, drawn)
    if heat is not None:
        total = float(heat.sum())
        peak = np.unravel_index(heat.argmax(), heat.shape)
        metrics["pointing_hit"] = float(mask[peak]) if total > 0 else 0.0
        metrics["energy_inside"] = float(heat[mask].sum() / total) if total > 0 else 0.0
    return metrics


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes of left, top, width, height."""
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    tall = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(wide, 0.0) * max(tall, 0.0)
    return float(common / (one[2] * one[3] + other[2] * other[3] - common))
