"""What every layout yields: one record an image, and one sentence for each thing that is odd or excluded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus_hf.data.names import PATHOLOGIES
from bus_hf.errors import BusError

# Kinds of oddities: what they are, and what to do.
_ODDITIES = {
    "stray": ("files that are no images of the set were ignored", "move them elsewhere"),
    "broken": ("links that lead nowhere, or files that cannot be read, were excluded", "mend or delete them"),
    "again": ("links lead to folders that are read already and were not followed", "nothing is lost"),
    "orphans": ("masks have no image and were ignored", "add the image or delete the mask"),
    "others": ("masks are of other findings than lesions and were ignored", "nothing is lost"),
    "twins": ("images have the name of another one beside them and were excluded", "keep one, or rename it"),
    "bare": ("images have no mask and are kept without one", "add the mask to supervise the lesion"),
}


@dataclass(frozen=True)
class Record:
    """One image as its folder describes it; `name` is unique among all roots that are joined."""

    name: str
    split: str
    image: Path
    masks: tuple[Path, ...]
    source: str
    group: str
    pathology: str
    patient: str | None = None
    birads: str | None = None
    histology: str | None = None
    device: str | None = None
    fold: int | None = None


@dataclass(frozen=True)
class Listing:
    """Records of one or several roots, and one sentence for each thing that was excluded or is odd."""

    records: tuple[Record, ...]
    notes: tuple[str, ...]


def oddity_notes(root: Path, oddities: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """One sentence for each kind of oddity: what, which files below `root`, what to do."""
    return tuple(
        f"{root}: {len(paths)} {what} ({shortened(path.relative_to(root).as_posix() for path in paths)}); {remedy}."
        for kind, (what, remedy) in _ODDITIES.items()
        if (paths := oddities.get(kind))
    )


def missing_note(table: Path, names: Sequence[str], folder: str) -> tuple[str, ...]:
    """The sentence for rows of a table whose image is missing; empty where none is."""
    if not names:
        return ()
    return (
        f"{table}: {len(names)} rows have no image in {folder}/ ({shortened(names)}); "
        "they are excluded, so unpack the whole set or cut the table.",
    )


def check_row(table: Path, row: str, pathology: str, seen: set[str]) -> None:
    """Add the name of a row to those that were `seen`.

    Raises:
        BusError: the row stands there twice, or its pathology, in lower case, is none that is known.
    """
    if pathology not in PATHOLOGIES:
        raise BusError(
            f"row {row} has the pathology '{pathology}'",
            where=table,
            remedy=f"write one of {', '.join(PATHOLOGIES)}",
        )
    if row in seen:
        raise BusError(f"row {row} stands there twice", where=table, remedy="keep one of the rows")
    seen.add(row)


def check_columns(table: Path, columns: Iterable[str], needed: Iterable[str]) -> None:
    """BusError where a table lacks a column that is needed."""
    missing = sorted(set(needed) - set(columns))
    if missing:
        raise BusError(
            f"the table has no column {', '.join(missing)}", where=table, remedy="take the table as it was published"
        )


def shortened(names: Iterable[str], limit: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
