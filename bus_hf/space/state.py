"""What a page keeps in memory: uploads until they are read, the image of each tab, and what each tab asked for last."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from bus_hf.data.images import Scan
from bus_hf.space.uploads import SILENT, Uploads

# The cookie of a browser and the name of one of its tabs.
Session = tuple[str, str]


class State:
    """All that a page keeps.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.uploads = Uploads(clock=clock)
        self.images = KeptImages(self.uploads.is_connected, clock=clock)
        self.requests = LatestRequests()

    def sweep(self) -> None:
        """Drop what is too old, and what belongs to a closed tab."""
        self.uploads.sweep()
        self.images.sweep()


@cache
def state_of_process() -> State:
    """The state that the page of this process has unless it is given another one."""
    return State()


@dataclass
class _KeptImage:
    scan: Scan
    used: float
    seen: float


class KeptImages:
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
            kept = self._images.get(session)
        if kept is None:
            return None
        self.put(session, kept.scan)
        return kept.scan

    def sweep(self) -> None:
        """Drop what was not used for too long, and what belongs to a tab that is closed."""
        with self._lock:
            now = self._clock()
            for session, image in list(self._images.items()):
                if self._is_connected(session[1]):
                    image.seen = now
                if now - image.used > self._seconds or now - image.seen > SILENT:
                    del self._images[session]


class LatestRequests:
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

    def last(self, session: Session) -> object:
        """What a session asked for last; None where nothing is known of it."""
        with self._lock:
            return self._asked.get(session)
