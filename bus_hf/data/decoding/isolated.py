"""Decoding in a process of its own: a file that exhausts its decoder ends that process, and nothing else."""

from __future__ import annotations

import contextlib
import math
import os
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from bus_hf.data.decoding.decode import EXPORT, Decoded, Limits
from bus_hf.data.decoding.worker import receive, send
from bus_hf.errors import BusError

# Seconds for one image in all, and for the start of the process, which a busy machine may take long for.
MAX_WAIT, MAX_START = 10.0, 30.0
_ROOT = Path(__file__).resolve().parents[3]


class Worker:
    """One warm decoding process, started on first use and replaced when it dies or this process forks.

    Safe to call from several threads; images are decoded one after the other.

    Args:
        max_wait: seconds for one image in all.
    """

    def __init__(self, max_wait: float = MAX_WAIT) -> None:
        self._max_wait = max_wait
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    @property
    def pid(self) -> int | None:
        """Number of the process; None where none runs."""
        process = self._process
        return None if process is None else process.pid

    def decode(self, data: bytes, where: str, limits: Limits) -> Decoded:
        """Decode one file as `decode.decode` does; BusError too where it takes too much memory or time."""
        with self._lock:
            try:
                return self._ask(data, where, limits)
            except BusError:
                raise
            # The process died, did not answer in time, or answered nonsense: all are one error.
            except (OSError, EOFError, TimeoutError, ValueError, KeyError, TypeError):
                self.close()
                raise BusError(
                    "the image takes more memory or time to decode than one may", where=where, remedy=EXPORT
                ) from None

    def close(self) -> None:
        """End the process; the next image starts another one."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def _ask(self, data: bytes, where: str, limits: Limits) -> Decoded:
        process = self._started()
        watch = threading.Timer(self._max_wait, process.kill)
        watch.daemon = True
        watch.start()
        last = False
        try:
            send(cast(BinaryIO, process.stdin), {"bytes": len(data), "where": where, "limits": asdict(limits)}, data)
            answers = cast(BinaryIO, process.stdout)
            head = receive(answers)
            if head is None:
                raise EOFError
            last = bool(head["last"])
            if "error" in head:
                raise BusError(head["error"][0], where=head["error"][1], remedy=head["error"][2])
            planes: dict[str, Any] = {
                name: self._plane(answers, shape, limits) for name, shape in head["shapes"].items()
            }
            return Decoded(orientation=head["orientation"], lossy=bool(head["lossy"]), **planes)
        finally:
            watch.cancel()
            if last:
                self.close()

    def _plane(self, stream: BinaryIO, shape: Sequence[int], limits: Limits) -> np.ndarray:
        if (
            len(shape) not in (2, 3)
            or min(shape) < 1
            or math.prod(shape[:2]) > limits.max_pixels
            or list(shape[2:]) not in ([], [3])
        ):
            raise ValueError
        plane = np.empty(shape, np.uint8)
        if cast(BufferedReader, stream).readinto(plane.data.cast("B")) != plane.size:
            raise EOFError
        return plane

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is not None and self._owner == os.getpid() and process.poll() is None:
            return process
        self.close()
        environment = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LD_LIBRARY_PATH")}
        # One thread each: thread pools would take memory of their own.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", "from bus_hf.data.decoding.worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=_ROOT,
            env=environment,
        )
        self._process, self._owner = process, os.getpid()
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], MAX_START)
        if not ready or receive(cast(BinaryIO, process.stdout)) is None:
            raise TimeoutError
        return process


WORKER = Worker()


def _forked() -> None:
    # A lock that another thread held while this process was forked would never be free again.
    WORKER._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def decode(data: bytes, where: str, limits: Limits) -> Decoded:
    """Decode one file in the warm process of this one."""
    return WORKER.decode(data, where, limits)
