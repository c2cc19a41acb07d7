"""BrEaST: `BrEaST-Lesions_USG-images_and_masks/`, and a spreadsheet of clinical data with a row for each case.

Pawłowska et al., "Curated benchmark dataset for ultrasound based breast lesion analysis", Scientific Data 11:148, 2024.
"""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

from bus_hf.data.formats.records import Listing, Record, check_columns, check_row, missing_note, oddity_notes
from bus_hf.data.names import is_litter
from bus_hf.errors import BusError
from bus_hf.text import without_decimals

_TABLE, _IMAGES = "BrEaST-Lesions-USG-clinical-data*.xlsx", "BrEaST-Lesions_USG-images_and_masks"
_COLUMNS = ("CaseID", "Image_filename", "Mask_tumor_filename", "Mask_other_filename", "Classification")
# Cells without a value; several values of a cell stand between ampersands.
_EMPTY, _SEPARATOR = ("", "not available", "not applicable"), "&"


def matches(folder: Path) -> bool:
    """Whether a folder holds BrEaST's table of clinical data."""
    return any(folder.glob(_TABLE))


def source_name(root: Path) -> str:
    """`brest`, whatever the folder is called."""
    return "brest"


def list_images(root: Path, source: str) -> Listing:
    """Records of the images that the table names, each a patient and a group of its own.

    The columns BIRADS and Diagnosis (several between "&") become `birads` and `histology`. Masks of other findings
    than the lesion are not used.

    Raises:
        BusError: the table is missing, can't be read, lacks a column, or has a row that is wrong.
    """
    table = next(iter(sorted(root.glob(_TABLE))), None)
    if table is None:
        raise BusError(f"there is no table {_TABLE}", where=root, remedy="take the folder as it was published")
    folder = root / _IMAGES
    records: list[Record] = []
    missing: list[str] = []
    bare: list[Path] = []
    used: set[Path] = set()
    seen: set[str] = set()
    for row in _read_table(table):
        case, pathology = row["CaseID"], row["Classification"].lower()
        check_row(table, case, pathology, seen)
        image, masks = folder / row["Image_filename"], _files(folder, row["Mask_tumor_filename"])
        used |= {image, *masks, *_files(folder, row["Mask_other_filename"])}
        if not row["Image_filename"] or not image.is_file():
            missing.append(case)
            continue
        present = tuple(mask for mask in masks if mask.is_file())
        if not present and pathology != "normal":
            bare.append(image)
        records.append(
            Record(
                name=f"{source}/{image.stem}",
                split="train",
                image=image,
                masks=present,
                source=source,
                group=f"{source}/case-{case}",
                pathology=pathology,
                patient=case,
                birads=row.get("BIRADS") or None,
                histology=row.get("Diagnosis") or None,
            )
        )
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    stray = [path for path in files if path not in used and not is_litter(path.name)]
    notes = oddity_notes(root, {"stray": stray, "bare": bare})
    return Listing(tuple(records), (*notes, *missing_note(table, missing, _IMAGES)))


def _files(folder: Path, cell: str) -> list[Path]:
    return [folder / name.strip() for name in cell.split(_SEPARATOR) if name.strip()]


def _read_table(path: Path) -> list[dict[str, str]]:
    """Rows of the first sheet that hold a value: stripped text by column, "" where a value is not given."""
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = load_workbook(path, read_only=True, data_only=True)
        try:
            header, *rows = book.worksheets[0].iter_rows(values_only=True)
        finally:
            book.close()
    # Damaged parts of a workbook lead to errors of any of these kinds.
    except (OSError, BadZipFile, InvalidFileException, KeyError, ValueError, IndexError, SyntaxError) as error:
        raise BusError("the table can't be read", where=path, remedy="take the table as it was published") from error
    names = ["" if cell is None else str(cell).strip() for cell in header]
    check_columns(path, names, _COLUMNS)
    table = [dict(zip(names, map(_cell, row), strict=False)) for row in rows]
    return [row for row in table if any(row.values())]


def _cell(value: object) -> str:
    text = "" if value is None else without_decimals(str(value).strip())
    return "" if text.lower() in _EMPTY else text
