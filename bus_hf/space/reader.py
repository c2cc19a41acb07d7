"""The detector behind the page: loaded once, on first use, and what becomes of an uploaded file."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bus_hf.data.images import read_image
from bus_hf.detector import BreastCancerDetector, Prediction
from bus_hf.errors import BusError

_ROOT = Path(__file__).resolve().parents[2]


def default_ensemble() -> str:
    """`$BUS_HF_ENSEMBLE`, else the folder `checkpoints` beside the package."""
    return os.environ.get("BUS_HF_ENSEMBLE") or str(_ROOT / "checkpoints")


class Reader:
    """Loads an ensemble on first use, once, however many threads ask.

    Args:
        ensemble: folder or Hub id; None takes `$BUS_HF_ENSEMBLE` at `$BUS_HF_REVISION`, else the embedded one.
        load: instead of `BreastCancerDetector.from_pretrained`, for tests.
    """

    def __init__(self, ensemble: str | None = None, load: Callable[..., BreastCancerDetector] | None = None) -> None:
        self.ensemble = ensemble or default_ensemble()
        # The revision belongs to the ensemble that is named beside it.
        self.revision = None if ensemble else os.environ.get("BUS_HF_REVISION")
        self._load = load or BreastCancerDetector.from_pretrained
        self._lock = threading.Lock()
        self._detectors: dict[bool, BreastCancerDetector] = {}

    def detector(self, light: bool = False) -> BreastCancerDetector:
        """The detector of all members, or of the light one alone; BusError where it cannot be loaded."""
        with self._lock:
            if light not in self._detectors:
                members = ["light"] if light else None
                self._detectors[light] = self._load(self.ensemble, revision=self.revision, members=members)
            return self._detectors[light]

    def read(
        self,
        grey: np.ndarray,
        point: str | None,
        roi: str = "",
        light: bool = False,
        second: bool = False,
        name: str = "the image",
    ) -> Prediction:
        """Read a grey image (H, W) with its heat map; `roi` is "left, top, width, height" in pixels, or empty."""
        return self.detector(light).predict(
            grey, roi=parse_box(roi), operating_point=point, heatmap=True, second_reading=second, name=name
        )


def decoded(path: str, name: str) -> np.ndarray:
    """Decode an upload to grey (H, W), and delete it whatever comes of it."""
    try:
        return read_image(path, name=name)
    finally:
        delete(path)


def delete(path: str) -> None:
    """Delete an uploaded file and the folder that was made for it."""
    with contextlib.suppress(OSError):
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def parse_box(text: str) -> tuple[float, float, float, float] | None:
    """Parse "left, top, width, height"; None for empty text."""
    if not text or not text.strip():
        return None
    try:
        left, top, width, height = (float(part) for part in text.replace(";", ",").split(","))
    except ValueError:
        raise BusError(
            f"'{text[:40]}' is no lesion box",
            remedy="write left, top, width and height in pixels, such as 120, 80, 60, 40, or leave it empty",
        ) from None
    return left, top, width, height
