"""`bus-hf push dataset`: labelled images to the Hub, as Parquet with groups and folds."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from bus_hf.cli import shared
from bus_hf.cli.push import common

_EXAMPLES = """\
  bus-hf push dataset DATA/busbra --to owner/breast-ultrasound --dry-run
  bus-hf push dataset DATA/busi DATA/busbra --to owner/breast-ultrasound --private --may-redistribute"""
_NOTES = """\
Sent are Parquet shards (image and mask as they are, label, group, fold and what the source knows) and a card whose
counts come from the data. Near-duplicates are joined into groups before folds are assigned; groups whose classes
contradict each other get no fold. Sources whose terms do not say that anybody may pass them on need
--may-redistribute. load_dataset("owner/name") and --data owner/name in training read it back."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "dataset", "push labelled images", _EXAMPLES, _NOTES)
    command.add_argument("data", nargs="+", metavar="DATA", help="folders of labelled images; several are joined")
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="the data set")
    command.add_argument("--label-set", default="malignancy", help="malignancy (default), busi3 or histology")
    command.add_argument(
        "--may-redistribute", action="store_true", help="you may pass these images on, whatever their terms say"
    )
    command.add_argument("--revision", help="branch to push to, made where it is missing (default: main)")
    common.add_flags(command, run)


def run(given: argparse.Namespace) -> int:
    """Push the data set, or list what would be pushed."""
    from bus_hf.hub import upload_dataset

    with tempfile.TemporaryDirectory() as scratch:
        print("reading and comparing the images ...", file=sys.stderr)
        upload = upload_dataset.plan(
            given.data,
            given.to,
            Path(scratch),
            label_set=given.label_set,
            may_redistribute=given.may_redistribute,
        )
        if given.dry_run:
            common.print_plan([upload], given.json)
        else:
            pushed = upload_dataset.push(upload, private=given.private, revision=given.revision)
            common.print_commits([pushed], given.json)
    return 0
