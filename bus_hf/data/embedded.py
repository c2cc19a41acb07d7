"""Images inside tables: their bytes are read, and never a file that a table names, which may be any file of this
machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets

from bus_hf.errors import BusError


def require_bytes(part: datasets.Dataset, origin: str) -> None:
    """Look at every image and mask of a table, without decoding or opening any.

    Args:
        part: a table; its columns image and mask are looked at where they are there.
        origin: what errors call it.

    Raises:
        BusError: a row names a file instead of holding it, or the column of masks is none of images.
    """
    raw = datasets.Image(decode=False)
    for column in ("image", "mask"):
        feature = part.features.get(column)
        if column == "mask" and feature is not None and not isinstance(feature, datasets.Image):
            raise BusError("its column mask holds no images", where=origin, remedy="write it anew with the files in it")
        if isinstance(feature, datasets.Image):
            for number, cell in enumerate(part.select_columns([column]).cast_column(column, raw)[column]):
                # Neither bytes nor a path: nothing is drawn, or the row is told of when it is decoded.
                if cell and any(cell.values()):
                    held(cell, column, f"row {number}", origin)


def held(cell: Mapping[str, Any] | None, column: str, row: str, origin: str | None = None) -> bytes:
    """The bytes of one image or mask; BusError where there is nothing, or a path in their place."""
    data = cell["bytes"] if cell else None
    if not data:
        what = f"the table does not hold the {column} of {row}" + (", but a path" if cell and cell["path"] else "")
        raise BusError(what, where=origin, remedy="write the table anew with the files in it")
    return data
