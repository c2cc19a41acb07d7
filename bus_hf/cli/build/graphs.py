"""`bus-hf build graphs`: the networks of an ensemble as ONNX, beside the weights that they share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bus_hf.cli import shared

_EXAMPLES = """\
  bus-hf build graphs my_ensemble"""
_NOTES = """\
Each graph is compared with its network before it is written, and its hash joins the manifest. Weights, metrics and
cards stay as they are. bus-hf train and bus-hf build ensemble write graphs themselves; this is for older ensembles."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "graphs", "write graph.onnx of each member, which a CPU runs without torch", _EXAMPLES, _NOTES
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="ensemble folder")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Write the graphs and the manifest."""
    from bus_hf.build import graphs

    for member, size in graphs.add(given.folder).items():
        print(f"{member}: graph.onnx, {size / 1e6:.2f} MB")
    return 0
