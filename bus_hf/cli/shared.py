"""What several commands share: flags, the default ensemble, files in, files out. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.errors import BusError
from bus_hf.files import replace_file
from bus_hf.text import printable

if TYPE_CHECKING:
    import numpy as np

    from bus_hf.data.dataset import Case

# Lesion masks beside the images of a data set are no images to read.
_MASK = re.compile(r".+_mask(?:_?\d+)?", re.IGNORECASE)


def subcommand(commands: Any, name: str, summary: str, examples: str, notes: str) -> argparse.ArgumentParser:
    """Add a subcommand whose help shows `summary`, its flags, `examples` as they are and `notes` as a paragraph."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}\n\n{textwrap.fill(notes, 96)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def ensemble_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags that choose an ensemble and where it runs."""
    command.add_argument(
        "--ensemble",
        metavar="FOLDER_OR_ID",
        help="ensemble folder or Hub id (default: $BUS_HF_ENSEMBLE, else the embedded checkpoints)",
    )
    command.add_argument("--light", action="store_true", help="let only the ensemble's light member vote: quicker")
    command.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")


def open_detector(given: argparse.Namespace) -> Any:
    """Load the detector that the flags of `ensemble_flags` choose."""
    from bus_hf.detector import BreastCancerDetector
    from bus_hf.space.reader import default_ensemble

    return BreastCancerDetector.from_pretrained(
        given.ensemble or default_ensemble(), device=given.device, members=["light"] if given.light else None
    )


def box(text: str) -> tuple[float, ...]:
    """Parse `left,top,width,height`."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4:
        raise argparse.ArgumentTypeError(f"'{text}' is no box; give left,top,width,height in pixels, as 120,80,60,40")
    return values


def load_cases(data: Sequence[str], label_set: str = "malignancy") -> tuple[list[Case], bool]:
    """Decode every image of folders or Hub data sets.

    Returns:
        All cases, those of a test split too, and whether images were left out; what is odd is told on stderr.
    """
    import datasets

    from bus_hf.data.dataset import cases, load

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    notes = _Notes()
    logger = logging.getLogger("bus_hf.data")
    logger.addHandler(notes)
    try:
        found = load(*data, label_set=label_set)
    finally:
        logger.removeHandler(notes)
    return [case for split in found.values() for case in cases(split)], notes.left_out


class _Notes(logging.Handler):
    """Prints what the data set says of its folders, and remembers whether it left images out."""

    left_out = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.left_out = self.left_out or "left out" in message
        print(f"bus-hf: {printable(message)}", file=sys.stderr)


def images_in(folder: Path, without: Path | None = None) -> Iterator[Path]:
    """Image files below a folder in the order of their names, without masks, hidden files and the folder `without`."""
    from bus_hf.data.images import SUFFIXES

    skipped = without.resolve() if without else None
    for parent, below, files in os.walk(folder):
        below[:] = sorted(
            name for name in below if not name.startswith(".") and (Path(parent) / name).resolve() != skipped
        )
        for name in sorted(files):
            path = Path(name)
            if path.suffix.lower() in SUFFIXES and not name.startswith(".") and not _MASK.fullmatch(path.stem):
                yield Path(parent) / name


def write_png(path: Path, image: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) as PNG, making its folder; BusError where that cannot be done."""
    import cv2

    data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    try:
        with replace_file(path) as part:
            part.write_bytes(data)
    except OSError as error:
        raise unwritable(path, error) from None


def replace_figures(path: Path, markdown: str, marker: str = "figures") -> None:
    """Put Markdown between the lines <!-- MARKER:start --> and <!-- MARKER:end --> of a file."""
    from bus_hf.evaluation.cards import replace_between

    try:
        text = replace_between(path.read_text(encoding="utf-8"), marker, markdown)
        with replace_file(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None
    except ValueError:
        raise BusError(
            f"it has no lines <!-- {marker}:start --> and <!-- {marker}:end -->",
            where=path,
            remedy="add them where the tables belong",
        ) from None


def unwritable(path: Path, error: OSError) -> BusError:
    """The BusError for a file that cannot be written."""
    return BusError(f"it cannot be written ({error.strerror})", where=path, remedy="name another file or folder")
