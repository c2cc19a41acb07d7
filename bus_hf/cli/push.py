"""`bus-hf push`: an ensemble folder to the Hub."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bus_hf.cli import shared

_EXAMPLES = """\
  bus-hf push checkpoints --to owner/bus-ensemble --dry-run
  bus-hf push checkpoints --to owner/bus-ensemble --private
  bus-hf push checkpoints --to owner/bus-ensemble --revision candidate"""
_NOTES = """\
Each member goes to a repository of its own, owner/bus-ensemble-MEMBER, which timm and transformers read; the ensemble,
pushed last, names each member's commit and the sha256 of its weights. Only the files that --dry-run lists are sent. A
push that broke off is finished by the same command, and one of the same content makes no commit. You must have logged
in (hf auth login) or have set HF_TOKEN."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "push", "push an ensemble folder to the Hub", _EXAMPLES, _NOTES)
    command.add_argument("folder", type=Path, help="ensemble folder, such as checkpoints")
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="repository of the ensemble")
    command.add_argument("--private", action="store_true", help="make new repositories private")
    command.add_argument("--revision", metavar="BRANCH", help="branch to push to (default: main)")
    command.add_argument("--dry-run", action="store_true", help="list what would be sent, and stop")
    command.add_argument("--json", action="store_true", help="print the plan or the commits as JSON")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Push, or list what would be pushed."""
    from bus_hf import publish

    if given.dry_run:
        uploads = publish.plan(given.folder, given.to)
        listed = [{"repo_id": one.repo_id, "files": list(one.files), "bytes": one.size} for one in uploads]
        if given.json:
            print(json.dumps(listed, indent=2))
        else:
            for upload in uploads:
                print(f"{upload.repo_id} ({upload.size / 1e6:.1f} MB)")
                print("\n".join(f"  {path}" for path in upload.files))
        return 0
    pushed = publish.push(
        given.folder,
        given.to,
        private=given.private,
        revision=given.revision,
        said=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if given.json:
        print(json.dumps([vars(one) for one in pushed], indent=2))
    else:
        for one in pushed:
            print(f"{one.repo_id}  {one.commit}  {'pushed' if one.changed else 'unchanged'}")
    return 0
