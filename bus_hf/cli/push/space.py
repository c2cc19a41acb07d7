"""`bus-hf push space`: the page to the Hub."""

from __future__ import annotations

import argparse
from typing import Any

from bus_hf.cli import shared
from bus_hf.cli.push import common

_EXAMPLES = """\
  bus-hf push space --to owner/reader --ensemble owner/bus-ensemble --dry-run
  bus-hf push space --to owner/reader --ensemble owner/bus-ensemble"""
_NOTES = """\
Sent is what the page imports, its requirements, and the README with the ensemble in its front matter: no weights, no
tests, no training. The Space reads the ensemble that its variables BUS_HF_ENSEMBLE and BUS_HF_REVISION name."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "space", "push the page as a Space", _EXAMPLES, _NOTES)
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="the Space")
    command.add_argument("--ensemble", required=True, metavar="OWNER/NAME", help="the ensemble that it serves")
    command.add_argument(
        "--revision", help="commit, tag or branch of the ensemble that is served (default: its newest)"
    )
    command.add_argument(
        "--datasets",
        action="extend",
        nargs="*",
        default=[],
        metavar="OWNER/NAME",
        help="data sets for the front matter",
    )
    common.add_flags(command, run)


def run(given: argparse.Namespace) -> int:
    """Push the page, or list what would be pushed."""
    from bus_hf.hub import upload_space

    settings = {"datasets": given.datasets, "revision": given.revision}
    if given.dry_run:
        common.print_plan([upload_space.plan(given.to, given.ensemble, **settings)], given.json)
    else:
        pushed = upload_space.push(given.to, given.ensemble, private=given.private, **settings)
        common.print_commits([pushed], given.json)
    return 0
