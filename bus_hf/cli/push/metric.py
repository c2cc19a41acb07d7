"""`bus-hf push metric`: the metric bus_screening to the Hub."""

from __future__ import annotations

import argparse
from typing import Any

from bus_hf.cli import shared
from bus_hf.cli.push import common

_EXAMPLES = """\
  bus-hf push metric --to owner/bus_screening"""
_NOTES = """\
evaluate.load("owner/bus_screening") then works wherever bus-hf is installed."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "metric", "push the metric as a Space", _EXAMPLES, _NOTES)
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="the Space; NAME is bus_screening")
    common.add_flags(command, run)


def run(given: argparse.Namespace) -> int:
    """Push the metric, or list what would be pushed."""
    from bus_hf.hub import upload_metric

    if given.dry_run:
        common.print_plan([upload_metric.plan(given.to)], given.json)
    else:
        common.print_commits([upload_metric.push(given.to, private=given.private)], given.json)
    return 0
