"""Files that a push sends and that are no modules: they lie at the top of a clone, in a wheel beside this file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bus_hf.errors import BusError
from bus_hf.hub.outgoing import outgoing

# The folder that holds the package: a clone, or the site-packages that a wheel was installed into.
HOME = Path(__file__).resolve().parents[2]
# Where setup.py puts the files into a wheel.
_IN_WHEEL = Path("bus_hf", "hub", "files")


def from_wheel(home: Path = HOME) -> bool:
    """Whether the package was installed from a wheel, and does not lie in a clone."""
    return (home / _IN_WHEEL).is_dir()


def project_files(names: Iterable[str], home: Path = HOME) -> dict[str, Path]:
    """Files of the project by their path in a clone.

    Args:
        names: paths in a clone, with `/`.
        home: the folder that holds the package.

    Raises:
        BusError: a file is missing, or no regular file.
    """
    names, wheel = list(names), from_wheel(home)
    folder = home / _IN_WHEEL if wheel else home
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        raise BusError(
            f"{missing[0]} is not here", where=folder, remedy="install bus-hf anew, or push from a clone of it"
        )
    return outgoing(folder, names, linked=wheel)
