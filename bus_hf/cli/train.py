"""`bus-hf train`: one network trained, by flags and a YAML file of settings; train_accelerate.py is the same."""

from __future__ import annotations

import argparse
import json
import os
import sys
import typing
from pathlib import Path
from typing import Any

from bus_hf.cli import shared
from bus_hf.errors import BusError, system_error
from bus_hf.filenames import RUN

_EXAMPLES = """\
  bus-hf train --data DATA/busi DATA/busbra --output runs/lite0
  bus-hf train --config configs/lite0.yaml --data DATA --backbone resnet50 --output runs/resnet50
  bus-hf train --data owner/breast-ultrasound --streaming --push_to_hub owner/lite0
  bus-hf train --reread checkpoints/resnet50 --data DATA/busi DATA/busbra \\
      --boxes runs/lite0/out_of_fold.parquet --output runs/resnet50
  accelerate launch -m bus_hf.cli train --data DATA        as many processes as accelerate is configured for"""
_NOTES = """\
The same command goes on where a run was stopped, on the same data. In a clone, accelerate launch train_accelerate.py
takes the same flags."""


def add(commands: Any) -> None:
    """Add the subcommand, without the flags of its settings."""
    command = shared.subcommand(commands, "train", "train a network on labelled images", _EXAMPLES, _NOTES)
    # argparse would list all sixty settings in front of what they mean.
    command.usage = "bus-hf train [--config YAML] [--data DATA ...] [--SETTING VALUE ...]"
    command.add_argument("--config", metavar="YAML", help="file of settings; flags go before it")
    command.add_argument(
        "--reread",
        metavar="MEMBER",
        help="train nothing: run inference again on what this member held out (folder checkpoint of a run, or a member "
        "of an ensemble)",
    )
    command.set_defaults(run=run)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Add one flag a setting, in groups; a flag that is not given is absent from the namespace."""
    from bus_hf.config import settings_by_group

    for group, settings in settings_by_group().items():
        section = command.add_argument_group(group)
        for name, setting in settings.items():
            text = f"{setting.description} (default: {_shown(setting.default)})".replace("%", "%%")
            flag: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
            kind = setting.annotation
            if kind is bool:
                flag |= {"action": argparse.BooleanOptionalAction}
            elif typing.get_origin(kind) is tuple:
                # Given twice, it adds up.
                flag |= {"action": "extend", "nargs": "*", "metavar": "TEXT"}
            else:
                plain: type = int if kind is int else float if kind is float else str
                flag |= {"type": plain, "metavar": plain.__name__.upper()}
            section.add_argument(f"--{name}", **flag)


def _shown(value: object) -> object:
    return " ".join(value) or "none" if isinstance(value, tuple) else value


def run(given: argparse.Namespace) -> int:
    """Train, or run a member's inference again; a stop says what is kept."""
    from bus_hf.config import TrainConfig, from_mapping, from_yaml

    settings = {key: value for key, value in vars(given).items() if key not in ("command", "run", "version")}
    path, member = settings.pop("config"), settings.pop("reread")
    output: Path | None = None
    try:
        if member:
            if path:
                raise BusError("a member brings its own settings", where="--reread", remedy="leave out --config")
            from bus_hf.training.rerun import rerun

            print(f"written: {rerun(member, settings)}")
            return 0
        config = from_mapping(settings, "command line", from_yaml(path) if path else TrainConfig())
        output = Path(config.output)
        # Imported here, so that a wrong setting answers at once.
        from bus_hf.training.each_source import train

        output = train(config)
        if config.push_to_hub and (output / RUN).is_file() and os.environ.get("RANK", "0") == "0":
            from bus_hf.hub.upload_run import push_run

            pushed = push_run(output, config.push_to_hub, private=config.hub_private)
            print(f"{pushed.repo_id}  {pushed.commit}  {'pushed' if pushed.changed else 'unchanged'}")
    except BusError:
        raise
    except OSError as error:
        sentence = system_error(error, output or "the training")
        print(f"bus-hf: {sentence} The same command then goes on.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nbus-hf: {_stopped(output)}", file=sys.stderr)
        return 130
    return 0


def _stopped(output: Path | None) -> str:
    """What is kept of a run that Ctrl-C ended."""
    try:
        progress = json.loads(((output or Path()) / "state" / "progress.json").read_text(encoding="utf-8"))
        return f"stopped; {output} keeps {progress['epoch']} epochs, and the same command goes on from there"
    except (OSError, ValueError, KeyError, TypeError):
        return "stopped before an epoch was whole; the same command begins anew"
