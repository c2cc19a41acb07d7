"""`bus-hf build report`: metrics of a network that was trained once a fold, of two classes or of more."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bus_hf.cli import shared
from bus_hf.errors import BusError

_EXAMPLES = """\
  bus-hf build report runs/lite0-folds-0 runs/lite0-folds-1 runs/lite0-folds-2 --to reports/lite0
  bus-hf build report runs/busi3-0 runs/busi3-1 runs/busi3-2 --to reports/busi3
  bus-hf build report --again reports/lite0                   the metrics once more, from the stored logits"""
_NOTES = """\
The runs are those of bus-hf train with one config, each with another --fold of the same split. The folder gets
the joined logits, report.json, a page (README.md) and, of several classes, the confusion matrix."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "report", "measure a network that was trained once a fold", _EXAMPLES, _NOTES)
    command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="output folder of bus-hf train")
    command.add_argument("--to", type=Path, metavar="FOLDER", help="report folder to write")
    command.add_argument("--again", type=Path, metavar="FOLDER", help="report folder whose metrics to write again")
    command.add_argument(
        "--readme", type=Path, metavar="FILE", help="say between its folds markers how the first run's fold compares"
    )
    command.add_argument("--json", action="store_true", help="print every metric as JSON")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Join the runs' logits where runs are given, then measure."""
    from bus_hf.build import fold_report

    if bool(given.runs) == bool(given.again) or bool(given.runs) != bool(given.to):
        raise BusError("build report takes either RUN... with --to, or --again", remedy="see its --help")
    metrics, text, records = fold_report.write(given.to or given.again, given.runs)
    if given.runs:
        print(f"written: {given.to}", file=sys.stderr)
    if given.readme:
        from bus_hf.reporting.cross_validation import first_fold_text

        if "folds" not in metrics:
            raise BusError("metrics of several classes have no such sentence", remedy="leave --readme out")
        shared.replace_figures(given.readme, first_fold_text(metrics, records), "folds")
    print(json.dumps(metrics, indent=1) if given.json else text)
    return 0
