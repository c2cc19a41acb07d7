"""What several commands share: flags, the default ensemble, files in, files out. Nothing heavy is imported here."""

from __future__ import annotations

import argparse
import logging
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from bus_hf.errors import BusError
from bus_hf.files import replace_file
from bus_hf.text import printable, says_unknown

if TYPE_CHECKING:
    import numpy as np

    from bus_hf.data.dataset import Case
    from bus_hf.ensemble.manifest import Ensemble
    from bus_hf.views import Box

_BY_LESION = "where a patient has lesions of both labels, name the lesion of each image in a column lesion"


def subcommand(commands: Any, name: str, summary: str, examples: str, notes: str) -> argparse.ArgumentParser:
    """Add a subcommand whose help shows `summary`, its flags, `examples` as they are and `notes` as a paragraph."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n{examples}\n\n{textwrap.fill(notes, 96)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def group(commands: Any, name: str, summary: str, examples: str, notes: str, members: Mapping[str, ModuleType]) -> None:
    """Add a group of subcommands, such as `push`, with a help as in `subcommand`; each member module has an `add`."""
    command = subcommand(commands, name, summary, examples, notes)
    below = command.add_subparsers(title="commands", metavar="WHAT", dest="what", required=True)
    for module in members.values():
        module.add(below)


def ensemble_flags(command: argparse.ArgumentParser) -> None:
    """Add the flags that choose an ensemble and where it runs."""
    command.add_argument(
        "--ensemble",
        metavar="FOLDER_OR_ID",
        help="ensemble folder or Hub id (default: $BUS_HF_ENSEMBLE, else the embedded checkpoints)",
    )
    command.add_argument(
        "--light", action="store_true", help="run inference with the ensemble's light member alone: quicker"
    )
    command.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")


def open_detector(given: argparse.Namespace) -> Any:
    """Load the detector that the flags of `ensemble_flags` choose."""
    from bus_hf.inference.detector import BreastCancerDetector
    from bus_hf.space.shared_detector import default_ensemble

    return BreastCancerDetector.from_pretrained(
        given.ensemble or default_ensemble(), device=given.device, members=["light"] if given.light else None
    )


def say(sentence: str) -> None:
    """Print a sentence to stderr, beside a bar that is being drawn."""
    from tqdm import tqdm

    tqdm.write(f"bus-hf: {sentence}", file=sys.stderr)


def require_malignancy(manifest: Ensemble, verb: str) -> None:
    """BusError for an ensemble of another label set; `verb` is what the command does with one."""
    if manifest.label_set != "malignancy":
        raise BusError(
            f"the ensemble tells apart the classes of '{manifest.label_set}'",
            where=manifest.name,
            remedy=f"{verb} one of the label set 'malignancy'",
        )


def warn_of_known_sources(manifest: Ensemble, cases: Sequence[Case], metrics: str) -> None:
    """Say that `metrics` flatter an ensemble where cases are of a source that it was made with."""
    known = {case.source for case in cases} & set(manifest.fitted_on.sources)
    if known:
        say(
            f"the ensemble was made with images of the source {', '.join(sorted(known))}: where these are among them, "
            f"{metrics} flatter it"
        )


def box(text: str) -> Box:
    """The lesion box of a flag, `left,top,width,height`."""
    from bus_hf.views import parse_box

    try:
        return parse_box(text)
    except BusError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def labels_flag(command: argparse.ArgumentParser) -> None:
    """Add the flag for a table of labels, for images that do not lie in class folders."""
    command.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="table with the columns name, label and, if known, patient and lesion",
    )


def load_cases(
    data: Sequence[str], label_set: str = "malignancy", table: Path | None = None
) -> tuple[list[Case], bool]:
    """Decode every image of folders or Hub data sets, or of one folder whose labels stand in a table.

    Returns:
        All cases, those of a test split too, and whether images were excluded; what is odd is printed to stderr.
    """
    if table is not None and len(data) != 1:
        raise BusError(
            "a table of labels is for one folder", where="--labels", remedy="give exactly one folder with it"
        )
    notes = _Notes()
    logger = logging.getLogger("bus_hf.data")
    logger.addHandler(notes)
    try:
        cases = _labelled_folders(data, label_set) if table is None else _labelled_by(Path(data[0]), table)
    finally:
        logger.removeHandler(notes)
    return cases, notes.excluded


def _labelled_folders(data: Sequence[str], label_set: str) -> list[Case]:
    import datasets

    from bus_hf.data.dataset import cases, load

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    return [case for split in load(*data, label_set=label_set).values() for case in cases(split)]


def _labelled_by(folder: Path, table: Path) -> list[Case]:
    from bus_hf.data.formats.labels_csv import labelled_cases, read_labels

    rows = read_labels(folder, table)
    return list(labelled_cases(folder, progress(rows, len(rows), "opening")))


def grouped(cases: Sequence[Case], keep_conflicts: bool = False) -> list[tuple[Case, str]]:
    """Cases with their groups: patients and near-duplicates.

    A lesion, or a patient whose lesions are not told apart, with both labels is excluded, and stderr says so.
    A patient may have lesions of both labels, and is one group all the same.

    Raises:
        BusError: every case is excluded.
    """
    from bus_hf.data.duplicates import Pair, conflicting, join_groups, near_duplicates

    lesions = join_groups([case.group for case in cases], near_duplicates([case.image for case in cases]))
    contradicting = set() if keep_conflicts else conflicting(lesions, [case.label for case in cases])
    first: dict[tuple[str, str], int] = {}
    same_patient = [
        Pair(first.setdefault((case.source, case.patient), row), row, 1.0)
        for row, case in enumerate(cases)
        if case.patient and not says_unknown(case.patient)
    ]
    groups = join_groups(lesions, same_patient)
    kept = [
        (case, group) for case, lesion, group in zip(cases, lesions, groups, strict=True) if lesion not in contradicting
    ]
    if cases and not kept:
        raise BusError(
            "every image is of a patient, a lesion or near-duplicates with both labels",
            where="the labelled images",
            remedy=f"check the labels; {_BY_LESION}",
        )
    if len(kept) < len(cases):
        print(
            f"bus-hf: {len(cases) - len(kept)} images are excluded: {len(contradicting)} patients, lesions or sets of "
            f"near-duplicates have both labels; {_BY_LESION}.",
            file=sys.stderr,
        )
    return kept


class _Notes(logging.Handler):
    """Prints what the data set says of its folders, and remembers whether it excluded images."""

    excluded = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        self.excluded = self.excluded or "excluded" in message
        print(f"bus-hf: {printable(message)}", file=sys.stderr)


Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, what: str, every: float = 10) -> Iterator[Item]:
    """Hand on items, showing how many of the images are done: as a bar on a terminal, else as a line now and then.

    Args:
        items: one an image.
        total: their number.
        what: what is being done with them, as "reading".
        every: seconds between two lines.
    """
    from tqdm import tqdm

    if sys.stderr.isatty():
        yield from tqdm(items, total=total, desc=what, unit="image")
        return
    print(f"{what} {total} images ...", file=sys.stderr, flush=True)
    last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        if time.monotonic() - last > every and count < total:
            last = time.monotonic()
            print(f"{what}: {count} of {total} images", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class ImageFiles:
    """Image files below a folder in the order of their names, and sentences on what is not read.

    `lost` tells of images that should be there: links to nowhere, folders without access, packed folders.
    """

    images: tuple[Path, ...]
    notes: tuple[str, ...]
    lost: tuple[str, ...]


def images_in(folder: Path, without: Path | None = None) -> ImageFiles:
    """Images below a folder, but for masks, hidden files and the folder `without`."""
    from bus_hf.data.names import is_archive, is_image_name, mask_folder, sort_out
    from bus_hf.data.walk import walk

    skipped = without.resolve() if without else None
    images: list[Path] = []
    masks: list[Path] = []
    lost: list[BusError] = []
    packed: list[BusError] = []
    for entry in walk(folder, lambda below: below.resolve() != skipped):
        files = [path for path in entry.files if is_image_name(path)]
        within = entry.path.relative_to(folder).parts
        kept, beside = ([], files) if any(mask_folder(name) is not None for name in within) else sort_out(files)
        images += kept
        masks += beside
        packed += [
            BusError("this is a packed folder", where=path, remedy="unzip it")
            for path in entry.files
            if is_archive(path)
        ]
        lost += [BusError(_broken(path), where=path, remedy="mend or delete it") for path in entry.broken]
    notes = []
    if masks:
        named = ", ".join(str(path.relative_to(folder)) for path in masks[:3])
        more = f" and {len(masks) - 3} more" if len(masks) > 3 else ""
        what = f"{len(masks)} files are masks by their names and were not read ({named}{more})"
        notes = [f"{folder}: {what}; name one by itself to read it."]
    # Beside images it may be what they were unpacked from.
    if images:
        notes += map(str, packed)
    else:
        lost += packed
    return ImageFiles(tuple(images), tuple(notes), tuple(map(str, lost)))


def _broken(path: Path) -> str:
    if path.is_symlink():
        return "the link leads nowhere"
    return "the folder cannot be read" if path.is_dir() else "this is no regular file"


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
    from bus_hf.reporting.cards import replace_between

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
