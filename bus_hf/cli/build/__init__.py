"""`bus-hf build`: from finished runs to what is served and read."""

from __future__ import annotations

from typing import Any

from bus_hf.cli import shared
from bus_hf.cli.build import ensemble, figures, graphs, report

COMMANDS = {"ensemble": ensemble, "report": report, "figures": figures, "graphs": graphs}

_EXAMPLES = """\
  bus-hf build ensemble runs/lite0 --to my_ensemble                   finished runs
  bus-hf build ensemble configs/ensemble.yaml --data DATA/busi        the same from data: trains what is not finished
  bus-hf build report runs/busi3-0 runs/busi3-1 --to reports/busi3    one network, trained once a fold
  bus-hf build figures checkpoints                                    metrics, plots and cards again
  bus-hf build graphs my_ensemble                                     graph.onnx of each member, for a CPU"""
_NOTES = "Each teaches: bus-hf build WHAT --help."


def add(commands: Any) -> None:
    """Add the group."""
    shared.group(
        commands, "build", "build an ensemble, a report or figures from finished runs", _EXAMPLES, _NOTES, COMMANDS
    )
