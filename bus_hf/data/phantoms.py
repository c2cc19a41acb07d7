"""Made images: speckle, layers and a lesion, for tests, examples and smoke runs. Not a simulation of any patient."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image

Kind = Literal["normal", "benign", "malignant"]
KINDS: tuple[Kind, ...] = ("normal", "benign", "malignant")


def phantom(rng: np.random.Generator, kind: Kind, shape: tuple[int, int] = (256, 320)) -> tuple[np.ndarray, np.ndarray]:
    """Draw one phantom.

    A benign one holds a smooth, wide, dark ellipse with a bright band below; a malignant one an irregular, spiculated
    one, taller than wide, with a shadow below; a normal one none.

    Args:
        rng: the only source of randomness.
        kind: which lesion.
        shape: (height, width) in pixels.

    Returns:
        uint8 (H, W) image and bool (H, W) lesion mask (all False for a normal one).
    """
    height, width = shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    depth = rows / height
    decibels = _layers(rng, rows, columns, shape)
    mask = np.zeros(shape, bool)
    if kind != "normal":
        cx, cy = width * rng.uniform(0.3, 0.7), height * rng.uniform(0.38, 0.6)
        angle = np.arctan2(rows - cy, columns - cx)
        radius = min(shape) * rng.uniform(0.12, 0.2)
        if kind == "benign":
            wide, tall, edge = radius * rng.uniform(1.2, 1.5), radius * rng.uniform(0.65, 0.85), 1.0
        else:
            wide, tall = radius * rng.uniform(0.75, 0.9), radius * rng.uniform(1.1, 1.4)
            spikes = rng.integers(7, 13)
            edge = (
                1
                + 0.22 * np.sin(spikes * angle + rng.uniform(0, 6.28))
                + 0.1 * np.sin(3 * angle + rng.uniform(0, 6.28))
            )
        distance = np.hypot((columns - cx) / wide, (rows - cy) / tall) / edge
        mask = distance < 1
        inside = 1 / (1 + np.exp(np.minimum((distance - 1) * (40 if kind == "benign" else 15), 60)))
        decibels = decibels - inside * rng.uniform(16, 24)
        below = (rows > cy) & (np.abs(columns - cx) < 0.85 * wide) & ~mask
        trail = cv2.GaussianBlur(below.astype(np.float32), (0, 0), 4) * np.exp(-(rows - cy - tall) / (0.5 * height))
        decibels = decibels + np.clip(trail, 0, 1) * (9 if kind == "benign" else -18)
    # Rayleigh speckle on the envelope: the magnitude of complex Gaussian scatterers, log-compressed over 60 dB.
    parts = [cv2.GaussianBlur(rng.standard_normal(shape), (0, 0), sigmaX=1.6, sigmaY=0.9) for _ in range(2)]
    envelope = np.hypot(*parts)
    decibels = decibels + 20 * np.log10(np.maximum(envelope / envelope.mean(), 1e-3)) - 8 * depth
    image = np.clip((decibels + 60) * (255 / 60), 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(image, (0, 0), 0.6), mask


def write_phantoms(folder: Path, per_class: int, seed: int = 0) -> None:
    """Write `per_class` phantoms of each kind in BUSI's layout: `<kind>/<kind> (n).png` beside `_mask.png`."""
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(1, per_class + 1):
            image, mask = phantom(rng, kind)
            Image.fromarray(image).save(folder / kind / f"{kind} ({number}).png")
            Image.fromarray(mask).save(folder / kind / f"{kind} ({number})_mask.png")


def _layers(rng: np.random.Generator, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brightness of tissue layers in decibels: skin, fat with septa, gland, muscle."""
    height, width = shape
    wave = height * 0.03 * np.sin(columns / width * rng.uniform(2, 6) + rng.uniform(0, 6.28))
    decibels = np.full(shape, -26.0)
    for top, level in zip((0.0, 0.05, 0.28, 0.78), rng.uniform((-12, -30, -24, -22), (-8, -26, -18, -16)), strict=True):
        decibels = np.where(rows > top * height + (wave if top else 0), level, decibels)
    # Slow changes of brightness differ from image to image, so that no two phantoms are near-duplicates.
    coarse = rng.standard_normal((6, 8)).astype(np.float32)
    decibels = decibels + 3.5 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    streaks = rng.standard_normal((24, 10)).astype(np.float32)
    return decibels + 2.0 * cv2.resize(streaks, (width, height), interpolation=cv2.INTER_CUBIC)
