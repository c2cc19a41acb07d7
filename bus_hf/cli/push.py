"""`bus-hf push`, `push-space` and `push-metric`: an ensemble folder, the page and the metric to the Hub."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.cli import shared

if TYPE_CHECKING:
    from bus_hf.hub.upload import Pushed, Upload

_EXAMPLES = """\
  bus-hf push checkpoints --to owner/bus-ensemble --dry-run
  bus-hf push checkpoints --to owner/bus-ensemble --private
  bus-hf push checkpoints --to owner/bus-ensemble --revision candidate"""
_NOTES = """\
Each member goes to a repository of its own, owner/bus-ensemble-MEMBER, which timm and transformers read; the ensemble,
pushed last, names each member's commit and the sha256 of its weights. Only the files that --dry-run lists are sent. A
push that broke off is finished by the same command, and one of the same content makes no commit. You must have logged
in (hf auth login) or have set HF_TOKEN."""

_SPACE = """\
  bus-hf push-space --to owner/reader --ensemble owner/bus-ensemble --dry-run
  bus-hf push-space --to owner/reader --ensemble owner/bus-ensemble"""
_SPACE_NOTES = """\
Sent is what the page imports, its requirements, and the README with the ensemble in its front matter: no weights, no
tests, no training. The Space reads the ensemble that its variables BUS_HF_ENSEMBLE and BUS_HF_REVISION name. Run it in
a clone of the project."""

_METRIC = """\
  bus-hf push-metric --to owner/bus_screening"""
_METRIC_NOTES = """\
evaluate.load("owner/bus_screening") then works wherever bus-hf is installed. Run it in a clone of the project."""


def add(commands: Any) -> None:
    """Add the subcommands."""
    command = shared.subcommand(commands, "push", "push an ensemble folder to the Hub", _EXAMPLES, _NOTES)
    command.add_argument("folder", type=Path, help="ensemble folder, such as checkpoints")
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="repository of the ensemble")
    command.add_argument("--revision", help="branch to push to, made where it is missing (default: main)")
    finish(command, run)

    command = shared.subcommand(commands, "push-space", "push the page as a Space", _SPACE, _SPACE_NOTES)
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
    finish(command, run_space)
    command = shared.subcommand(commands, "push-metric", "push the metric as a Space", _METRIC, _METRIC_NOTES)
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="the Space; NAME is bus_screening")
    finish(command, run_metric)


def finish(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Add the flags that every push has."""
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--dry-run", action="store_true", help="list what would be sent, and stop")
    command.add_argument("--json", action="store_true", help="print the plan or the commit as JSON")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Push, or list what would be pushed."""
    from bus_hf.hub import upload

    if given.dry_run:
        show(upload.plan(given.folder, given.to), given.json)
        return 0
    pushed = upload.push(
        given.folder,
        given.to,
        private=given.private,
        revision=given.revision,
        said=lambda line: print(line, file=sys.stderr, flush=True),
    )
    tell(pushed, given.json)
    return 0


def run_space(given: argparse.Namespace) -> int:
    """Push the page, or list what would be pushed."""
    from bus_hf.hub import upload_space

    settings = {"datasets": given.datasets, "revision": given.revision}
    if given.dry_run:
        show([upload_space.plan(given.to, given.ensemble, **settings)], given.json)
    else:
        tell([upload_space.push(given.to, given.ensemble, private=given.private, **settings)], given.json)
    return 0


def run_metric(given: argparse.Namespace) -> int:
    """Push the metric, or list what would be pushed."""
    from bus_hf.hub import upload_space

    if given.dry_run:
        show([upload_space.metric(given.to)], given.json)
    else:
        tell([upload_space.push_metric(given.to, private=given.private)], given.json)
    return 0


def show(uploads: Iterable[Upload], as_json: bool) -> None:
    """Print what would be sent."""
    if as_json:
        listed = [{"repo_id": one.repo_id, "files": list(one.files), "bytes": one.size} for one in uploads]
        print(json.dumps(listed, indent=2))
        return
    for upload in uploads:
        print(f"{upload.repo_id} ({upload.size / 1e6:.1f} MB)")
        print("\n".join(f"  {path}" for path in upload.files))


def tell(pushed: Iterable[Pushed], as_json: bool) -> None:
    """Print the commits that were made."""
    if as_json:
        print(json.dumps([vars(one) for one in pushed], indent=2))
        return
    for one in pushed:
        print(f"{one.repo_id}  {one.commit}  {'pushed' if one.changed else 'unchanged'}")
