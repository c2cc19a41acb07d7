"""Files and folders that are written whole or not at all: beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bus_hf.errors import BusError

# `renameat2` of Linux: two paths change places in one step.
_EXCHANGE, _HERE = 2, -100
_PART = re.compile(r"\.(?P<name>.+)\.part-(?P<pid>\d+)")


@contextlib.contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    A killed process leaves `path` as it was; the next call for it clears what lies beside.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = _real(path)
    part = _part(path)
    try:
        yield part
        _flush(part)
        os.replace(part, path)
        _flush(path.parent)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def replace_folder(folder: str | Path, keep: bool = False) -> Iterator[Path]:
    """Give an empty folder beside `folder` to fill; it takes the place of that when the block ends without an error.

    Args:
        folder: is made where it is missing, and replaced where it is there.
        keep: the folder to fill begins as a copy of what is there.

    Raises:
        OSError: the folder above it cannot be written to.
    """
    folder = _real(folder)
    part = _part(folder)
    try:
        if keep and folder.is_dir():
            shutil.copytree(folder, part, symlinks=True)
        else:
            part.mkdir()
        try:
            yield part
        except BusError as error:
            # What is said is said of the folder, whose name is known.
            place = None if error.where is None else error.where.replace(str(part), str(folder))
            raise BusError(error.what, where=place, remedy=error.remedy) from None
        for home, _, names in os.walk(part):
            for name in names:
                _flush(Path(home, name))
            _flush(Path(home))
        if folder.exists():
            _exchange(part, folder)
        else:
            part.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _real(path: str | Path) -> Path:
    """Where a path leads, the folder above it made; a link keeps pointing to what is replaced."""
    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    # A kill between two renames, where they cannot be one.
    aside = _aside(real)
    if aside.exists():
        if real.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(real)
    return real


def _part(path: Path) -> Path:
    """Path beside `path` of this process alone; what killed ones left there is cleared."""
    for other in path.parent.glob(f".{glob.escape(path.name)}.part-*"):
        found = _PART.fullmatch(other.name)
        if found and found["name"] == path.name and not _alive(int(found["pid"])):
            shutil.rmtree(other) if other.is_dir() else other.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.part-{os.getpid()}")


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Somebody else's.
        pass
    return True


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.before")


def _exchange(new: Path, old: Path) -> None:
    """Let two folders change places in one step; in two where the system or the file system has no such step."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None and call(_HERE, os.fsencode(new), _HERE, os.fsencode(old), _EXCHANGE) == 0:
        return
    if call is not None and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(old))
    aside = _aside(old)
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    """Let the disk have what was written to a file or folder."""
    if path.is_symlink():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot flush a folder.
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(handle)
