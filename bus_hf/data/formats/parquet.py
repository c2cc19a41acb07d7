"""Parquet files and data sets on the Hub, given the columns that every room expects.

The bytes of their images are read, and never a file that a table names: that may be any file of this machine.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from bus_hf.data.columns import assign_labels, features, pathology_column
from bus_hf.errors import BusError

logger = logging.getLogger(__name__)


def is_parquet(path: Path) -> bool:
    """Whether this is a Parquet file, or a folder that holds some."""
    if path.is_dir():
        return any(path.glob("*.parquet")) or any(path.glob("*/*.parquet"))
    return path.is_file() and path.suffix == ".parquet"


def load_tables(root: str | Path, path: Path, label_set: str) -> datasets.DatasetDict:
    """Read a Parquet file or folder (`path`) or a Hub id (`root`); BusError where that cannot be done."""
    local = path.exists()
    if not local and (isinstance(root, Path) or str(root).count("/") > 1 or str(root).startswith((".", "/", "~"))):
        raise BusError("there is no such folder", where=root, remedy="check the path")
    try:
        if path.is_file():
            tables = datasets.load_dataset("parquet", data_files=str(path))
        else:
            tables = datasets.load_dataset(str(path) if local else str(root))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if local:
            raise BusError("the Parquet files can't be read", where=root, remedy="write them anew") from error
        raise BusError(
            "it is neither a folder here nor a data set that can be reached on the Hub",
            where=root,
            remedy="check the name, the network and your access",
        ) from error
    for table in tables.values():
        require_bytes(table, str(root))
    return datasets.DatasetDict({split: _adopt(table, str(root), label_set) for split, table in tables.items()})


def require_bytes(table: datasets.Dataset, origin: str) -> None:
    """Check every image and mask of a table, without decoding or opening any.

    Args:
        table: its columns image and mask are checked where it has them.
        origin: what errors call it.

    Raises:
        BusError: a row names a file instead of holding it, or the column mask holds no images.
    """
    raw = datasets.Image(decode=False)
    for column in ("image", "mask"):
        feature = table.features.get(column)
        if column == "mask" and feature is not None and not isinstance(feature, datasets.Image):
            raise BusError("its column mask holds no images", where=origin, remedy="write it anew with the files in it")
        if isinstance(feature, datasets.Image):
            for number, cell in enumerate(table.select_columns([column]).cast_column(column, raw)[column]):
                # Neither bytes nor a path: nothing is drawn, or decoding refuses the row.
                if cell and any(cell.values()):
                    stored_bytes(cell, column, f"row {number}", origin)


def stored_bytes(cell: Mapping[str, Any] | None, column: str, row: str, origin: str | None = None) -> bytes:
    """The bytes of one image or mask; BusError where there is nothing, or a path in their place."""
    data = cell["bytes"] if cell else None
    if not data:
        what = f"the table does not hold the {column} of {row}" + (", but a path" if cell and cell["path"] else "")
        raise BusError(what, where=origin, remedy="write the table anew with the files in it")
    return data


def _adopt(table: datasets.Dataset, origin: str, label_set: str) -> datasets.Dataset:
    """Give a table the columns of `features`: labels are read anew from `pathology`, or from the names of `label`."""
    target = features(label_set)
    if table.features == target:
        return table
    if not isinstance(table.features.get("image"), datasets.Image):
        raise BusError(
            f"the table has no image column; its columns are {', '.join(table.features)}",
            where=origin,
            remedy="write it with to_parquet or push_to_hub",
        )
    count = len(table)
    known = {
        column: table[column][:] for column in target if column in table.features and column not in ("image", "mask")
    }
    known["pathology"], notes = pathology_column(table.features, known, origin)
    source = origin.rstrip("/").rpartition("/")[2].lower()
    known.setdefault("source", [source] * count)
    known.setdefault("name", [f"{source}/{table.split}-{row}" for row in range(count)])
    known.setdefault("group", known["name"])
    classes, excluded = assign_labels(
        known["source"], known["pathology"], known.get("histology", [None] * count), label_set
    )
    for note in [*notes, *excluded]:
        logger.warning(note)
    known["label"] = [None if name is None else target["label"].str2int(name) for name in classes]
    adopted = table.select_columns([column for column in ("image", "mask") if column in table.features])
    for column, feature in target.items():
        if column not in adopted.features:
            adopted = adopted.add_column(column, known.get(column, [None] * count), feature=feature)
    rows = [row for row, name in enumerate(classes) if name is not None]
    return adopted.select_columns(list(target)).select(rows)
