"""`bus-hf classes`: figures of runs that tell apart more than two classes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bus_hf import second_reading
from bus_hf.cli import shared
from bus_hf.errors import BusError

_EXAMPLES = """\
  bus-hf classes runs/busi3_f0 runs/busi3_f1 runs/busi3_f2 --to reports/busi3
  bus-hf classes --again reports/busi3                   the figures once more, from the stored logits"""
_NOTES = """\
The runs are those of train_accelerate.py with --label_set busi3 or histology, each with another --fold of the same
split. The folder gets the joined logits, report.json, a page (README.md) and the confusion matrix."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "classes", "measure runs of several classes", _EXAMPLES, _NOTES)
    command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="output folder of train_accelerate.py")
    command.add_argument("--to", type=Path, metavar="FOLDER", help="report folder to write")
    command.add_argument("--again", type=Path, metavar="FOLDER", help="report folder whose figures to write again")
    command.add_argument("--json", action="store_true", help="print every figure as JSON")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Join the runs' logits where runs are given, then measure."""
    if bool(given.runs) == bool(given.again) or bool(given.runs) != bool(given.to):
        raise BusError("classes takes either RUN... with --to, or --again", remedy="see bus-hf classes --help")
    if given.runs:
        second_reading.join(given.runs, given.to)
        print(f"written: {given.to}", file=sys.stderr)
    found, text = second_reading.describe(given.to or given.again)
    print(json.dumps(found, indent=1) if given.json else text)
    return 0
