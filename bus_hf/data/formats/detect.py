"""Which layout a folder has, and what several folders hold together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bus_hf.data.formats import FORMATS
from bus_hf.data.formats.records import Listing, Record
from bus_hf.data.names import check_unpacked, is_archive, is_litter, mask_folder
from bus_hf.errors import BusError


def find_roots(folder: Path, layout: str = "auto") -> list[tuple[Path, str]]:
    """Folders to read and the layout of each: `folder` itself, or those right below it.

    Raises:
        BusError: neither the folder nor a folder in it has a known layout.
    """
    check_unpacked(folder)
    if not folder.is_dir():
        what = "this is a file, not a folder" if folder.is_file() else "there is no such folder"
        raise BusError(what, where=folder, remedy="check the path")
    if layout != "auto":
        return [(folder, layout)]
    if (name := _layout(folder)) is not None:
        return [(folder, name)]
    inside = [child for child in sorted(folder.iterdir()) if not is_litter(child.name)]
    folders = [child for child in inside if child.is_dir() and mask_folder(child.name) is None]
    roots = [(child, name) for child in folders if (name := _layout(child)) is not None]
    if roots:
        return roots
    packed = [child.name for child in inside if is_archive(child)]
    raise BusError(
        "the folder holds no images in a known layout",
        where=folder,
        remedy=f"unzip {packed[0]} and give the folder that comes out"
        if packed
        else "give folders named benign, malignant or normal (or train/, val/ and test/ that hold them), a BUS-BRA "
        "folder with bus_data.csv, a BrEaST folder with its table of clinical data, or a folder of Parquet files",
    )


def list_roots(roots: Sequence[tuple[Path, str]]) -> Listing:
    """List the images of folders; two sources of one name are told apart as `name` and `name-2`.

    Args:
        roots: folders, each with its layout, as `find_roots` gives them.

    Raises:
        BusError: a root is given twice or holds nothing usable, or a table can't be read.
    """
    records: list[Record] = []
    notes: list[str] = []
    seen: set[Path] = set()
    sources: dict[str, int] = {}
    for root, layout in roots:
        if root.resolve() in seen:
            raise BusError("the folder is given twice", where=root, remedy="name every folder once")
        seen.add(root.resolve())
        source = FORMATS[layout].source_name(root)
        sources[source] = sources.get(source, 0) + 1
        if sources[source] > 1:
            source = f"{source}-{sources[source]}"
        listing = FORMATS[layout].list_images(root, source)
        if not listing.records:
            raise BusError(
                f"the folder holds no image in the {layout} layout",
                where=root,
                remedy="check that this is the folder which was meant, unpacked and complete",
            )
        records += listing.records
        notes += listing.notes
    return Listing(tuple(records), tuple(notes))


def _layout(folder: Path) -> str | None:
    return next((name for name, layout in FORMATS.items() if layout.matches(folder)), None)
