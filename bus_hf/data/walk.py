"""What lies below a folder, by one rule for all: links are followed, loops end, links to nowhere are named.

Hidden files and what operating systems leave behind are passed over. A folder that several links lead to is read once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bus_hf.data.names import is_litter


@dataclass(frozen=True)
class Folder:
    """One folder: its files, and what cannot be read of it: links to nowhere, folders without access, no regular files.

    `again` are folders that were read already under another name.
    """

    path: Path
    files: tuple[Path, ...]
    broken: tuple[Path, ...]
    again: tuple[Path, ...]


def walk(root: Path, enter: Callable[[Path], bool] = lambda folder: True) -> Iterator[Folder]:
    """Folders below `root` and `root` itself, in the order of their names, files of each before the folders in it.

    Args:
        root: a folder.
        enter: asked of each folder below `root`; what it declines is not read.
    """
    yield from _walk(root, enter, {os.path.realpath(root)})


def _walk(folder: Path, enter: Callable[[Path], bool], seen: set[str]) -> Iterator[Folder]:
    try:
        entries = sorted(folder / name for name in os.listdir(folder) if not is_litter(name))
    except OSError:
        yield Folder(folder, (), (folder,), ())
        return
    files, broken, again, below = [], [], [], []
    for path in entries:
        if path.is_file():
            files.append(path)
        elif not path.is_dir():
            broken.append(path)
        elif enter(path):
            below.append(path)
    # Real folders first, so that what is also linked to has its own name.
    for path in sorted(below, key=lambda path: (path.is_symlink(), path)):
        real = os.path.realpath(path)
        if real in seen:
            again.append(path)
        seen.add(real)
    yield Folder(folder, tuple(files), tuple(broken), tuple(again))
    for path in below:
        if path not in again:
            yield from _walk(path, enter, seen)
