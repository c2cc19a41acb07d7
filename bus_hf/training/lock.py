"""One writer for an output folder: a lock that ends with its process, however that ends."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bus_hf.errors import BusError

LOCK = "run.lock"


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Hold `output`, which is made where it is missing, for this process alone.

    The lock is POSIX's (fcntl), which forked workers do not inherit: a worker that outlives a killed run holds nothing.

    Raises:
        BusError: another process writes there, or the folder cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / LOCK).open("a+", encoding="utf-8")
    except OSError as error:
        raise BusError(
            f"the output folder cannot be written ({error.strerror})", where=output, remedy="choose another --output"
        ) from None
    with file:
        if not _lock(file.fileno()):
            file.seek(0)
            raise BusError(
                f"another run is writing here (process {file.read().strip() or 'unknown'})",
                where=output,
                remedy="wait until it ends, stop it, or choose another --output",
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _lock(descriptor: int) -> bool:
    """Lock an open file; False where another process holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        warnings.warn("This system has no file locks: start no second run with the same --output.", stacklevel=2)
        return True
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        warnings.warn(
            "The file system of --output has no file locks: start no second run with the same --output.", stacklevel=2
        )
    return True
