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
# Where a shell lets a program write: nothing there can be replaced.
_STREAM = re.compile(r"/dev/std(out|err)|/dev/fd/.*|/proc/.*")
# Holds what `replace_together` has decided on and not yet put into its place.
_SETTLING = ".settling"


@contextlib.contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    A killed process leaves `path` as it was; the next call for it clears what lies beside. A pipe or a device is
    written to as it is.

    Raises:
        OSError: the folder cannot be written to.
    """
    if _STREAM.fullmatch(os.path.abspath(path)) or (os.path.exists(path) and not os.path.isfile(path)):
        yield Path(path)
        return
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
        BusError: this process works inside of it, where it cannot be replaced.
        OSError: the folder above it cannot be written to.
    """
    folder = _real(folder)
    if Path(os.path.realpath(".")).is_relative_to(folder):
        raise BusError(
            "the command is run inside of the folder that it replaces", where=folder, remedy="leave it first"
        )
    part = _part(folder)
    try:
        if keep and folder.is_dir():
            shutil.copytree(folder, part, symlinks=True)
        else:
            part.mkdir()
        with _named(part, folder):
            yield part
        put(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def put(new: Path, folder: Path) -> None:
    """Flush a folder to the disk and let it take the place of another one in one step, which is then deleted.

    Args:
        new: whole, beside `folder`.
        folder: may be missing.

    Raises:
        OSError: it cannot be written to.
    """
    _flush_all(new)
    mend(folder)
    if folder.exists():
        _exchange(new, folder)
        shutil.rmtree(new, ignore_errors=True)
    else:
        new.rename(folder)
    _flush(folder.parent)


@contextlib.contextmanager
def replace_together(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; its entries join `folder`, all or none, when the block ends without an error.

    One rename decides. A process that is killed before leaves everything as it was; what one that is killed later has
    not put into its place, `settle` does.

    Args:
        folder: is made where it is missing; entries of other names stay.

    Raises:
        OSError: it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder)
    part = _part(folder / "results")
    try:
        part.mkdir()
        with _named(part, folder):
            yield part
        _flush_all(part)
        part.rename(folder / _SETTLING)
        _flush(folder)
        settle(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def settle(folder: Path) -> None:
    """Finish what `replace_together` had decided for `folder` when it was killed; call it before the folder is read.

    Raises:
        BusError: the folder cannot be written to.
    """
    home = folder / _SETTLING
    if not home.is_dir():
        return
    try:
        with _alone(folder):
            # Another process may have done it meanwhile.
            for new in sorted(home.iterdir()) if home.is_dir() else ():
                place = folder / new.name
                if place.is_dir():
                    shutil.rmtree(place)
                new.replace(place)
            if home.is_dir():
                _flush(folder)
                home.rmdir()
    except OSError as error:
        raise BusError(
            f"what was being written here was cut short, and cannot be brought to its end ({error.strerror})",
            where=folder,
            remedy="let the folder be written to",
        ) from None


def mend(path: Path) -> None:
    """Bring back a folder that a kill between two renames left aside, where two cannot be one (`_exchange`)."""
    aside = _aside(path)
    if aside.exists():
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(path)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder for this process, as far as the system and the file system can lock one."""
    handle = None
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


@contextlib.contextmanager
def _named(part: Path, folder: Path) -> Iterator[None]:
    """Let errors speak of the folder, whose name is known, and not of what lies beside it."""
    try:
        yield
    except BusError as error:
        place = None if error.where is None else error.where.replace(str(part), str(folder))
        raise BusError(error.what, where=place, remedy=error.remedy) from None


def _real(path: str | Path) -> Path:
    """Where a path leads, the folder above it made; a link keeps pointing to what is replaced."""
    real = Path(os.path.realpath(path))
    real.parent.mkdir(parents=True, exist_ok=True)
    mend(real)
    return real


def _part(path: Path) -> Path:
    """Path beside `path` of this process alone; what killed ones left there is cleared."""
    for other in path.parent.glob(f".{glob.escape(path.name)}.part-*"):
        match = _PART.fullmatch(other.name)
        if match and match["name"] == path.name and not _alive(int(match["pid"])):
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


def _flush_all(folder: Path) -> None:
    for home, _, names in os.walk(folder):
        for name in names:
            _flush(Path(home, name))
        _flush(Path(home))


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
