"""One's own images: a folder, and a CSV with the columns name, label and, where known, patient and lesion."""

from __future__ import annotations

import codecs
import csv
import io
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bus_hf.data.columns import NUMBERS
from bus_hf.data.dataset import Case
from bus_hf.data.images import read_image
from bus_hf.data.names import check_unpacked
from bus_hf.errors import BusError
from bus_hf.text import says_unknown, without_decimals

logger = logging.getLogger(__name__)

_CLASSES = ("benign", "malignant")
_NEEDED = {"name", "label"}
# What spreadsheets put between values: the first of them that yields the needed columns is meant.
_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class Row:
    """One line of a table: path below the folder, label (1 is malignant), patient and lesion ("" where not known)."""

    name: str
    label: int
    patient: str
    lesion: str

    @property
    def group(self) -> str:
        """What must have one label: the lesion, else the patient, else the image by itself."""
        known = {"patient": self.patient, "lesion": self.lesion}
        return ", ".join(f"{kind} {value}" for kind, value in known.items() if value) or self.name


def read_labels(folder: Path, table: Path) -> list[Row]:
    """Read a table of labels; a label is benign or malignant, 0 or 1.

    Values stand between commas, semicolons or tabs, in UTF-8 or, as Excel writes it, UTF-16. The columns are name,
    label and, where known, patient and lesion (or group), in any case of letters.

    Raises:
        BusError: it is no such table, or a line is wrong: the first one is named.
    """
    check_unpacked(folder)
    if not folder.is_dir():
        raise BusError("there is no such folder", where=folder, remedy="give the folder that holds the images")
    rows: list[Row] = []
    seen: set[str] = set()
    for number, line in _lines(table):
        name, text = line["name"], line["label"].lower()
        pathology = NUMBERS.get(without_decimals(text), text)
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
        patient, lesion, group = (_known(line.get(column, "")) for column in ("patient", "lesion", "group"))
        rows.append(Row(name, _CLASSES.index(pathology), patient, lesion or group))
    if not rows:
        raise BusError("the table holds no case", where=table, remedy="write a line for each image")
    return rows


def _known(text: str) -> str:
    """A name of a patient or lesion; "" where the text says that it is not known."""
    return "" if says_unknown(text) else without_decimals(text)


def _lines(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines of a table that hold anything, with their numbers: stripped values by lower-case column."""
    text = _text(table)
    readers = [csv.DictReader(io.StringIO(text, newline=""), delimiter=sign) for sign in _SEPARATORS]
    try:
        headers = [[(column or "").strip().lower() for column in reader.fieldnames or ()] for reader in readers]
        columns, reader = next(
            (pair for pair in zip(headers, readers, strict=True) if set(pair[0]) >= _NEEDED), (headers[0], None)
        )
        if reader is None:
            raise BusError(
                f"the columns name and label are missing (there are: {', '.join(columns) or 'none'})",
                where=table,
                remedy="write name,label in its first line",
            )
        twice = [column for index, column in enumerate(columns) if column and column in columns[:index]]
        if twice:
            raise BusError(f"there are two columns {twice[0]}", where=table, remedy="name each column differently")
        reader.fieldnames = columns
        for line in reader:
            if any(line.pop(None, ())):  # type: ignore[call-overload]  # what lies beyond the columns
                raise BusError(
                    f"the line has more values than the {len(columns)} columns",
                    where=f"{table}, line {reader.line_num}",
                    remedy="put a value that holds the separator into quotes",
                )
            values = {column: (value or "").strip() for column, value in line.items()}
            if any(values.values()):
                yield reader.line_num, values
    except csv.Error:
        raise _unreadable(table) from None


def _text(table: Path) -> str:
    try:
        data = table.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise _unreadable(table) from None
    if "\0" in text:
        raise _unreadable(table)
    return text


def _unreadable(table: Path) -> BusError:
    return BusError("no table can be read here", where=table, remedy="give a CSV file in UTF-8 (Excel: CSV UTF-8)")


def labelled_cases(folder: Path, rows: Iterable[Row]) -> Iterator[Case]:
    """Decode the images of a table; those that cannot be read are excluded with a warning."""
    for row in rows:
        try:
            image = read_image(folder / row.name, name=row.name)
        except BusError as error:
            logger.warning(f"{error} It is excluded.")
            continue
        pathology = _CLASSES[row.label]
        yield Case(
            row.name, row.group, "site", row.label, image, None, row.patient or None, None, None, None, pathology
        )
