"""`bus-hf views`: a contact sheet of what training and inference make of one image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.cli import shared
from bus_hf.errors import BusError

if TYPE_CHECKING:
    import numpy as np

    from bus_hf.views import Box

_EXAMPLES = """\
  bus-hf views scan.png
  bus-hf views scan.png --mask scan_mask.png --output sheet.png
  bus-hf views scan.png --roi 120,80,60,40 --seed 3
  bus-hf views scan.png --ensemble checkpoints"""
_NOTES = """\
The upper rows show each training transform alone, then some draws of all together. The lower rows show the views of
inference: three of the whole image, two of the lesion. The lesion is where --roi says, else where the mask is, else
where the ensemble named by --ensemble finds it, else in the middle."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "views", "draw what training and inference make of an image", _EXAMPLES, _NOTES
    )
    command.add_argument("image", type=Path, metavar="IMAGE")
    command.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="lesion mask (default: <image>_mask.png where it lies beside the image)",
    )
    command.add_argument("--roi", type=shared.box, metavar="X,Y,W,H", help="lesion box in pixels of the image")
    command.add_argument("--ensemble", metavar="FOLDER_OR_ID", help="ensemble that finds the lesion")
    command.add_argument(
        "--output", "-o", type=Path, default=Path("views.png"), metavar="FILE", help="PNG to write (default: views.png)"
    )
    command.add_argument("--size", type=_size, default=224, metavar="PIXELS", help="side of a tile (default: 224)")
    command.add_argument("--seed", type=int, default=0, help="seed of the draws (default: 0)")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Write the sheet and say where."""
    import numpy as np

    from bus_hf.data.images import read_image
    from bus_hf.training.augmentation import contact_sheet

    image = read_image(given.image)
    mask = _mask(given, image.shape)
    lesion, whence = _lesion(given, image, mask)
    training = contact_sheet(image, mask, given.size, given.seed)
    shared.write_png(given.output, np.vstack([training, _views_sheet(image, lesion, given.size)]))
    print(f"written: {given.output} ({whence})", file=sys.stderr)
    return 0


def _size(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if not 32 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"'{text}' is no side of a tile; give 32 to 1024 pixels")
    return value


def _mask(given: argparse.Namespace, shape: tuple[int, ...]) -> np.ndarray | None:
    from bus_hf.data.images import read_mask

    beside = given.image.with_name(f"{given.image.stem}_mask.png")
    path = given.mask or (beside if beside.is_file() else None)
    if path is None:
        return None
    mask = read_mask(path)
    if mask.shape != shape:
        raise BusError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]} pixels and the image {shape[1]} x {shape[0]}",
            where=path,
            remedy="give the mask of this image",
        )
    return mask


def _lesion(given: argparse.Namespace, image: np.ndarray, mask: np.ndarray | None) -> tuple[Box | None, str]:
    """The lesion's box and a word on where it is from."""
    from bus_hf.training.augmentation import mask_box

    if given.roi is not None:
        box = given.roi.clipped((image.shape[0], image.shape[1]))
        if box is None:
            raise BusError(
                "the box of --roi lies outside of the image",
                where=given.image,
                remedy=f"give one inside {image.shape[1]} x {image.shape[0]} pixels",
            )
        return box, "lesion: the box given"
    drawn = mask_box(mask)
    if drawn is not None:
        return drawn, "lesion: from the mask"
    if given.ensemble is not None:
        from bus_hf.inference.detector import BreastCancerDetector

        box = BreastCancerDetector.from_pretrained(given.ensemble, members=["light"]).predict(image).box
        return box, "lesion: found by the ensemble" if box else "no lesion was found: the middle is taken"
    return None, "no lesion is known: the middle is taken; give --roi, --mask or --ensemble"


def _views_sheet(image: np.ndarray, lesion: Box | None, size: int) -> np.ndarray:
    """RGB sheet of the image with the lesion's box, and of the five views."""
    import cv2

    from bus_hf.training.augmentation import tile_sheet
    from bus_hf.views import VIEWS, cut, window

    height, width = image.shape
    colour = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if lesion is not None:
        left, top, right, bottom = (round(v) for v in (lesion.x, lesion.y, lesion.x + lesion.w, lesion.y + lesion.h))
        cv2.rectangle(colour, (left, top), (right, bottom), (255, 200, 0), max(1, max(height, width) // 150))
    tiles = [
        (
            "lesion box" if lesion else "no lesion",
            cut(colour, window("whole", (height, width)), size),
        )
    ]
    tiles += [(f"view: {name}", cut(image, window(name, (height, width), lesion), size)) for name in VIEWS]
    return tile_sheet(tiles)
