"""`bus-hf calibrate`: an ensemble with a site's own temperature, bias and thresholds."""

from __future__ import annotations

import argparse
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
know it, patient: images of one patient and one label count as one. Where a patient has a benign and a malignant lesion,
name the lesion of each image in a column lesion. Give cases that were not chosen by how a radiologist read them.
Nothing that names an image or a patient is stored in the new folder.
At least 10 malignant and 10 benign patients or lesions are needed; 20 cancers for miss_5_in_100 and for an abstention
interval of your own ("not sure"), 40 for miss_25_in_1000; 50 of each are wanted. What the cases cannot show keeps its
old value."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "calibrate", "fit calibration and thresholds on a site's own cases", _EXAMPLES, _NOTES
    )
    command.add_argument("data", metavar="FOLDER", help="of images, or of labelled images as training reads them")
    shared.labels_flag(command)
    command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="ensemble folder to write")
    command.add_argument("--json", action="store_true", help="print the metrics of before and after as JSON")
    command.add_argument("--ensemble", metavar="FOLDER_OR_ID", help="to calibrate (default: the embedded checkpoints)")
    command.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU where there is one)")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Run on the cases, fit, write; 1 where images were excluded because they could not be read."""
    import json

    from bus_hf.build import site_calibration
    from bus_hf.ensemble import download
    from bus_hf.ensemble.folder import read_manifest
    from bus_hf.inference.detector import BreastCancerDetector
    from bus_hf.reporting import site
    from bus_hf.space.shared_detector import default_ensemble

    folder = download.pull(given.ensemble or default_ensemble())
    manifest = read_manifest(folder)
    shared.require_malignancy(manifest, "calibrate")
    cases, incomplete = shared.load_cases([given.data], table=given.labels)
    shared.warn_of_known_sources(manifest, cases, "the new metrics")
    detector = BreastCancerDetector.from_pretrained(folder, device=given.device)
    site_cases, failed = read_cases(detector, cases)
    after, measured, warnings = site_calibration.fit(manifest, site_cases)
    for warning in warnings:
        shared.say(f"{warning}.")
    site_calibration.write(folder, after, measured, given.to)
    print(json.dumps(measured, indent=1) if given.json else site.tables(measured))
    shared.say(f"written: {given.to}")
    return 1 if incomplete or failed else 0


def read_cases(detector: Any, cases: Sequence[Case]) -> tuple[Any, bool]:
    """Logits of the cases before the temperature, grouped, contradicting ones excluded; and whether some failed."""
    import numpy as np

    from bus_hf.build.site_calibration import SiteCases
    from bus_hf.inference.prediction import Failure

    kept = shared.grouped(cases)
    if kept and not any(case.patient for case, _ in kept) and len({case.group for case, _ in kept}) == len(kept):
        shared.say("no patient is known: every image counts as a patient of its own, but for near-duplicates")
    rows, failed = [], False
    results = detector.predict_many(case.image for case, _ in kept)
    for (case, group), result in zip(kept, shared.progress(results, len(kept), "reading"), strict=True):
        if isinstance(result, Failure):
            shared.say(f"{case.name}: {result.error.partition(': ')[2]} It is excluded.")
            failed = True
            continue
        logit = sum(detector.views[view] * value for view, value in detector.view_logits(result).items())
        # No box was given, so that every image has a lesion map.
        rows.append((logit, case.label, group, case.source, result.lesion_confidence))
    if not rows:
        raise BusError(
            "none of the images can be read", where="the labelled images", remedy="give readable, labelled images"
        )
    return SiteCases(*(np.array(column) for column in zip(*rows, strict=True))), failed
