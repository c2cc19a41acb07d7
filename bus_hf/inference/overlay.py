"""Pictures of a prediction: the heat map and the lesion box over the image."""

from __future__ import annotations

import cv2
import numpy as np

from bus_hf.probabilities import check_finite
from bus_hf.views import Box


def heat_colours(heatmap: np.ndarray) -> np.ndarray:
    """Colour a heat map float (H, W), 0..1, as uint8 RGBA: inferno, the more evidence the more opaque.

    Raises:
        BusError: the heat map holds a number that is not finite.
    """
    check_finite("a place of the heat map", heatmap)
    level = np.clip(heatmap * 255, 0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    # Half of full evidence is already opaque: the slider, not the map, decides how much of the image shows.
    alpha = np.clip(heatmap * 2, 0, 1) * 255
    return np.dstack([colours, alpha.astype(np.uint8)])


def overlay(
    grey: np.ndarray, heatmap: np.ndarray | None = None, box: Box | None = None, opacity: float = 0.5
) -> np.ndarray:
    """Draw heat map and lesion box over an image.

    Args:
        grey: uint8 (H, W).
        heatmap: float (H, W), 0..1, or None.
        box: in pixels of the image, or None.
        opacity: of the heat map where it is strongest, 0..1.

    Returns:
        uint8 RGB (H, W, 3). The box is a white dashed line on a black one, so that it shows on any background.
    """
    picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if heatmap is not None and opacity > 0:
        heat = heat_colours(heatmap)
        alpha = heat[:, :, 3:].astype(np.float32) * (opacity / 255)
        picture = np.round(picture * (1 - alpha) + heat[:, :, :3] * alpha).astype(np.uint8)
    if box is not None:
        width = max(1, round(max(grey.shape) / 300))
        left, top = round(box.x), round(box.y)
        right, bottom = round(box.x + box.w) - 1, round(box.y + box.h) - 1
        cv2.rectangle(picture, (left, top), (right, bottom), (0, 0, 0), width * 2 + 1)
        for start, end in _dashes(left, top, right, bottom, 5 * width + 3):
            cv2.line(picture, start, end, (255, 255, 255), width)
    return picture


def _dashes(left: int, top: int, right: int, bottom: int, dash: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    lines = []
    for start in range(left, right, 2 * dash):
        end = min(start + dash, right)
        lines += [((start, top), (end, top)), ((start, bottom), (end, bottom))]
    for start in range(top, bottom, 2 * dash):
        end = min(start + dash, bottom)
        lines += [((left, start), (left, end)), ((right, start), (right, end))]
    return lines
