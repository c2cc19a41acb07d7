"""What names of files and folders say: masks, splits, classes, archives, and what computers leave lying about.

Only names are read here; no file is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from bus_hf.data.images import SUFFIXES
from bus_hf.errors import BusError

PATHOLOGIES = ("normal", "benign", "malignant")
SPLITS = ("train", "validation", "test")

_SPLIT = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<validation>val(?:id(?:ation)?)?|dev)|(?P<test>test(?:ing)?))(?:set)?"
)
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".rar", ".7z")
_LITTER = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"}
)
# A name that holds one of these beside the name of an image is that of a mask,
_MASK = r"masks?|gt|ground[ _-]?truths?|segm?|segmentations?|annotations?"
# or may be: only where that image lies beside it, since "left_lesion" or "tumor_3" may as well be images.
_LESION = r"tumou?rs?|lesions?|labels?|roi|contours?"
# Masks of other findings than lesions (BrEaST), which are not used.
_OTHER = r"others?"
_BETWEEN = r"[ _.-]"
_NUMBER = rf"(?:{_BETWEEN}?\(?\d+\)?)?"
_AFTER = re.compile(
    rf"(?P<image>.+?){_BETWEEN}(?:(?P<mask>{_MASK})|(?P<lesion>{_LESION})|(?P<other>{_OTHER})){_NUMBER}"
)
_BEFORE = re.compile(rf"(?:(?P<mask>{_MASK})|(?P<lesion>{_LESION})|(?P<other>{_OTHER})){_BETWEEN}(?P<image>.+)")
_BARE = re.compile(r"masks?\d*")
_IMAGE_WORD = r"images?|imgs?|bus|us|scans?|originals?|raw"
# Of "Dataset_BUSI_with_GT" and "images_and_masks" both lie inside.
_MASK_FOLDER = re.compile(rf"(?:{_MASK}|labels?){_NUMBER}|.*(?<!with)(?<!and){_BETWEEN}masks?(?:{_BETWEEN}.*)?")
_MASKS_OF = re.compile(
    rf"(?P<before>{'|'.join(PATHOLOGIES)}|{_IMAGE_WORD}){_BETWEEN}(?:{_MASK}|labels?)"
    rf"|(?:{_MASK}|labels?){_BETWEEN}(?P<after>{'|'.join(PATHOLOGIES)}|{_IMAGE_WORD})"
)
_IMAGE_FOLDER = re.compile(_IMAGE_WORD)
_IMAGE_AFFIX = re.compile(rf"(?:{_IMAGE_WORD}){_BETWEEN}(?P<after>.+)|(?P<before>.+){_BETWEEN}(?:{_IMAGE_WORD})")


def is_image_name(path: PurePath) -> bool:
    """Whether a file has the ending of an image and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not is_litter(path.name)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or one that an operating system or an archive left: never reported."""
    return name.startswith(".") or name.lower() in _LITTER


def is_archive(path: PurePath) -> bool:
    """Whether a name ends as that of a packed folder."""
    return path.suffix.lower() in _ARCHIVES


def check_unpacked(path: Path) -> None:
    """BusError where a file is given that has to be unpacked first."""
    if is_archive(path) and path.is_file():
        raise BusError("this is a packed folder", where=path, remedy="unzip it and give the folder that comes out")


def split_of(folder: str) -> str | None:
    """train, validation or test where the name of a folder says so ("Training_set", "val", "testing-set")."""
    match = _SPLIT.fullmatch(re.sub(r"[ _-]", "", folder.lower()))
    return match.lastgroup if match else None


def is_image_folder(folder: str) -> bool:
    """Whether a folder has a name such as "Images", which says nothing about its images."""
    return _IMAGE_FOLDER.fullmatch(folder.lower()) is not None


def mask_folder(folder: str) -> str | None:
    """Whose masks a folder holds: "" for Masks, "benign" for benign_mask; None for any other folder."""
    match = _MASKS_OF.fullmatch(folder.lower())
    if match:
        return match["before"] or match["after"]
    return "" if _MASK_FOLDER.fullmatch(folder.lower()) else None


def sort_out(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Tell the images of one folder from the masks beside them, by the names of all of its image files."""
    files = list(files)
    stems = {path.stem.lower() for path in files}
    masks = [path for path in files if _is_mask_beside(path.stem.lower(), stems)]
    return [path for path in files if path not in set(masks)], masks


def match(masks: Iterable[Path], images: Sequence[Path]) -> tuple[dict[Path, list[Path]], tuple[Path, ...]]:
    """Give masks to the images that they are named after.

    Returns:
        The masks of each image that has some, and those of none, of more than one, or of what is no lesion.
    """
    by_key = _by_key(images)
    matched: dict[Path, list[Path]] = {}
    unused = []
    for path in masks:
        stem = path.stem.lower()
        # In a folder of masks the name may be that of the image itself.
        keys = (stem, *(parse["image"] for parse in _parses(stem)))
        image = next((by_key[key] for key in keys if key in by_key), None)
        if image is None or is_other_finding(path):
            unused.append(path)
        else:
            matched.setdefault(image, []).append(path)
    return matched, tuple(unused)


def is_other_finding(path: PurePath) -> bool:
    """Whether a name says that a mask shows something other than the lesion ("case001_other1")."""
    return any(parse["other"] for parse in _parses(path.stem.lower()))


def _parses(stem: str) -> list[re.Match[str]]:
    """Ways to read a lower-case stem as a mask's, the shortest name of its image last ("x_tumor_mask": x_tumor, x)."""
    parses = []
    rest = stem
    while (match := _AFTER.fullmatch(rest) or _BEFORE.fullmatch(rest)) is not None:
        parses.append(match)
        rest = match["image"]
    return parses


def _is_mask_beside(stem: str, stems: set[str]) -> bool:
    parses = _parses(stem)
    if _BARE.fullmatch(stem) or any(parse["mask"] for parse in parses):
        return True
    return any(parse["image"] in stems for parse in parses)


def _by_key(images: Iterable[Path]) -> dict[str, Path]:
    """Images by their lower-case stems, and by these without a word such as "img_"; none by what several share."""
    exact: dict[str, list[Path]] = {}
    loose: dict[str, list[Path]] = {}
    for path in images:
        stem = path.stem.lower()
        exact.setdefault(stem, []).append(path)
        affixed = _IMAGE_AFFIX.fullmatch(stem)
        if affixed:
            loose.setdefault(affixed["after"] or affixed["before"], []).append(path)
    return {key: paths[0] for key, paths in (loose | exact).items() if len(paths) == 1}
