"""Class folders, as BUSI has them: `{benign,malignant,normal}/NAME (n).png` beside `NAME (n)_mask.png`.

They may lie in folders of a split (`training_set/`, `testing_set/`), and masks in folders of their own. BUSI:
Al-Dhabyani et al., "Dataset of breast ultrasound images", Data in Brief 28:104863, 2020.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus_hf.data.formats.records import Listing, Record, oddity_notes
from bus_hf.data.names import (
    PATHOLOGIES,
    is_image_folder,
    is_image_name,
    is_litter,
    is_other_finding,
    mask_folder,
    match,
    sort_out,
    split_of,
)
from bus_hf.data.walk import walk

_DOCUMENT = re.compile(r"(readme|licen[cs]e|citation)", re.IGNORECASE)


def matches(folder: Path) -> bool:
    """Whether a folder holds folders of a class, at once or in folders of a split or of images."""
    return folder.is_dir() and any(_class_folders(folder))


def source_name(root: Path) -> str:
    """The folder's name in lower case, without what a name of an image may not hold; `busi` for Kaggle's folder."""
    name = root.resolve().name.lower()
    return "busi" if name == "dataset_busi_with_gt" else re.sub(r"[^a-z0-9_.-]+", "-", name).strip("-") or "images"


def list_images(root: Path, source: str) -> Listing:
    """Records of the images in class folders, each a group of its own, with the masks that are named after them."""
    contents = _contents(root)
    oddities = contents.oddities
    images: dict[_Place, list[Path]] = {}
    masks: dict[Path, list[Path]] = {}
    unused: list[Path] = []
    for parent in sorted(contents.classes):
        kept, beside = sort_out(contents.classes[parent])
        first = {path.stem.lower(): path for path in reversed(kept)}
        oddities["twins"] += [path for path in kept if first[path.stem.lower()] != path]
        kept = [path for path in kept if first[path.stem.lower()] == path]
        images.setdefault(contents.places[parent], []).extend(kept)
        unused += _assign(beside, kept, masks)
    for place, paths in contents.masks.items():
        candidates = [path for other, kept in images.items() if place.may_hold_masks_of(other) for path in kept]
        unused += _assign(paths, candidates, masks)
    oddities["others"] += [path for path in unused if is_other_finding(path)]
    oddities["orphans"] += [path for path in unused if not is_other_finding(path)]
    records = []
    for place, paths in images.items():
        for path in paths:
            name = f"{source}/{path.relative_to(root).with_suffix('').as_posix()}"
            drawn = tuple(masks.get(path, ()))
            records.append(Record(name, place.split or "train", path, drawn, source, name, place.pathology or ""))
            if not drawn and place.pathology != "normal":
                oddities["bare"].append(path)
    return Listing(tuple(records), oddity_notes(root, oddities))


@dataclass(frozen=True)
class _Place:
    """What the names of the folders above a file say: its class, its split, and whether masks lie there."""

    pathology: str | None = None
    split: str | None = None
    masks: bool = False

    def may_hold_masks_of(self, images: _Place) -> bool:
        """Whether masks that lie here may be those of images that lie there."""
        return self.pathology in (None, images.pathology) and self.split in (None, images.split)


@dataclass(frozen=True)
class _Contents:
    """Files below a root: those in each class folder, those in folders of masks by place, and oddities by kind."""

    classes: dict[Path, list[Path]]
    masks: dict[_Place, list[Path]]
    places: dict[Path, _Place]
    oddities: dict[str, list[Path]]


def _contents(root: Path) -> _Contents:
    kinds = ("stray", "broken", "again", "orphans", "others", "twins", "bare")
    contents = _Contents({}, {}, {root: _Place()}, {kind: [] for kind in kinds})
    oddities = contents.oddities

    def enter(folder: Path) -> bool:
        place = _place(folder, root)
        if place is None:
            oddities["stray"].append(folder)
        else:
            contents.places[folder] = place
        return place is not None

    for folder in walk(root, enter):
        oddities["broken"] += folder.broken
        oddities["again"] += folder.again
        place = contents.places[folder.path]
        for path in sorted(folder.files, key=_natural):
            if place.masks and is_image_name(path):
                contents.masks.setdefault(place, []).append(path)
            elif place.pathology and is_image_name(path):
                contents.classes.setdefault(folder.path, []).append(path)
            elif place.pathology or place.masks or not _is_document(path):
                oddities["stray"].append(path)
    return contents


def _place(folder: Path, root: Path) -> _Place | None:
    """Read the names of the folders from `root` to `folder`; None where one says nothing, or two say the same thing."""
    facts: dict[str, str] = {}
    for name in folder.relative_to(root).parts:
        masked = mask_folder(name)
        split = split_of(name)
        if name.lower() in PATHOLOGIES:
            kind, value = "pathology", name.lower()
        elif split:
            kind, value = "split", split
        elif masked is not None:
            kind, value = "masks", name
            if masked in PATHOLOGIES and facts.setdefault("pathology", masked) != masked:
                return None
        elif is_image_folder(name):
            kind, value = "images", name
        else:
            return None
        if kind in facts:
            return None
        facts[kind] = value
    return _Place(facts.get("pathology"), facts.get("split"), "masks" in facts)


def _assign(masks: Sequence[Path], images: Sequence[Path], assigned: dict[Path, list[Path]]) -> Sequence[Path]:
    """Add masks to those that are assigned to their images; returns the ones that have none."""
    matched, unused = match(masks, images)
    for image, paths in matched.items():
        assigned.setdefault(image, []).extend(paths)
    return unused


def _class_folders(folder: Path, depth: int = 2) -> Iterator[Path]:
    for child in sorted(folder.iterdir()):
        if not child.is_dir() or is_litter(child.name):
            continue
        if child.name.lower() in PATHOLOGIES:
            yield child
        elif depth and (split_of(child.name) or is_image_folder(child.name)):
            yield from _class_folders(child, depth - 1)


def _is_document(path: Path) -> bool:
    return path.is_file() and _DOCUMENT.match(path.name) is not None


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """Sort key that puts `benign (2)` before `benign (10)`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", path.name.lower()) if part]
