"""The detector that all visitors of a page share: loaded once, on first use, one image at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from bus_hf.data.images import Scan, read_scan
from bus_hf.ensemble.manifest import OperatingPoint
from bus_hf.errors import BusError
from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.inference.prediction import Prediction
from bus_hf.space.arguments import Settings
from bus_hf.space.uploads import Upload, WrongRequestError

_ROOT = Path(__file__).resolve().parents[2]


def default_ensemble() -> str:
    """`$BUS_HF_ENSEMBLE`, else the folder `checkpoints` of a clone; BusError where neither is there."""
    embedded = _ROOT / "checkpoints"
    if not os.environ.get("BUS_HF_ENSEMBLE") and not embedded.is_dir():
        raise BusError(
            "no ensemble comes with an installed bus-hf",
            remedy="name a folder or a Hub id with --ensemble or in $BUS_HF_ENSEMBLE",
        )
    return os.environ.get("BUS_HF_ENSEMBLE") or str(embedded)


class SharedDetector:
    """Loads an ensemble on first use, once, and runs inference on one image at a time, however many threads ask.

    Args:
        ensemble: folder or Hub id; None takes `$BUS_HF_ENSEMBLE` at `$BUS_HF_REVISION`, else the embedded one.
        load: instead of `BreastCancerDetector.from_pretrained`.
    """

    def __init__(self, ensemble: str | None = None, load: Callable[..., BreastCancerDetector] | None = None) -> None:
        self.ensemble = ensemble or default_ensemble()
        # The revision belongs to the ensemble that is named beside it.
        self.revision = None if ensemble else os.environ.get("BUS_HF_REVISION")
        self._load = load or BreastCancerDetector.from_pretrained
        self._loading, self._working = threading.Lock(), threading.Lock()
        self._detectors: dict[bool, BreastCancerDetector] = {}

    def detector(self, light: bool = False) -> BreastCancerDetector:
        """The detector of all members, or of the light one alone; BusError where it cannot be loaded."""
        with self._loading:
            if light not in self._detectors:
                members = ["light"] if light else None
                self._detectors[light] = self._load(self.ensemble, revision=self.revision, members=members)
            return self._detectors[light]

    def check(self, settings: Settings) -> None:
        """WrongRequestError for settings that fit no image."""
        manifest = self.detector(settings.light).manifest
        names = [point.name for point in manifest.operating_points]
        if settings.point is not None and settings.point not in names:
            raise WrongRequestError(
                f"there is no operating point '{settings.point[:40]}'", remedy=f"choose one of {', '.join(names)}"
            )
        if settings.lesion_type and manifest.lesion_type is None:
            raise WrongRequestError("this ensemble has no lesion-type classifier", remedy="do not ask for one")

    def decode(self, upload: Upload) -> Scan:
        """The image of an upload."""
        with self._working:
            return read_scan(upload.data, name=upload.name)

    def predict(self, scan: Scan, settings: Settings, name: str = "the image") -> Prediction:
        """Run inference on a decoded image; WrongRequestError for settings that do not fit it."""
        detector = self.detector(settings.light)
        try:
            with self._working:
                return detector.predict(
                    scan,
                    roi=settings.roi,
                    operating_point=settings.point,
                    heatmap=settings.heatmap,
                    lesion_type=settings.lesion_type,
                    name=name,
                )
        except BusError as error:
            # The image is decoded, so nothing but the settings is left to be refused.
            raise WrongRequestError(error.what, where=error.where, remedy=error.remedy) from None

    def is_subset(self, settings: Settings) -> bool:
        """Whether fewer members are averaged than those with which the operating points were measured."""
        return settings.light and len(self.detector(light=True).manifest.members) > 1

    def operating_point(self, result: Prediction, light: bool = False) -> OperatingPoint:
        """The operating point that a result was made at."""
        points = self.detector(light).manifest.operating_points
        return next(point for point in points if point.name == result.operating_point)
