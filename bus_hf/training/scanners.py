"""Augmentation that mimics other scanners and hands: tone curves, gain over depth, burned-in marks, resampling."""

from __future__ import annotations

import os
from typing import Any

# Albumentations asks a server for its newest version on import; training asks nobody anything.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np


class DepthGain(A.ImageOnlyTransform):
    """Another time-gain compensation: an offset that varies smoothly over depth; black outside the beam stays black.

    Args:
        offset: largest offset at any of the sliders, as a share of full scale.
        sliders: number of depths whose gain is drawn; between them it is interpolated.
        p: probability of applying it.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        """Bounds of the arguments, as albumentations checks them."""

        offset: float
        sliders: int

    def __init__(self, offset: float = 0.15, sliders: int = 6, p: float = 0.5):
        super().__init__(p=p)
        self.offset = offset
        self.sliders = sliders

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the gain of each row, in grey values."""
        offsets = self.random_generator.uniform(-self.offset, self.offset, self.sliders)
        rows = np.linspace(0, self.sliders - 1, params["shape"][0])
        return {"gain": (255 * np.interp(rows, np.arange(self.sliders), offsets)).astype(np.float32)}

    def apply(self, img: np.ndarray, gain: np.ndarray, **params: Any) -> np.ndarray:
        """Add the gain to a uint8 (H, W) or (H, W, 1) image."""
        shaped = gain.reshape((-1,) + (1,) * (img.ndim - 1))
        return np.where(img > 0, np.clip(img + shaped, 0, 255), 0).astype(np.uint8)


class Marks(A.ImageOnlyTransform):
    """Marks as sonographers burn them in: pairs of calipers, at times with a dotted line, and a line of text.

    They are drawn anywhere, on lesions of both classes and on none, so that nothing can be read from them.

    Args:
        pairs: range of the number of caliper pairs.
        p: probability of applying it.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        """Bounds of the arguments, as albumentations checks them."""

        pairs: tuple[int, int]

    def __init__(self, pairs: tuple[int, int] = (1, 2), p: float = 0.2):
        super().__init__(p=p)
        self.pairs = pairs

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw where the marks lie, as shares of the image, and how bright they are."""
        rng = self.random_generator
        count = int(rng.integers(self.pairs[0], self.pairs[1] + 1))
        text = "".join(rng.choice(list("0123456789.DLRmc "), size=int(rng.integers(4, 12))))
        return {
            "ends": rng.uniform(0.1, 0.9, (count, 2, 2)),
            "dotted": rng.random(count) < 0.5,
            "grey": int(rng.integers(150, 256)),
            "arm": float(rng.uniform(0.01, 0.03)),
            "text": text if rng.random() < 0.5 else "",
            "place": rng.uniform((0.0, 0.1), (0.6, 1.0)),
        }

    def apply(
        self,
        img: np.ndarray,
        ends: np.ndarray,
        dotted: np.ndarray,
        grey: int,
        arm: float,
        text: str,
        place: np.ndarray,
        **params: Any,
    ) -> np.ndarray:
        """Return a copy of a uint8 (H, W) or (H, W, 1) image with the marks drawn in."""
        out = np.ascontiguousarray(img.copy())
        height, width = img.shape[:2]
        size = max(2, round(arm * max(height, width)))
        for pair, line in zip(ends, dotted, strict=True):
            points = [(round(x * (width - 1)), round(y * (height - 1))) for x, y in pair]
            for point in points:
                cv2.drawMarker(out, point, grey, cv2.MARKER_CROSS, 2 * size, 1)
            if line:
                for share in np.linspace(0, 1, max(3, round(float(np.hypot(*(pair[1] - pair[0]))) * 40))):
                    x, y = (1 - share) * pair[0] + share * pair[1]
                    cv2.circle(out, (round(x * (width - 1)), round(y * (height - 1))), 0, grey, -1)
        if text:
            corner = round(place[0] * (width - 1)), round(place[1] * (height - 1))
            cv2.putText(out, text, corner, cv2.FONT_HERSHEY_SIMPLEX, max(0.25, size / 12), grey, 1, cv2.LINE_AA)
        return out


def scanner_steps(strength: float) -> list[A.BasicTransform]:
    """Transforms of another scanner, in order, at `strength` (0 = none, 1 = as named in the trials)."""
    if strength == 0:
        return []
    return [
        A.RandomToneCurve(scale=min(0.3 * strength, 0.9), p=0.5),
        DepthGain(offset=0.15 * strength, p=0.5),
        Marks(p=min(0.25 * strength, 1.0)),
        A.Downscale(
            scale_range=(max(0.2, 1 - 0.6 * strength), 0.9),
            interpolation_pair={"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_CUBIC},
            p=0.25,
        ),
    ]
