"""`bus-hf ensemble`: from data to an ensemble folder, by one file that names the members."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus_hf.cli import shared
from bus_hf.errors import BusError
from bus_hf.filenames import RUN
from bus_hf.files import settle

_EXAMPLES = """\
  bus-hf ensemble configs/ensemble.yaml --data DATA/busi DATA/busbra
  bus-hf ensemble configs/ensemble.yaml --data DATA/busi DATA/busbra --dry-run"""
_NOTES = """\
Each member's training is a call of accelerate launch train_accelerate.py, printed before it starts. Members whose run
is finished are not trained again, and one that was stopped goes on, so that the same command, given again, brings it
all to its end. Starts are trained first: runs that members go on or learn from. The first member is the
light one: it finds the lesion, and the others read its boxes. A lesion-type classifier is trained once a fold, for its
metrics; the network that left out the first fold ships."""

_TRAIN = "train_accelerate.py"


@dataclass(frozen=True)
class Plan:
    """What `configs/ensemble.yaml` says: training configs of starts and members, the light one first, of a second
    reading (None: there is none), and what to write."""

    starts: tuple[Path, ...]
    members: tuple[Path, ...]
    lesion_type: Path | None
    to: str
    name: str
    version: str


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(
        commands, "ensemble", "train every member of an ensemble and assemble them", _EXAMPLES, _NOTES
    )
    command.add_argument(
        "plan",
        type=Path,
        metavar="FILE",
        help="YAML: starts, members, lesion_type (training configs), to, name, version",
    )
    command.add_argument(
        "--data", nargs="+", action="extend", required=True, metavar="DATA", help="folders or Hub ids to train on"
    )
    command.add_argument("--to", metavar="FOLDER", help="ensemble folder to write (default: that of the file)")
    command.add_argument("--dry-run", action="store_true", help="print what would be done, and stop")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Train what is not finished, then assemble; 1 where a training failed."""
    from bus_hf.build.assemble import assemble
    from bus_hf.build.readme import readme_metrics

    plan = read_plan(given.plan)
    target = Path(given.to or plan.to)
    outputs = [_output(config) for config in plan.members]
    folds = _folds(plan.lesion_type) if plan.lesion_type else {}
    trainings: list[tuple[Any, Path, list[str]]] = [
        *((config, _output(config), []) for config in (*plan.starts, *plan.members)),
        *((plan.lesion_type, output, ["--fold", str(fold), "--output", str(output)]) for fold, output in folds.items()),
    ]
    for config, output, flags in trainings:
        settle(output)
        if (output / RUN).is_file():
            print(f"{output}: finished before", file=sys.stderr)
            continue
        command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", _TRAIN]
        command += ["--config", str(config), "--data", *given.data, *flags]
        print(" ".join(["accelerate", "launch", *command[3:]]), file=sys.stderr, flush=True)
        if not given.dry_run and subprocess.run(command, check=False).returncode:
            print(f"bus-hf: the training of {output} stopped; the same command goes on.", file=sys.stderr)
            return 1
    second = list(folds.values())
    also = ["--lesion-type", *map(str, second)] if second else []
    print(" ".join(["bus-hf assemble", *map(str, outputs), *also, "--to", str(target)]), file=sys.stderr)
    if not given.dry_run:
        _require_same_data(outputs)
        assemble(outputs, target, name=plan.name, version=plan.version, lesion_type_runs=second)
        print(readme_metrics(target))
    return 0


def _require_same_data(outputs: Sequence[Path]) -> None:
    """BusError where members learned from different data: one that was finished before is not trained again."""
    first: dict[str, str] = {}
    for output in outputs:
        data = json.loads((output / RUN).read_text(encoding="utf-8")).get("data_sha256") or {}
        if any(first.setdefault(key, value) != value for key, value in data.items()):
            raise BusError(
                f"it was not trained on the data of {outputs[0]}",
                where=output,
                remedy="delete the runs of the earlier data, and the same command trains them anew",
            )


def read_plan(path: Path) -> Plan:
    """Read the YAML file of an ensemble.

    Raises:
        BusError: it cannot be read, lacks or has a key too many, or names a config that is not there.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise BusError("no YAML file can be read here", where=path, remedy="give configs/ensemble.yaml") from None
    keys = ("starts", "members", "to", "name", "version")
    if not isinstance(values, dict) or set(values) - {"lesion_type"} != set(keys):
        raise BusError(f"the file does not hold {', '.join(keys)} and nothing else", where=path, remedy="correct it")
    starts, members, texts = values["starts"], values["members"], [values[key] for key in keys[2:]]
    second = values.get("lesion_type")
    also = [] if second is None else [second]
    listed = isinstance(starts, list) and isinstance(members, list) and members
    if not listed or not all(isinstance(text, str) for text in [*starts, *members, *texts, *also]):
        raise BusError(
            "starts or members is no list of training configs, or another value is no text",
            where=path,
            remedy="correct it",
        )
    configs = tuple(path.parent / config for config in [*starts, *members, *also])
    for config in configs:
        if not config.is_file():
            raise BusError("there is no such training config", where=config, remedy=f"correct {path}")
    last = len(starts) + len(members)
    return Plan(configs[: len(starts)], configs[len(starts) : last], configs[last] if also else None, *texts)


def _folds(config: Path) -> dict[int, Path]:
    """Output folder of each fold's run."""
    from bus_hf.config import from_yaml

    settings = from_yaml(config)
    return {fold: Path(f"{settings.output}-{fold}") for fold in range(settings.folds)}


def _output(config: Path) -> Path:
    from bus_hf.config import from_yaml

    return Path(from_yaml(config).output)
