"""BUS-BRA: `Images/`, `Masks/` and `bus_data.csv` with patient, BI-RADS, histology and device; official five folds.

Gómez-Flores et al., "BUS-BRA: a breast ultrasound dataset for assessing computer-aided diagnosis systems", Medical
Physics, 2023.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from bus_hf.data.formats.records import Listing, Record, check_columns, check_row, missing_note, oddity_notes
from bus_hf.data.names import is_litter
from bus_hf.errors import BusError

_TABLE, _FOLDS = "bus_data.csv", "5-fold-cv.csv"


def matches(folder: Path) -> bool:
    """Whether a folder holds BUS-BRA's table."""
    return (folder / _TABLE).is_file()


def source_name(root: Path) -> str:
    """`busbra`, whatever the folder is called."""
    return "busbra"


def list_images(root: Path, source: str) -> Listing:
    """Records of the images that the table names; images of one patient (`Case`) are one group.

    Raises:
        BusError: a table can't be read, lacks a column, or has a row that is wrong.
    """
    table = root / _TABLE
    folds = _read_folds(root / _FOLDS)
    records: list[Record] = []
    missing: list[str] = []
    bare: list[Path] = []
    used: set[Path] = set()
    seen: set[str] = set()
    for row in _read_table(table, ("ID", "Case", "Pathology")):
        name, pathology = row["ID"], row["Pathology"].lower()
        check_row(table, name, pathology, seen)
        image, mask = root / "Images" / f"{name}.png", root / "Masks" / f"{name.replace('bus_', 'mask_', 1)}.png"
        if not image.is_file():
            missing.append(name)
            continue
        used |= {image, mask}
        has_mask = mask.is_file()
        if not has_mask and pathology != "normal":
            bare.append(image)
        records.append(
            Record(
                name=f"{source}/{name}",
                split="train",
                image=image,
                masks=(mask,) if has_mask else (),
                source=source,
                group=f"{source}/case-{row['Case']}",
                pathology=pathology,
                patient=row["Case"],
                birads=row.get("BIRADS") or None,
                histology=row.get("Histology") or None,
                device=row.get("Device") or None,
                fold=folds.get(name),
            )
        )
    folders = [root / name for name in ("Images", "Masks") if (root / name).is_dir()]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if not is_litter(path.name)]
    orphans = [path for path in files if path.name.startswith("mask_") and path not in used]
    stray = [path for path in files if path not in used and path not in orphans]
    notes = oddity_notes(root, {"stray": stray, "orphans": orphans, "bare": bare})
    return Listing(tuple(records), (*notes, *missing_note(table, missing, "Images")))


def _read_folds(table: Path) -> dict[str, int]:
    """Official fold by name of the image; empty without the table."""
    if not table.is_file():
        return {}
    rows = _read_table(table, ("ID", "kFold"))
    return {row["ID"]: int(row["kFold"]) for row in rows if row["kFold"].isdecimal()}


def _read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BusError("the table can't be read", where=path, remedy="save it as comma-separated UTF-8") from error
    check_columns(path, names, columns)
    return rows
