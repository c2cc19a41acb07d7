"""`bus-hf build ensemble`: an ensemble folder from finished runs, or from data by a file that names its members."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from bus_hf.cli import shared
from bus_hf.errors import BusError

_EXAMPLES = """\
  bus-hf build ensemble runs/lite0 --to my_ensemble
  bus-hf build ensemble runs/lite0 runs/resnet50 --to my_ensemble --weight tf_efficientnet_lite0=1 --weight resnet50=2
  bus-hf build ensemble configs/ensemble.yaml --data DATA/busi DATA/busbra --dry-run
  bus-hf build ensemble configs/ensemble.yaml --data DATA/busi DATA/busbra"""
_NOTES = """\
All runs must have held out the same images (same data, folds, fold and split_seed): weights, temperature, thresholds
and the abstention interval are fitted on those. The first run's member is the light one and finds the lesion; the
others must have taken its boxes (--boxes RUN/out_of_fold.parquet in training). A YAML file (starts, members,
lesion_type, to, name, version) trains first what is not finished, each run by a command that is printed: starts, which
members go on or learn from, then members, then the lesion-type classifier once a fold. What was stopped goes on when
the same command is given again."""
_NAME, _VERSION = "bus-ensemble", "1.0.0"


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "ensemble", "build an ensemble folder from finished runs, or from data", _EXAMPLES, _NOTES
    )
    command.add_argument(
        "source",
        nargs="+",
        type=Path,
        metavar="RUN_OR_YAML",
        help="output folders of bus-hf train, or one YAML file of training configs",
    )
    command.add_argument("--to", type=Path, metavar="FOLDER", help="ensemble folder to write (default: the file's)")
    command.add_argument("--name", help=f"name of the ensemble (default: {_NAME}, or the file's)")
    command.add_argument("--version", dest="number", help=f"its version (default: {_VERSION}, or the file's)")
    command.add_argument(
        "--weight",
        type=_weight,
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
    command.add_argument(
        "--data",
        nargs="+",
        action="extend",
        default=[],
        metavar="DATA",
        help="with a YAML file: folders or Hub ids to train on",
    )
    command.add_argument("--dry-run", action="store_true", help="with a YAML file: print what would be done, and stop")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Build the folder; 1 where a training of the YAML file stopped."""
    if len(given.source) == 1 and given.source[0].suffix in (".yaml", ".yml"):
        return _from_data(given)
    if given.data or given.dry_run:
        raise BusError(
            "--data and --dry-run are for a YAML file of training configs", remedy="leave them out for finished runs"
        )
    if given.to is None:
        raise BusError("finished runs do not name the ensemble folder", remedy="give it with --to")
    weights = dict(given.weight) if given.weight else None
    _assemble(given.source, given.to, given.name or _NAME, given.number or _VERSION, given.lesion_type, weights)
    return 0


def _from_data(given: argparse.Namespace) -> int:
    from bus_hf.cli.build import plan

    if not given.data:
        raise BusError("there is nothing to train on", where=given.source[0], remedy="give --data")
    if given.weight or given.lesion_type:
        raise BusError(
            "--weight and --lesion-type are for finished runs",
            where=given.source[0],
            remedy="leave them out; lesion_type in the file names the config of the classifier",
        )
    wanted = plan.read_plan(given.source[0])
    if not plan.train(wanted, given.data, given.dry_run):
        return 1
    target = given.to or Path(wanted.to)
    runs, classifier = wanted.member_runs, wanted.lesion_type_runs
    flags = ["--lesion-type", *map(str, classifier)] if classifier else []
    print(" ".join(["bus-hf build ensemble", *map(str, runs), *flags, "--to", str(target)]), file=sys.stderr)
    if not given.dry_run:
        _assemble(runs, target, given.name or wanted.name, given.number or wanted.version, classifier, None)
    return 0


def _assemble(
    runs: list[Path], target: Path, name: str, version: str, classifier: list[Path], weights: dict[str, float] | None
) -> None:
    from bus_hf.build.assemble import assemble
    from bus_hf.build.readme import readme_metrics

    assemble(runs, target, name=name, version=version, weights=weights, lesion_type_runs=classifier)
    print(readme_metrics(target))
    print(f"written: {target}", file=sys.stderr)


def _weight(text: str) -> tuple[str, float]:
    name, _, weight = text.rpartition("=")
    try:
        return name, float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no weight; give MEMBER=WEIGHT, as resnet50=2") from None
