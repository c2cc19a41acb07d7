"""Which files of a published folder are images, which are their masks, and what the folder says about them.

Only names are read here (and BUS-BRA's tables); no image is opened.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus_hf.errors import BusError

PATHOLOGIES = ("normal", "benign", "malignant")
LAYOUTS = ("busi", "busbra")

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# Folder of the seed layout -> split; "" is the flat layout of BUSI itself.
_SPLITS = {"": "train", "training_set": "train", "testing_set": "test"}
_MASK = re.compile(r"(?P<image>.+)_mask(?:_?\d+)?", re.IGNORECASE)
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
    if not folder.is_dir():
        raise BusError("there is no such folder", where=folder, remedy="check the path")
    if layout != "auto":
        return [(folder, layout)]
    own = _layout_of(folder)
    if own is not None:
        return [(folder, own)]
    below = [(child, _layout_of(child)) for child in sorted(folder.iterdir()) if child.is_dir()]
    found = [(child, kind) for child, kind in below if kind is not None]
    if not found:
        raise BusError(
            "the folder holds no images in a known layout",
            where=folder,
            remedy="give folders named benign, malignant or normal (or training_set/ and testing_set/ that hold "
            "them), a BUS-BRA folder with bus_data.csv, or a folder of Parquet files",
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
    if any(_class_folders(folder / name) for name in _SPLITS):
        return "busi"
    return None


def _class_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(child for child in folder.iterdir() if child.is_dir() and child.name.lower() in PATHOLOGIES)


def _source_name(root: Path) -> str:
    name = root.resolve().name.lower()
    return "busi" if name == "dataset_busi_with_gt" else re.sub(r"[^a-z0-9_.-]+", "-", name).strip("-") or "images"


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts `benign (2)` before `benign (10)`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name.lower()) if part]


def _named(paths: Iterable[Path], root: Path, limit: int = 3) -> str:
    names = [path.relative_to(root).as_posix() for path in paths]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _scan_busi(root: Path, source: str) -> Listing:
    records: list[Record] = []
    stray: list[Path] = []
    orphans: list[Path] = []
    twins: list[Path] = []
    bare: list[Path] = []
    folders = [(split, folder) for name, split in _SPLITS.items() for folder in _class_folders(root / name)]
    for name in _SPLITS:
        if (root / name).is_dir():
            known = {folder for _, folder in folders} | {root / split for split in _SPLITS if split}
            stray += [path for path in sorted((root / name).iterdir()) if path not in known and not _is_document(path)]
    for split, folder in folders:
        pathology = folder.name.lower()
        images: dict[str, Path] = {}
        masks: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir(), key=_natural):
            mask = _MASK.fullmatch(path.stem)
            if not path.is_file() or path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
                stray.append(path)
            elif mask is not None:
                masks.setdefault(mask["image"].lower(), []).append(path)
            elif path.stem.lower() in images:
                twins.append(path)
            else:
                images[path.stem.lower()] = path
        orphans += [path for stem, paths in masks.items() if stem not in images for path in paths]
        for stem, path in images.items():
            if stem not in masks and pathology != "normal":
                bare.append(path)
            name = f"{source}/{path.relative_to(root).with_suffix('').as_posix()}"
            records.append(Record(name, split, path, tuple(masks.get(stem, ())), source, name, pathology))
    return Listing(tuple(records), _notes(root, stray=stray, orphans=orphans, twins=twins, bare=bare))


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
    files = [path for name in ("Images", "Masks") if (root / name).is_dir() for path in sorted((root / name).iterdir())]
    masks = [path for path in files if path.name.startswith("mask_") and path not in used]
    stray = [path for path in files if path not in used and path not in masks]
    notes = _notes(root, stray=stray, orphans=masks, bare=bare)
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


def _notes(
    root: Path,
    *,
    stray: Sequence[Path] = (),
    orphans: Sequence[Path] = (),
    twins: Sequence[Path] = (),
    bare: Sequence[Path] = (),
) -> tuple[str, ...]:
    """One sentence for each kind of thing found: what, which files, what to do."""
    kinds = (
        (stray, "files that are no images of the set were ignored", "move them elsewhere"),
        (orphans, "masks have no image and were ignored", "add the image or delete the mask"),
        (twins, "images have the name of another one beside them and were left out", "keep one, or rename it"),
        (bare, "images have no mask and are kept without one", "add <name>_mask.png to supervise the lesion"),
    )
    return tuple(
        f"{root}: {len(paths)} {what} ({_named(paths, root)}); {remedy}." for paths, what, remedy in kinds if paths
    )
