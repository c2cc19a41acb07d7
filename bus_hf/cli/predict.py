"""`bus-hf predict`: images and folders in; lines, JSON, a table and heat maps out."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.cli import shared
from bus_hf.errors import BusError
from bus_hf.reporting import sentences
from bus_hf.text import csv_cell, printable

if TYPE_CHECKING:
    from bus_hf.inference.detector import BreastCancerDetector
    from bus_hf.inference.prediction import Failure, Prediction
    from bus_hf.views import Box

_EXAMPLES = """\
  bus-hf predict scan.png
  bus-hf predict scan.png --roi 120,80,60,40 --heatmap heat/
  bus-hf predict scans/ more.png --csv results.csv
  bus-hf predict scan.png --lesion-type
  bus-hf predict scans/ --json | jq 'select(.uncertain) | .name'"""
_NOTES = """\
Each line gives the verdict, one of "Suspicious of malignancy", "No sign of malignancy" and "Not sure: refer", the
calibrated probability of malignancy, the lesion's box (left, top, width, height in pixels) and the file. An image that
cannot be read is named on stderr, and the rest goes on."""

_WIDEST = max(map(len, (sentences.UNSURE, sentences.SUSPICIOUS, sentences.CLEAR)))
_COLUMNS = (
    "name",
    "verdict",
    "prediction",
    "probability",
    "prevalence",
    "confidence",
    "uncertain",
    "disagreement",
    "box_x",
    "box_y",
    "box_w",
    "box_h",
    "box_source",
    "lesion_confidence",
    "colour_overlay",
    "operating_point",
    "threshold",
    "height",
    "width",
    "note",
    "lesion_type",
    "error",
)


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "predict", "read images, or folders of images", _EXAMPLES, _NOTES)
    command.add_argument("inputs", nargs="+", metavar="IMAGE_OR_FOLDER", help="folders are read with all below them")
    command.add_argument(
        "--roi", type=shared.box, metavar="X,Y,W,H", help="lesion box in pixels, instead of the one that is found"
    )
    command.add_argument(
        "--operating-point", metavar="NAME", help="such as miss_5_in_100 (default: that of the ensemble)"
    )
    command.add_argument(
        "--lesion-type",
        action="store_true",
        help="ask the lesion-type classifier too, where there is one",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object a line")
    command.add_argument("--csv", type=Path, metavar="FILE", help="write a table too")
    command.add_argument("--heatmap", type=Path, metavar="DIR", help="write <image>_heatmap.png of each image there")
    shared.ensemble_flags(command)
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Read everything; 1 where any input failed."""
    paths, failed = _expand(given.inputs, given.heatmap)
    if given.roi is not None and len(paths) != 1:
        raise BusError("--roi is the box of one image", remedy="give exactly one image with it")
    with ExitStack() as stack:
        # Opened before the models are loaded: a wrong file name is an error at once.
        table = _Table(given.csv, stack) if given.csv else None
        for sentence in failed.values():
            print(f"bus-hf: {printable(sentence)}", file=sys.stderr)
        if not paths:
            return 1
        detector = shared.open_detector(given)
        from bus_hf.inference.prediction import Failure

        read, no_lesion, heat_names, assumed = 0, 0, _HeatNames(given.heatmap), ""
        for path, result in zip(paths, _results(detector, paths, given, stack), strict=True):
            row = _row(result)
            if isinstance(result, Failure):
                failed[str(path)] = result.error
            else:
                read += 1
                no_lesion += result.box is None
                assumed = sentences.assumption(result)
                if given.heatmap:
                    row["heatmap"] = str(_draw(path, result, heat_names))
            if table:
                table.write(row)
            _show(row, given.json)
    if not given.json:
        if not read:
            print(f"0 read, {len(failed)} failed.", file=sys.stderr)
            return 1
        points = {point.name: point for point in detector.manifest.operating_points}
        used = points[given.operating_point or detector.manifest.default_operating_point]
        measured = sentences.measured(used, part=given.light)
        lines = [
            f"{read} read, {len(failed)} failed.",
            f"{used.name}: suspicious from {sentences.percent(used.threshold)} on, which {measured}.",
            *([sentences.without_lesion(detector.manifest, used)] if no_lesion else []),
            *([assumed] if assumed else []),
            "For research, not for diagnosis.",
        ]
        print(" ".join(lines), file=sys.stderr)
    return 1 if failed else 0


def _expand(inputs: Sequence[str], heatmaps: Path | None) -> tuple[list[Path], dict[str, str]]:
    """Files to read, each once, and a sentence for whatever cannot be read."""
    from bus_hf.data.names import is_archive

    paths: dict[Path, None] = {}
    failed: dict[str, str] = {}
    for text in inputs:
        given = Path(text)
        if is_archive(given) and given.is_file():
            failed[text] = str(BusError("this is a packed folder", where=given, remedy="unzip it and give the folder"))
            continue
        if not given.is_dir():
            paths[given] = None
            continue
        listed = shared.images_in(given, heatmaps)
        paths |= dict.fromkeys(listed.images)
        for note in listed.notes:
            print(f"bus-hf: {printable(note)}", file=sys.stderr)
        failed |= {sentence: sentence for sentence in listed.lost}
        if not listed.images and not listed.lost:
            error = BusError(
                "the folder holds no images", where=given, remedy="give PNG, JPEG, TIFF, BMP or WebP files"
            )
            failed[text] = str(error)
    return list(paths), failed


def _results(
    detector: BreastCancerDetector, paths: Sequence[Path], given: argparse.Namespace, stack: ExitStack
) -> Iterator[Prediction | Failure]:
    from tqdm import tqdm

    settings = {"operating_point": given.operating_point, "heatmap": given.heatmap is not None}
    settings["lesion_type"] = given.lesion_type
    if given.roi is not None:
        yield _one(detector, paths[0], given.roi, settings)
        return
    results = detector.predict_many(paths, **settings)
    # Closed by the stack, so that the bar is gone before an error or the summary is printed.
    bar = stack.enter_context(tqdm(total=len(paths), unit="image", disable=None if len(paths) > 1 else True))
    for result in results:
        bar.update()
        yield result


def _one(detector: BreastCancerDetector, path: Path, roi: Box, settings: dict[str, Any]) -> Prediction | Failure:
    from bus_hf.data.images import read_image
    from bus_hf.inference.prediction import Failure

    # A bad image is a failed input; a box outside of it, or an unknown operating point, is wrong use.
    try:
        image = read_image(path)
    except BusError as error:
        return Failure(str(path), str(error))
    return detector.predict(image, roi=roi, name=str(path), **settings)


def _row(result: Prediction | Failure) -> dict[str, Any]:
    from bus_hf.inference.prediction import Failure

    if isinstance(result, Failure):
        return {"name": result.name, "error": result.error}
    return sentences.plain(result)


def _show(row: dict[str, Any], as_json: bool) -> None:
    from tqdm import tqdm

    if as_json:
        tqdm.write(json.dumps(row, ensure_ascii=False), file=sys.stdout)
    elif "error" in row:
        tqdm.write(f"bus-hf: {printable(row['error'])}", file=sys.stderr)
    else:
        box = "no lesion found" if row["box"] is None else "box " + ",".join(f"{side:.0f}" for side in row["box"])
        probability, name = sentences.percent(row["probability"]), printable(row["name"])
        unusual = f"  ({row['note']})" if row["note"] else ""
        tqdm.write(f"{row['verdict']:<{_WIDEST}}  {probability:>9}  {box:<20}  {name}{unusual}", file=sys.stdout)
        if row["lesion_type"]:
            tqdm.write(f"          lesion type: {_classes(row['lesion_type'])}", file=sys.stdout)
    # Whoever reads the other end of a pipe sees each result as it comes, and Ctrl-C loses none.
    sys.stdout.flush()


def _classes(probabilities: dict[str, float]) -> str:
    return ", ".join(f"{name} {sentences.percent(value)}" for name, value in probabilities.items())


class _HeatNames:
    """Names heat maps after their images; a second image of one name gets a number."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path()
        self._used: dict[str, int] = {}

    def __call__(self, image: Path) -> Path:
        count = self._used[image.stem] = self._used.get(image.stem, 0) + 1
        number = f"_{count}" if count > 1 else ""
        return self._folder / f"{image.stem}_heatmap{number}.png"


def _draw(path: Path, result: Prediction, names: _HeatNames) -> Path:
    import numpy as np

    target = names(path)
    shared.write_png(target, np.asarray(result.plot()))
    return target


class _Table:
    """A CSV file that is whole after every row."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        try:
            self._file = stack.enter_context(path.open("w", newline="", encoding="utf-8", errors="backslashreplace"))
        except OSError as error:
            raise shared.unwritable(path, error) from None
        self._writer = csv.DictWriter(self._file, _COLUMNS, extrasaction="ignore")
        self._writer.writeheader()

    def write(self, row: dict[str, Any]) -> None:
        """Write one result or failure."""
        flat = dict(row)
        flat |= zip(("box_x", "box_y", "box_w", "box_h"), row.get("box") or (), strict=False)
        if flat.get("lesion_type"):
            flat["lesion_type"] = _classes(flat["lesion_type"])
        flat |= zip(("height", "width"), row.get("shape", ()), strict=False)
        self._writer.writerow({column: csv_cell(value) for column, value in flat.items()})
        self._file.flush()
