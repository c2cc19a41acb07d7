"""Which files of a published folder are images, which are their masks, and what the folder says about them.

Only names are read here (and BUS-BRA's tables); no image is opened.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus_hf.data.names import (
    PATHOLOGIES,
    SPLITS,
    check_unpacked,
    is_archive,
    is_image_folder,
    is_image_name,
    is_litter,
    is_mask_name,
    is_other_finding,
    mask_folder,
    match,
    sort_out,
    split_of,
)
from bus_hf.data.walk import walk
from bus_hf.errors import BusError

__all__ = ["LAYOUTS", "PATHOLOGIES", "SPLITS", "Listing", "Record", "find_roots", "is_mask_name", "scan"]

LAYOUTS = ("busi", "busbra")

_DOCUMENT = re.compile(r"(readme|licen[cs]e|citation)", re.IGNORECASE)


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
    """Records of one or several roots, and one sentence for each thing that was left out or is odd."""

    records: tuple[Record, ...]
    notes: tuple[str, ...]


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
    own = _layout_of(folder)
    if own is not None:
        return [(folder, own)]
    inside = [child for child in sorted(folder.iterdir()) if not is_litter(child.name)]
    below = [(child, _layout_of(child)) for child in inside if child.is_dir() and mask_folder(child.name) is None]
    found = [(child, kind) for child, kind in below if kind is not None]
    packed = [child.name for child in inside if is_archive(child)]
    if not found:
        raise BusError(
            "the folder holds no images in a known layout",
            where=folder,
            remedy=f"unzip {packed[0]} and give the folder that comes out"
            if packed
            else "give folders named benign, malignant or normal (or train/, val/ and test/ that hold them), a BUS-BRA "
            "folder with bus_data.csv, or a folder of Parquet files",
        )
    return found


def scan(roots: Sequence[tuple[Path, str]]) -> Listing:
    """List what the roots hold; two roots of one name are told apart as `name` and `name-2`.

    Raises:
        BusError: a root is given twice or holds nothing usable, or a BUS-BRA table can't be read.
    """
    records: list[Record] = []
    notes: list[str] = []
    seen: set[Path] = set()
    sources: dict[str, int] = {}
    for root, layout in roots:
        if root.resolve() in seen:
            raise BusError("the folder is given twice", where=root, remedy="name every folder once")
        seen.add(root.resolve())
        source = "busbra" if layout == "busbra" else _source_name(root)
        sources[source] = sources.get(source, 0) + 1
        if sources[source] > 1:
            source = f"{source}-{sources[source]}"
        listing = (_scan_busbra if layout == "busbra" else _scan_busi)(root, source)
        if not listing.records:
            raise BusError(
                f"the folder holds no image in the {layout} layout",
                where=root,
                remedy="check that this is the folder which was meant, unpacked and complete",
            )
        records += listing.records
        notes += listing.notes
    return Listing(tuple(records), tuple(notes))


def _layout_of(folder: Path) -> str | None:
    if (folder / "bus_data.csv").is_file():
        return "busbra"
    return "busi" if folder.is_dir() and any(_class_folders(folder)) else None


def _class_folders(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Folders of a class in a folder, also inside folders of a split or of images."""
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or is_litter(child.name):
            continue
        if child.name.lower() in PATHOLOGIES:
            yield child
        elif depth and (split_of(child.name) or is_image_folder(child.name)):
            yield from _class_folders(child, depth - 1)


def _source_name(root: Path) -> str:
    name = root.resolve().name.lower()
    return "busi" if name == "dataset_busi_with_gt" else re.sub(r"[^a-z0-9_.-]+", "-", name).strip("-") or "images"


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts `benign (2)` before `benign (10)`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name.lower()) if part]


def _named(paths: Iterable[Path], root: Path, limit: int = 3) -> str:
    names = [path.relative_to(root).as_posix() for path in paths]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


@dataclass(frozen=True)
class _Place:
    """What the names of the folders above a file say: its class, its split, and whether masks lie there."""

    pathology: str | None = None
    split: str | None = None
    masks: bool = False

    def may_draw(self, of: _Place) -> bool:
        """Whether masks that lie here may be those of images that lie there."""
        return self.pathology in (None, of.pathology) and self.split in (None, of.split)


def _place(folder: Path, root: Path) -> _Place | None:
    """Read the names of the folders from `root` to `folder`; None where one says nothing, or two say the same thing."""
    said: dict[str, str] = {}
    for name in folder.relative_to(root).parts:
        of = mask_folder(name)
        split = split_of(name)
        if name.lower() in PATHOLOGIES:
            kind, value = "pathology", name.lower()
        elif split:
            kind, value = "split", split
        elif of is not None:
            kind, value = "masks", name
            if of in PATHOLOGIES and said.setdefault("pathology", of) != of:
                return None
        elif is_image_folder(name):
            kind, value = "images", name
        else:
            return None
        if kind in said:
            return None
        said[kind] = value
    return _Place(said.get("pathology"), said.get("split"), "masks" in said)


def _scan_busi(root: Path, source: str) -> Listing:
    """Class folders, which may lie in folders of a split and hold, or have beside them, folders of masks."""
    files: dict[Path, list[Path]] = {}
    drawn: dict[_Place, list[Path]] = {}
    places: dict[Path, _Place] = {}
    odd: dict[str, list[Path]] = {kind: [] for kind in _ODD}

    def enter(folder: Path) -> bool:
        place = _place(folder, root)
        if place is None:
            odd["stray"].append(folder)
        else:
            places[folder] = place
        return place is not None

    places[root] = _Place()
    for folder in walk(root, enter):
        odd["broken"] += folder.broken
        odd["again"] += folder.again
        place = places[folder.path]
        for path in sorted(folder.files, key=_natural):
            if place.masks and is_image_name(path):
                drawn.setdefault(place, []).append(path)
            elif place.pathology and is_image_name(path):
                files.setdefault(folder.path, []).append(path)
            elif place.pathology or place.masks or not _is_document(path):
                odd["stray"].append(path)
    images: dict[_Place, list[Path]] = {}
    masks: dict[Path, list[Path]] = {}
    unused: list[Path] = []
    for parent in sorted(files):
        own, beside = sort_out(files[parent])
        first = {path.stem.lower(): path for path in reversed(own)}
        odd["twins"] += [path for path in own if first[path.stem.lower()] != path]
        own = [path for path in own if first[path.stem.lower()] == path]
        images.setdefault(places[parent], []).extend(own)
        unused += _give(beside, own, masks)
    for place, paths in drawn.items():
        unused += _give(paths, [path for of, own in images.items() if place.may_draw(of) for path in own], masks)
    odd["others"] += [path for path in unused if is_other_finding(path)]
    odd["orphans"] += [path for path in unused if not is_other_finding(path)]
    records = []
    for place, paths in images.items():
        for path in paths:
            name = f"{source}/{path.relative_to(root).with_suffix('').as_posix()}"
            its = tuple(masks.get(path, ()))
            records.append(Record(name, place.split or "train", path, its, source, name, place.pathology or ""))
            if not its and place.pathology != "normal":
                odd["bare"].append(path)
    return Listing(tuple(records), _notes(root, odd))


def _give(masks: Sequence[Path], images: Sequence[Path], to: dict[Path, list[Path]]) -> Sequence[Path]:
    """Add masks to those of their images; returns the ones that have none."""
    found, unused = match(masks, images)
    for image, its in found.items():
        to.setdefault(image, []).extend(its)
    return unused


def _is_document(path: Path) -> bool:
    return path.is_file() and _DOCUMENT.match(path.name) is not None


def _scan_busbra(root: Path, source: str) -> Listing:
    table = root / "bus_data.csv"
    rows = _read_table(table, ("ID", "Case", "Pathology"))
    folds_table = root / "5-fold-cv.csv"
    folds: dict[str, int] = {}
    if folds_table.is_file():
        table_rows = _read_table(folds_table, ("ID", "kFold"))
        folds = {row["ID"]: int(row["kFold"]) for row in table_rows if row["kFold"].isdecimal()}
    records: list[Record] = []
    lost: list[str] = []
    bare: list[Path] = []
    used: set[Path] = set()
    names: set[str] = set()
    for row in rows:
        ident, pathology = row["ID"], row["Pathology"].lower()
        if pathology not in PATHOLOGIES:
            raise BusError(
                f"row {ident} has the pathology '{row['Pathology']}'",
                where=table,
                remedy=f"write one of {', '.join(PATHOLOGIES)}",
            )
        if ident in names:
            raise BusError(f"row {ident} stands there twice", where=table, remedy="keep one of the rows")
        names.add(ident)
        image, mask = root / "Images" / f"{ident}.png", root / "Masks" / f"{ident.replace('bus_', 'mask_', 1)}.png"
        if not image.is_file():
            lost.append(ident)
            continue
        used |= {image, mask}
        has_mask = mask.is_file()
        if not has_mask and pathology != "normal":
            bare.append(image)
        records.append(
            Record(
                name=f"{source}/{ident}",
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
                fold=folds.get(ident),
            )
        )
    folders = [root / name for name in ("Images", "Masks") if (root / name).is_dir()]
    files = [path for folder in folders for path in sorted(folder.iterdir()) if not is_litter(path.name)]
    masks = [path for path in files if path.name.startswith("mask_") and path not in used]
    stray = [path for path in files if path not in used and path not in masks]
    notes = _notes(root, {"stray": stray, "orphans": masks, "bare": bare})
    if lost:
        shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3} more" if len(lost) > 3 else "")
        notes = (
            *notes,
            f"{table}: {len(lost)} rows have no image in Images/ ({shown}); "
            "they are left out, so unpack the whole set or cut the table.",
        )
    return Listing(tuple(records), notes)


def _read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BusError("the table can't be read", where=path, remedy="save it as comma-separated UTF-8") from error
    if missing:
        raise BusError(
            f"the table has no column {', '.join(missing)}", where=path, remedy="take the table as it was published"
        )
    return rows


# Kinds of things that are found in a folder: what they are, and what to do.
_ODD = {
    "stray": ("files that are no images of the set were ignored", "move them elsewhere"),
    "broken": ("links that lead nowhere, or files that cannot be read, were left out", "mend or delete them"),
    "again": ("links lead to folders that are read already and were not followed", "nothing is lost"),
    "orphans": ("masks have no image and were ignored", "add the image or delete the mask"),
    "others": ("masks are of other findings than lesions and were ignored", "nothing is lost"),
    "twins": ("images have the name of another one beside them and were left out", "keep one, or rename it"),
    "bare": ("images have no mask and are kept without one", "add <name>_mask.png to supervise the lesion"),
}


def _notes(root: Path, odd: Mapping[str, Sequence[Path]]) -> tuple[str, ...]:
    """One sentence for each kind of thing found: what, which files, what to do."""
    return tuple(
        f"{root}: {len(odd[kind])} {what} ({_named(odd[kind], root)}); {remedy}."
        for kind, (what, remedy) in _ODD.items()
        if odd.get(kind)
    )
