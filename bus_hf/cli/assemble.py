"""`bus-hf assemble` and `bus-hf figures`: from finished runs to an ensemble folder, and its figures again."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bus_hf.cli import shared

_ASSEMBLE = """\
  bus-hf assemble runs/lite0 --to my_ensemble
  bus-hf assemble runs/lite0 runs/resnet50 --to my_ensemble --vote tf_efficientnet_lite0=1 --vote resnet50=2"""
_ASSEMBLE_NOTES = """\
All runs must have left out the same images (same data, folds, fold and split_seed): weights, temperature, thresholds
and the band of "not sure" are fitted on those. The first run's member is the light one and finds the lesion; the others
must have taken its boxes (--boxes RUN/out_of_fold.parquet in training)."""

_FIGURES = """\
  bus-hf figures checkpoints
  bus-hf figures checkpoints --readme README.md"""
_FIGURES_NOTES = """\
Nothing is trained: the stored logits are combined and measured anew. In a README the part between the lines
<!-- figures:start --> and <!-- figures:end --> is replaced."""


def add(commands: Any) -> None:
    """Add both subcommands."""
    command = shared.subcommand(
        commands, "assemble", "make an ensemble of finished training runs", _ASSEMBLE, _ASSEMBLE_NOTES
    )
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="output folder of train_accelerate.py")
    command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="ensemble folder to write")
    command.add_argument("--name", default="bus-ensemble", help="name of the ensemble (default: bus-ensemble)")
    command.add_argument("--version", default="1.0.0", dest="number", help="its version (default: 1.0.0)")
    command.add_argument(
        "--vote",
        type=_vote,
        action="append",
        metavar="MEMBER=WEIGHT",
        help="weight of a member; give all or none (default: by how well each separates the classes)",
    )
    command.add_argument(
        "--lesion-type",
        action="extend",
        nargs="+",
        type=Path,
        default=[],
        metavar="RUN",
        help="runs of histology or busi3, one a fold; the first one's network is offered beside the ensemble",
    )
    command.set_defaults(run=run_assemble)
    command = shared.subcommand(
        commands, "figures", "write an ensemble's figures, plots and cards again", _FIGURES, _FIGURES_NOTES
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="ensemble folder with out_of_fold.parquet")
    command.add_argument(
        "--readme",
        type=Path,
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE",
        help="files to put the tables into",
    )
    command.set_defaults(run=run_figures)


def run_assemble(given: argparse.Namespace) -> int:
    """Write the ensemble folder."""
    from bus_hf.build.assemble import assemble
    from bus_hf.build.readme import readme_metrics

    votes = dict(given.vote) if given.vote else None
    assemble(
        given.runs, given.to, name=given.name, version=given.number, weights=votes, lesion_type_runs=given.lesion_type
    )
    print(readme_metrics(given.to))
    print(f"written: {given.to}", file=sys.stderr)
    return 0


def run_figures(given: argparse.Namespace) -> int:
    """Write report, plots, cards and manifest anew, then the READMEs."""
    from bus_hf.build.describe import redescribe
    from bus_hf.build.readme import readme_metrics

    redescribe(given.folder)
    for path in given.readme:
        shared.replace_figures(path, readme_metrics(given.folder, path.parent))
    print(readme_metrics(given.folder))
    return 0


def _vote(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no vote; give MEMBER=WEIGHT, as resnet50=2") from None
