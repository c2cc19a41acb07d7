"""Published layouts of data sets, one file each.

To add a layout, write `NAME.py` here with the three functions of `Format` and enter it in `FORMATS`. Commands, the
`datasets` builder and its cache then know it. Test it in `tests/data/formats/test_NAME.py` on made files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bus_hf.data.formats import brest, busbra, class_folders
from bus_hf.data.formats.records import Listing


class Format(Protocol):
    """What the module of a layout provides."""

    def matches(self, folder: Path) -> bool:
        """Whether a folder has this layout, by its names alone."""

    def source_name(self, root: Path) -> str:
        """The column `source` of every image of `root`."""

    def list_images(self, root: Path, source: str) -> Listing:
        """Records of the images of `root`; no image is opened. BusError for a table that cannot be used."""


# By the name of the builder's config. The first one that matches a folder is taken.
FORMATS: dict[str, Format] = {"busbra": busbra, "brest": brest, "busi": class_folders}
