"""`bus-hf push`: an ensemble, labelled images, the page and the metric to the Hub."""

from __future__ import annotations

from typing import Any

from bus_hf.cli import shared
from bus_hf.cli.push import dataset, ensemble, metric, space

COMMANDS = {"ensemble": ensemble, "dataset": dataset, "space": space, "metric": metric}

_EXAMPLES = """\
  bus-hf push ensemble my_ensemble --to owner/bus-ensemble --dry-run
  bus-hf push dataset DATA/busbra --to owner/breast-ultrasound
  bus-hf push space --to owner/reader --ensemble owner/bus-ensemble
  bus-hf push metric --to owner/bus_screening"""
_NOTES = """\
Only the files that --dry-run lists are sent, and what is on the Hub already is not sent again. You must have logged in
(hf auth login) or have set HF_TOKEN. Each teaches: bus-hf push WHAT --help. A finished run is pushed by bus-hf train
--push_to_hub."""


def add(commands: Any) -> None:
    """Add the group."""
    shared.group(commands, "push", "push to the Hub", _EXAMPLES, _NOTES, COMMANDS)
