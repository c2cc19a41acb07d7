"""`bus-hf build figures`: an ensemble's metrics, plots and cards again, from its stored logits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bus_hf.cli import shared

_EXAMPLES = """\
  bus-hf build figures checkpoints
  bus-hf build figures checkpoints --readme README.md"""
_NOTES = """\
Nothing is trained: the stored logits are combined and measured anew. In a README the part between the lines
<!-- figures:start --> and <!-- figures:end --> is replaced."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "figures", "write an ensemble's metrics, plots and cards again", _EXAMPLES, _NOTES
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="ensemble folder with out_of_fold.parquet")
    command.add_argument(
        "--readme",
        type=Path,
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files to put the tables into",
    )
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Write report, plots, cards and manifest anew, then the READMEs."""
    from bus_hf.build.describe import redescribe
    from bus_hf.build.readme import readme_metrics

    redescribe(given.folder)
    for path in given.readme:
        shared.replace_figures(path, readme_metrics(given.folder))
    print(readme_metrics(given.folder))
    return 0
