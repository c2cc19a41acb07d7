"""The detector behind the page: loaded once, on first use, one image at a time; and the image that a session keeps."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bus_hf import views
from bus_hf.data.images import Scan, read_scan
from bus_hf.ensemble.manifest import OperatingPoint
from bus_hf.errors import BusError
from bus_hf.inference.detector import BreastCancerDetector
from bus_hf.inference.prediction import Prediction
from bus_hf.space.uploads import SILENT, Upload, WrongRequestError
from bus_hf.views import Box

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


@dataclass(frozen=True)
class Settings:
    """How an image is to be read.

    `point` names an operating point (None: the ensemble's own), `roi` is the lesion's box (None: it is found), `light`
    lets the light member vote alone, `heatmap` and `lesion_type` ask for more.
    """

    point: str | None = None
    roi: Box | None = None
    light: bool = False
    heatmap: bool = False
    lesion_type: bool = False


class Reader:
    """Loads an ensemble on first use, once, and reads one image at a time, however many threads ask.

    Args:
        ensemble: folder or Hub id; None takes `$BUS_HF_ENSEMBLE` at `$BUS_HF_REVISION`, else the embedded one.
        load: instead of `BreastCancerDetector.from_pretrained`, for tests.
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

    def check(self, asked: Settings) -> None:
        """WrongRequestError for settings that no image could be read with."""
        manifest = self.detector(asked.light).manifest
        names = [point.name for point in manifest.operating_points]
        if asked.point is not None and asked.point not in names:
            raise WrongRequestError(
                f"there is no operating point '{asked.point[:40]}'", remedy=f"choose one of {', '.join(names)}"
            )
        if asked.lesion_type and manifest.lesion_type is None:
            raise WrongRequestError("this ensemble has no lesion-type classifier", remedy="do not ask for one")

    def decode(self, upload: Upload) -> Scan:
        """The image of an upload."""
        with self._working:
            return read_scan(upload.data, name=upload.name)

    def read(self, scan: Scan, asked: Settings, name: str = "the image") -> Prediction:
        """Read a decoded image; WrongRequestError for settings that do not fit it."""
        detector = self.detector(asked.light)
        try:
            with self._working:
                return detector.predict(
                    scan,
                    roi=asked.roi,
                    operating_point=asked.point,
                    heatmap=asked.heatmap,
                    lesion_type=asked.lesion_type,
                    name=name,
                )
        except BusError as error:
            # The image is decoded, so nothing but the settings is left to be refused.
            raise WrongRequestError(error.what, where=error.where, remedy=error.remedy) from None

    def is_part(self, asked: Settings) -> bool:
        """Whether fewer members vote than those with which the operating points were measured."""
        return asked.light and len(self.detector(light=True).manifest.members) > 1

    def point(self, result: Prediction, light: bool = False) -> OperatingPoint:
        """The operating point that a result was made at."""
        points = self.detector(light).manifest.operating_points
        return next(point for point in points if point.name == result.operating_point)


# The cookie of a browser and the name of one of its tabs.
Session = tuple[str, str]


@dataclass
class _KeptImage:
    scan: Scan
    used: float
    seen: float


class Kept:
    """The image that each session last read, for reading it again; one each, dropped after some time.

    Args:
        is_connected: whether a session's tab is still open; `uploads.SILENT` seconds after it closed its image goes.
        seconds: without use after which an image is dropped in any case.
        sessions: that keep one at most; the one that was used the longest ago goes first.
        clock: seconds that only grow, for tests.
    """

    def __init__(
        self,
        is_connected: Callable[[str], bool],
        seconds: float = 900.0,
        sessions: int = 32,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._is_connected, self._seconds, self._sessions, self._clock = is_connected, seconds, sessions, clock
        self._images: OrderedDict[Session, _KeptImage] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, session: Session, scan: Scan | None) -> None:
        """Keep an image instead of the session's last one; None: keep none."""
        with self._lock:
            self._images.pop(session, None)
            if scan is not None:
                self._images[session] = _KeptImage(scan, self._clock(), self._clock())
            while len(self._images) > self._sessions:
                self._images.popitem(last=False)

    def get(self, session: Session) -> Scan | None:
        """The session's image, which is kept anew; None where there is none, or none any more."""
        self.sweep()
        with self._lock:
            found = self._images.get(session)
        if found is None:
            return None
        self.put(session, found.scan)
        return found.scan

    def sweep(self) -> None:
        """Drop what was not used for too long, and what belongs to a tab that is closed."""
        with self._lock:
            now = self._clock()
            for session, image in list(self._images.items()):
                if self._is_connected(session[1]):
                    image.seen = now
                if now - image.used > self._seconds or now - image.seen > SILENT:
                    del self._images[session]


class Latest:
    """What each session asked to be read last, so that a late answer to an earlier request is not shown.

    Args:
        sessions: that are remembered at most; the one that asked the longest ago goes first.
    """

    def __init__(self, sessions: int = 1024) -> None:
        self._sessions = sessions
        self._asked: OrderedDict[Session, object] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, session: Session, what: object) -> None:
        """Remember what a session asks for now."""
        with self._lock:
            self._asked.pop(session, None)
            self._asked[session] = what
            while len(self._asked) > self._sessions:
                self._asked.popitem(last=False)

    def of(self, session: Session) -> object:
        """What a session asked for last; None where nothing is known of it."""
        with self._lock:
            return self._asked.get(session)


def parse_box(given: object) -> Box | None:
    """A box from "left, top, width, height" or a list of these numbers; None for None and for empty text."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    try:
        return views.parse_box(given)
    except BusError as error:
        raise WrongRequestError(error.what, remedy=f"{error.remedy}, or leave it empty") from None
