"""`bus-hf calibrate`: an ensemble with a site's own temperature, bias and thresholds."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.cli import shared
from bus_hf.errors import BusError

if TYPE_CHECKING:
    from bus_hf.data.dataset import Case

_EXAMPLES = """\
  bus-hf calibrate scans/ --labels labels.csv --to my_site
  bus-hf calibrate DATA/my_hospital --to my_site        folders benign/ and malignant/ instead of a table
  bus-hf predict scan.png --ensemble my_site"""
_NOTES = """\
labels.csv has the columns name (the image's path below the folder), label (benign or malignant, 0 or 1) and, if you
know it, patient: images of one patient count as one. Give cases that were not chosen by what a reader said of them.
Nothing that names an image or a patient is stored in the new folder.
At least 10 malignant and 10 benign patients or lesions are needed; 20 cancers for miss_5_in_100 and for a band of "not
sure" of your own, 40 for miss_25_in_1000; 50 of each are wanted. What the cases cannot show keeps its old value."""

_LABELS = {"benign": 0, "0": 0, "malignant": 1, "1": 1}


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "calibrate", "fit calibration and thresholds on a site's own cases", _EXAMPLES, _NOTES
    )
    command.add_argument("data", metavar="FOLDER", help="of images, or of labelled images as training reads them")
    command.add_argument("--labels", type=Path, metavar="CSV", help="table of names and labels")
    command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="ensemble folder to write")
    command.add_argument("--json", action="store_true", help="print the figures of before and after as JSON")
    command.add_argument("--ensemble", metavar="FOLDER_OR_ID", help="to calibrate (default: the embedded checkpoints)")
    command.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Read the cases, fit, write; 1 where images were left out because they could not be read."""
    import json

    from bus_hf import ensemble, hub, site_calibration
    from bus_hf.detector import BreastCancerDetector
    from bus_hf.evaluation import site
    from bus_hf.space.reader import default_ensemble

    folder = hub.pull(given.ensemble or default_ensemble())
    manifest = ensemble.read(folder)
    if manifest.label_set != "malignancy":
        raise BusError(
            f"the ensemble tells apart the classes of '{manifest.label_set}'",
            where=manifest.name,
            remedy="calibrate one of the label set 'malignancy'",
        )
    cases, incomplete = _labelled(Path(given.data), given.labels) if given.labels else shared.load_cases([given.data])
    known = {case.source for case in cases} & set(manifest.fitted_on.sources)
    if known:
        _say(
            f"the ensemble was made with images of the source {', '.join(sorted(known))}: where these are among them, "
            "the new figures flatter it"
        )
    detector = BreastCancerDetector.from_pretrained(folder, device=given.device)
    read, failed = _read(detector, cases)
    after, found, warnings = site_calibration.fit(manifest, read)
    for warning in warnings:
        _say(f"{warning}.")
    site_calibration.write(folder, after, found, given.to)
    print(json.dumps(found, indent=1) if given.json else site.tables(found))
    _say(f"written: {given.to}")
    return 1 if incomplete or failed else 0


def _labelled(folder: Path, table: Path) -> tuple[list[Case], bool]:
    """Images that a table names, decoded; and whether some could not be read."""
    from tqdm import tqdm

    from bus_hf.data.dataset import Case
    from bus_hf.data.images import read_image

    cases, failed = [], False
    for name, label, patient in tqdm(_rows(folder, table), desc="opening", unit="image", disable=None):
        try:
            image = read_image(folder / name, name=name)
        except BusError as error:
            _say(f"{error} It is left out.")
            failed = True
            continue
        pathology = "malignant" if label else "benign"
        group = f"patient {patient}" if patient else name
        cases.append(Case(name, group, "site", label, image, None, patient or None, None, None, None, pathology))
    return cases, failed


def _rows(folder: Path, table: Path) -> list[tuple[str, int, str]]:
    """Name, label and patient ("" where not known) of each line; BusError names the first line that is wrong."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
            columns = set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error):
        raise BusError("no table can be read here", where=table, remedy="give a CSV file in UTF-8") from None
    if not {"name", "label"} <= columns:
        raise BusError(
            "the columns name and label are missing", where=table, remedy="write name,label in its first line"
        )
    found: list[tuple[str, int, str]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=2):
        name, text = (line["name"] or "").strip(), (line["label"] or "").strip().lower()
        where = f"{table}, line {number}"
        if text not in _LABELS:
            raise BusError(f"the label is '{text}'", where=where, remedy="write benign or malignant")
        if name in seen:
            raise BusError(f"'{name}' is there twice", where=where, remedy="name every image once")
        inside = (folder / name).resolve().is_relative_to(folder.resolve())
        if not name or not inside or not (folder / name).is_file():
            raise BusError(
                f"there is no image '{name}' in {folder}", where=where, remedy="give the path below that folder"
            )
        seen.add(name)
        found.append((name, _LABELS[text], (line.get("patient") or line.get("group") or "").strip()))
    if not found:
        raise BusError("the table holds no case", where=table, remedy="write a line for each image")
    return found


def _read(detector: Any, cases: Sequence[Case]) -> tuple[Any, bool]:
    """Logits of the cases before the temperature, grouped, contradicting groups left out; and whether some failed."""
    import numpy as np
    from tqdm import tqdm

    from bus_hf.data.duplicates import conflicting, join_groups, near_duplicates
    from bus_hf.prediction import Failure
    from bus_hf.site_calibration import SiteCases

    groups = join_groups([case.group for case in cases], near_duplicates([case.image for case in cases]))
    contradicting = conflicting(groups, [case.label for case in cases])
    kept = [(case, group) for case, group in zip(cases, groups, strict=True) if group not in contradicting]
    if len(kept) < len(cases):
        _say(f"{len(cases) - len(kept)} images of {len(contradicting)} contradicting groups are left out")
    if kept and not any(case.patient for case, _ in kept):
        _say("no patient is known: every image counts as a patient of its own, but for near-duplicates")
    rows, failed = [], False
    results = detector.predict_many(case.image for case, _ in kept)
    for (case, group), result in zip(kept, tqdm(results, total=len(kept), desc="reading", unit="image"), strict=True):
        if isinstance(result, Failure):
            _say(f"{case.name}: {result.error.partition(': ')[2]} It is left out.")
            failed = True
            continue
        logit = (result.logit - detector.manifest.bias) * detector.manifest.temperature
        rows.append((logit, case.label, group, case.source))
    if not rows:
        raise BusError("no image is left to calibrate on", remedy="give readable, labelled images")
    logits, labels, of, sources = (np.array(column) for column in zip(*rows, strict=True))
    return SiteCases(logits, labels, of, sources), failed


def _say(sentence: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"bus-hf: {sentence}", file=sys.stderr)
