"""`bus-hf push ensemble`: an ensemble folder to the Hub."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bus_hf.cli import shared
from bus_hf.cli.push import common

_EXAMPLES = """\
  bus-hf push ensemble checkpoints --to owner/bus-ensemble --dry-run
  bus-hf push ensemble checkpoints --to owner/bus-ensemble --private
  bus-hf push ensemble checkpoints --to owner/bus-ensemble --revision candidate"""
_NOTES = """\
Each member goes to a repository of its own, owner/bus-ensemble-MEMBER, which timm and transformers read; the ensemble,
pushed last, names each member's commit and the sha256 of its weights. Only the files that --dry-run lists are sent. A
push that broke off is finished by the same command, and one of the same content makes no commit. You must have logged
in (hf auth login) or have set HF_TOKEN."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "ensemble", "push an ensemble folder", _EXAMPLES, _NOTES)
    command.add_argument("folder", type=Path, help="ensemble folder, such as checkpoints")
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="repository of the ensemble")
    command.add_argument("--revision", help="branch to push to, made where it is missing (default: main)")
    common.add_flags(command, run)


def run(given: argparse.Namespace) -> int:
    """Push, or list what would be pushed."""
    from bus_hf.hub import upload

    if given.dry_run:
        common.print_plan(upload.plan(given.folder, given.to), given.json)
        return 0
    pushed = upload.push(
        given.folder,
        given.to,
        private=given.private,
        revision=given.revision,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    common.print_commits(pushed, given.json)
    return 0
