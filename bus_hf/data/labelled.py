"""Images whose labels stand in a table: a CSV file with the columns name, label and, where known, patient."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bus_hf.data.dataset import Case
from bus_hf.data.images import read_image
from bus_hf.data.names import check_unpacked
from bus_hf.data.tables import NUMBERS
from bus_hf.errors import BusError

logger = logging.getLogger(__name__)

_CLASSES = ("benign", "malignant")


@dataclass(frozen=True)
class Row:
    """One line of a table: path below the folder, label (1 is malignant), patient ("" where not known)."""

    name: str
    label: int
    patient: str


def read_labels(folder: Path, table: Path) -> list[Row]:
    """Read a table of labels; a label is benign or malignant, 0 or 1.

    Raises:
        BusError: it is no such table, or a line is wrong: the first one is named.
    """
    check_unpacked(folder)
    if not folder.is_dir():
        raise BusError("there is no such folder", where=folder, remedy="give the folder that holds the images")
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
            columns = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error):
        raise BusError("no table can be read here", where=table, remedy="give a CSV file in UTF-8") from None
    if not {"name", "label"} <= set(columns):
        raise BusError(
            f"the columns name and label are missing (there are: {', '.join(map(str, columns)) or 'none'})",
            where=table,
            remedy="write name,label in its first line",
        )
    found: list[Row] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=2):
        name, text = (line["name"] or "").strip(), (line["label"] or "").strip().lower()
        pathology = NUMBERS.get(text, text)
        where = f"{table}, line {number}"
        if pathology not in _CLASSES:
            raise BusError(f"the label is '{text}'", where=where, remedy="write benign or malignant")
        if name in seen:
            raise BusError(f"'{name}' is there twice", where=where, remedy="name every image once")
        # A link may lead out of the folder; a name may not.
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if not name or not inside or not (folder / name).is_file():
            raise BusError(
                f"there is no image '{name}' in {folder}", where=where, remedy="give the path below that folder"
            )
        seen.add(name)
        patient = (line.get("patient") or line.get("group") or "").strip()
        found.append(Row(name, _CLASSES.index(pathology), patient))
    if not found:
        raise BusError("the table holds no case", where=table, remedy="write a line for each image")
    return found


def labelled(folder: Path, rows: Iterable[Row]) -> Iterator[Case]:
    """Decode the images of a table; those that cannot be read are told and left out."""
    for row in rows:
        try:
            image = read_image(folder / row.name, name=row.name)
        except BusError as error:
            logger.warning(f"{error} It is left out.")
            continue
        group = f"patient {row.patient}" if row.patient else row.name
        pathology = _CLASSES[row.label]
        yield Case(row.name, group, "site", row.label, image, None, row.patient or None, None, None, None, pathology)
