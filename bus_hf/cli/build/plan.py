"""From data to finished runs, by one YAML file that names the members of an ensemble."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bus_hf.errors import BusError
from bus_hf.filenames import RUN
from bus_hf.files import settle


@dataclass(frozen=True)
class Plan:
    """What `configs/ensemble.yaml` says.

    Training configs: `starts` are trained first, for members to go on or to learn from; the first of `members` is the
    light one; `lesion_type` is the lesion-type classifier's (None: there is none). `to`, `name` and `version` are those
    of the ensemble folder.
    """

    starts: tuple[Path, ...]
    members: tuple[Path, ...]
    lesion_type: Path | None
    to: str
    name: str
    version: str

    @property
    def member_runs(self) -> list[Path]:
        """Output folder of each member's run, the light one first."""
        return [_output(config) for config in self.members]

    @property
    def lesion_type_runs(self) -> list[Path]:
        """Output folder of each fold's run of the lesion-type classifier."""
        return list(_folds(self.lesion_type).values()) if self.lesion_type else []


def train(plan: Plan, data: Sequence[str], dry_run: bool) -> bool:
    """Train what is not finished, each run in a process of its own; whether all came to their ends.

    Args:
        plan: what is to be trained.
        data: folders or Hub ids.
        dry_run: print the commands only.

    Raises:
        BusError: members learned from different data: one that was finished before is not trained again.
    """
    folds = _folds(plan.lesion_type) if plan.lesion_type else {}
    trainings: list[tuple[Path | None, Path, list[str]]] = [
        *((config, _output(config), []) for config in (*plan.starts, *plan.members)),
        *((plan.lesion_type, output, ["--fold", str(fold), "--output", str(output)]) for fold, output in folds.items()),
    ]
    for config, output, flags in trainings:
        settle(output)
        if (output / RUN).is_file():
            print(f"{output}: finished before", file=sys.stderr)
            continue
        command = [
            "accelerate",
            "launch",
            "-m",
            "bus_hf.cli",
            "train",
            "--config",
            str(config),
            "--data",
            *data,
            *flags,
        ]
        print(" ".join(command), file=sys.stderr, flush=True)
        if dry_run:
            continue
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *command[2:]]
        if subprocess.run(launch, check=False).returncode:
            print(f"bus-hf: the training of {output} stopped; the same command goes on.", file=sys.stderr)
            return False
    if not dry_run:
        _require_same_data(plan.member_runs)
    return True


def _require_same_data(outputs: Sequence[Path]) -> None:
    """BusError where members learned from different data: one that was finished before is not trained again."""
    from bus_hf.ensemble.records import read_run

    first: dict[str, str] = {}
    for output in outputs:
        data = read_run(output).data_sha256 or {}
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
    classifier = values.get("lesion_type")
    also = [] if classifier is None else [classifier]
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
