"""What every push has: its flags, its plan and its commits in print."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bus_hf.hub.upload import Pushed, Upload


def add_flags(command: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    """Add the flags that every push has."""
    command.add_argument("--private", action="store_true", help="make a new repository private")
    command.add_argument("--dry-run", action="store_true", help="list what would be sent, and stop")
    command.add_argument("--json", action="store_true", help="print the plan or the commit as JSON")
    command.set_defaults(run=run)


def print_plan(uploads: Iterable[Upload], as_json: bool) -> None:
    """Print what would be sent."""
    if as_json:
        listed = [{"repo_id": one.repo_id, "files": list(one.files), "bytes": one.size} for one in uploads]
        print(json.dumps(listed, indent=2))
        return
    for upload in uploads:
        print(f"{upload.repo_id} ({upload.size / 1e6:.1f} MB)")
        print("\n".join(f"  {path}" for path in upload.files))


def print_commits(pushed: Iterable[Pushed], as_json: bool) -> None:
    """Print the commits that were made."""
    if as_json:
        print(json.dumps([vars(one) for one in pushed], indent=2))
        return
    for one in pushed:
        print(f"{one.repo_id}  {one.commit}  {'pushed' if one.changed else 'unchanged'}")
