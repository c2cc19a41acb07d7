"""Uploads of this process: kept in memory alone, each under a name that nobody can guess, until it is read once.

Gradio wants a path for each file. The paths given out here lie below a folder that never exists: they are keys of a
table, and no path that a client sends is ever opened or deleted.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from bus_hf.data.images import SUFFIXES
from bus_hf.errors import BusError

MEGABYTE = 1024 * 1024
# Seconds without a sign of life after which an upload is dropped, those between two checks of that, and those
# after which an upload is dropped in any case.
SILENT, SWEEP, OLDEST = 55.0, 2.0, 900.0
ONCE = f"an upload is read once, within {SILENT:.0f} seconds of its sender's last upload or request"


class WrongRequestError(BusError):
    """A request that asks for what cannot be given, whatever the image: the upload stays for a corrected one."""


class Sender(NamedTuple):
    """Who sends an upload.

    `owner` is the session of a browser ("" for clients without cookies, whose uploads belong to whoever knows their
    paths), `client` the address that the server sees, and `forwarded` the one that a proxy before it tells of.
    """

    owner: str = ""
    client: str = ""
    forwarded: str = ""


@dataclass(frozen=True)
class Upload:
    """A file as it was sent: its name, without folders, and its bytes."""

    name: str
    data: bytes = field(repr=False)


@dataclass
class _Entry:
    upload: Upload
    sender: Sender
    arrived: float
    seen: float
    asked_by: str | None = None


class Uploads:
    """Files between their upload and their reading; safe to use from several threads.

    Args:
        total: bytes held at most, with those under way.
        per_client: the same for one client.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        total: int = 512 * MEGABYTE,
        per_client: int = 256 * MEGABYTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Below Gradio's own folder, since it refuses all other paths before it asks whether they are opened.
        base = os.environ.get("GRADIO_TEMP_DIR") or os.path.join(tempfile.gettempdir(), "gradio")
        self.root = PurePosixPath(os.path.realpath(base), f"uploads-{secrets.token_hex(8)}")
        self._total, self._per_client, self._clock = total, per_client, clock
        self._entries: dict[str, _Entry] = {}
        self._under_way: Counter[str] = Counter()
        self._open: Counter[str | Sender] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def receiving(self, client: str) -> Iterator[Callable[[int], None]]:
        """Count the bytes of an upload while they come in; BusError when they are more than there is room for."""
        received = 0

        def more(count: int) -> None:
            nonlocal received
            with self._lock:
                held = sum(self._under_way.values()) + sum(len(one.upload.data) for one in self._entries.values())
                held_by_client = self._under_way[client] + sum(
                    len(one.upload.data) for one in self._entries.values() if one.sender.client == client
                )
                if held + count > self._total:
                    raise BusError("the page holds all the uploads that it can", remedy="try again in a minute")
                if held_by_client + count > self._per_client:
                    raise BusError(
                        f"these uploads are more than the {self._per_client // MEGABYTE} MB that one client may send",
                        remedy="send fewer files at a time",
                    )
                self._under_way[client] += count
                received += count

        try:
            yield more
        finally:
            with self._lock:
                self._under_way[client] -= received
                if not self._under_way[client]:
                    del self._under_way[client]

    def add(self, name: str, data: bytes, sender: Sender = Sender()) -> str:  # noqa: B008
        """Keep a file for its sender; returns the path that stands for it."""
        bare = "".join(c if c.isprintable() else "?" for c in PurePosixPath(name.replace("\\", "/")).name)[-200:]
        suffix = PurePosixPath(bare.lower()).suffix
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            self._entries[token] = _Entry(Upload(bare or "the image", data), sender, now, now)
        # No name of a patient's file in an address.
        return str(self.root / token / f"image{suffix if suffix in SUFFIXES else ''}")

    def has(self, path: object, owner: str = "") -> bool:
        """Whether a path stands for an upload that is here and belongs to `owner`."""
        return self._find(path, owner) is not None

    def peek(self, path: object, owner: str = "") -> Upload | None:
        """An upload that stays here; None where there is none."""
        entry = self._find(path, owner)
        return None if entry is None else entry.upload

    def ask(self, path: object, asked_by: str) -> None:
        """Note the event or session that will read an upload: it lives as long as that is connected."""
        entry = self._entries.get(self._token(path))
        if entry is not None:
            entry.asked_by, entry.seen = asked_by, self._clock()

    def take(self, path: object) -> Upload:
        """An upload, which is dropped here; BusError where it is not, or no longer, there.

        The door has checked before whose it is.
        """
        return self._pop(path).upload

    @contextmanager
    def taken(self, path: object) -> Iterator[Upload]:
        """`take`, and the upload is kept again where the block ends in a `WrongRequestError`."""
        entry = self._pop(path)
        try:
            yield entry.upload
        except WrongRequestError:
            with self._lock:
                entry.asked_by, entry.seen = None, self._clock()
                self._entries[self._token(path)] = entry
            raise

    def drop(self, paths: Iterable[object]) -> None:
        """Drop uploads that will not be read; those that are gone already are passed over."""
        with self._lock:
            for path in paths:
                self._entries.pop(self._token(path), None)

    @contextmanager
    def connected(self, *keys: str | Sender) -> Iterator[None]:
        """While this lasts, uploads that one of the keys owns, has sent or has asked for are alive."""
        present = [key for key in keys if key]
        with self._lock:
            self._open.update(present)
        try:
            yield
        finally:
            with self._lock:
                self._touch()
                self._open.subtract(present)
                self._open = +self._open

    def is_connected(self, key: str) -> bool:
        """Whether a session or an event holds a connection open."""
        return self._open[key] > 0

    def sweep(self) -> None:
        """Drop what gave no sign of life for `SILENT` seconds, or is `OLDEST` seconds old."""
        with self._lock:
            self._touch()
            now = self._clock()
            for token, entry in list(self._entries.items()):
                if now - entry.seen > SILENT or now - entry.arrived > OLDEST:
                    del self._entries[token]

    def __len__(self) -> int:
        return len(self._entries)

    def _touch(self) -> None:
        now = self._clock()
        for entry in self._entries.values():
            if any(key in self._open for key in (entry.sender.owner, entry.sender, entry.asked_by)):
                entry.seen = now

    def _pop(self, path: object) -> _Entry:
        with self._lock:
            entry = self._entries.pop(self._token(path), None)
        if entry is None:
            raise BusError(f"this upload is not, or no longer, there: {ONCE}", remedy="send the file again")
        return entry

    def _find(self, path: object, owner: str) -> _Entry | None:
        with self._lock:
            entry = self._entries.get(self._token(path))
        return entry if entry is not None and entry.sender.owner == owner else None

    def _token(self, path: object) -> str:
        """The token in a path that was given out here, or ""; text is compared, and no file is looked at."""
        if not isinstance(path, str):
            return ""
        parts = PurePosixPath(path).parts
        home = self.root.parts
        return parts[-2] if len(parts) == len(home) + 2 and parts[: len(home)] == home else ""
