"""What may leave a folder for the Hub: regular files that somebody names, and nothing behind a link or a pipe."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from bus_hf.errors import BusError


def outgoing(
    folder: Path, names: Iterable[str], further: Iterable[str] = (), *, linked: bool = False
) -> dict[str, Path]:
    """The named files of a folder, by their path below it.

    Args:
        folder: itself may be a link, since its user names it; nothing below it may.
        names: paths below `folder`, with `/`, of files that have to be there.
        further: those that are left out where they are not there.
        linked: a file may have further names: installers link what they install to their cache.

    Raises:
        BusError: a file is missing, hidden, outside of the folder, or no regular file with this one name.
    """
    names = list(names)
    files: dict[str, Path] = {}
    for name in (*names, *further):
        require_outgoing(folder, name, linked=linked)
        if (folder / name).exists():
            files[name] = folder / name
        elif name in names:
            remedy = "write it with bus-hf build ensemble or bus-hf build figures"
            raise BusError(f"{name} is missing", where=folder, remedy=remedy)
    return files


def require_outgoing(folder: Path, name: str, *, linked: bool = False) -> None:
    """BusError where the file `name` of `folder` is there and may not leave it."""
    parts = PurePosixPath(name).parts
    if not parts or any(part.startswith((".", "/")) for part in parts):
        raise BusError(f"{name!r} is hidden or lies outside", where=folder, remedy="give it a plain name inside")
    path = folder
    for place, part in enumerate(parts, 1):
        path = path / part
        try:
            state = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        kind = _kind(state, last=place == len(parts), linked=linked)
        if kind:
            raise BusError(
                f"it is {kind}, which does not leave the folder", where=path, remedy="put the file itself there"
            )


def require_own_files(folder: Path) -> None:
    """BusError where a link or anything else that is no regular file lies in or below a folder, hidden names aside."""
    for home, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in (*below, *sorted(files)):
            state = os.lstat(os.path.join(home, name))
            if not name.startswith(".") and not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
                raise BusError(
                    f"it is {_kind(state, last=True)}, which does not leave the folder",
                    where=Path(home, name),
                    remedy="put the files themselves there, or name the folder that it leads to",
                )


def _kind(state: os.stat_result, last: bool, linked: bool = False) -> str | None:
    """What an entry of a folder is, where it is neither a folder on the way nor, at its end, a file of one name."""
    if stat.S_ISLNK(state.st_mode):
        return "a link"
    if not last:
        return None if stat.S_ISDIR(state.st_mode) else "no folder"
    if not stat.S_ISREG(state.st_mode):
        return "a folder" if stat.S_ISDIR(state.st_mode) else "a pipe, socket or device"
    return "a second name of another file (a hard link)" if state.st_nlink > 1 and not linked else None
