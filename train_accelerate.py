"""Train one member: flags and YAML to a TrainConfig, then bus_hf.training.

Examples:
  accelerate launch train_accelerate.py --config configs/lite0.yaml --data DATA/busi DATA/busbra
  accelerate launch train_accelerate.py --config configs/lite0.yaml --backbone resnet50 --data DATA \\
      --output runs/resnet50
  torchrun --nproc_per_node 2 train_accelerate.py --config configs/smoke.yaml

  accelerate launch train_accelerate.py --config configs/lite0.yaml --data owner/breast-ultrasound --streaming \\
      --push_to_hub owner/lite0

The same command goes on where a run was stopped, on the same data. Inference on a finished member's held-out images is
run again, with other boxes and without training it:

  python train_accelerate.py --reread checkpoints/resnet50 --data DATA/busi DATA/busbra \\
      --boxes runs/lite0/out_of_fold.parquet --output runs/resnet50
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import typing
from pathlib import Path

from bus_hf.config import TrainConfig, from_mapping, from_yaml, settings_by_group
from bus_hf.errors import BusError, of_system
from bus_hf.filenames import RUN


def parser() -> argparse.ArgumentParser:
    """One flag a setting, with its help and default, in the groups of `TrainConfig`."""
    lines = (__doc__ or "").splitlines()
    flags = argparse.ArgumentParser(
        prog="train_accelerate.py",
        description=lines[0],
        epilog="\n".join(lines[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    flags.add_argument("--config", metavar="YAML", default=None, help="file of settings; flags go before it")
    flags.add_argument(
        "--reread",
        metavar="MEMBER",
        default=None,
        help="train nothing: run inference again on what this member (checkpoint of a run, or folder of an ensemble) "
        "held out",
    )
    for group, settings in settings_by_group().items():
        section = flags.add_argument_group(group)
        for name, setting in settings.items():
            flag = f"--{name}"
            text = f"{setting.description} (default: {_shown(setting.default)})".replace("%", "%%")
            kind = setting.annotation
            if kind is bool:
                section.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
            elif typing.get_origin(kind) is tuple:
                # Given twice, it adds up.
                section.add_argument(flag, action="extend", nargs="*", metavar="TEXT", help=text)
            else:
                plain: type = int if kind is int else float if kind is float else str
                section.add_argument(flag, type=plain, metavar=plain.__name__.upper(), help=text)
    return flags


def _shown(value: object) -> object:
    return " ".join(value) or "none" if isinstance(value, tuple) else value


def main(arguments: list[str] | None = None) -> int:
    """Run; exit status 0 done, 2 wrong use, 130 stopped by Ctrl-C."""
    given = vars(parser().parse_args(arguments))
    path, member = given.pop("config"), given.pop("reread")
    output: Path | None = None
    try:
        if member:
            if path:
                raise BusError("a member is read by its own settings", where="--reread", remedy="leave out --config")
            from bus_hf.training.rerun import reread

            print(f"written: {reread(member, given)}")
            return 0
        config = from_yaml(path) if path else TrainConfig()
        config = from_mapping(given, "command line", config)
        output = Path(config.output)
        # Imported here, so that --help and a wrong setting answer at once.
        from bus_hf.training.run import run

        output = run(config)
        if config.push_to_hub and (output / RUN).is_file() and os.environ.get("RANK", "0") == "0":
            from bus_hf.hub.upload_run import push_run

            pushed = push_run(output, config.push_to_hub, private=config.hub_private)
            print(f"{pushed.repo_id}  {pushed.commit}  {'pushed' if pushed.changed else 'unchanged'}")
    except BusError as error:
        print(f"train_accelerate.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        sentence = of_system(error, output or "train_accelerate.py")
        print(f"train_accelerate.py: {sentence} The same command then goes on.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{_stopped(output)}", file=sys.stderr)
        return 130
    return 0


def _stopped(output: Path | None) -> str:
    """What is kept of a run that Ctrl-C ended."""
    try:
        progress = json.loads(((output or Path()) / "state" / "progress.json").read_text(encoding="utf-8"))
        return f"stopped; {output} keeps {progress['epoch']} epochs, and the same command goes on from there"
    except (OSError, ValueError, KeyError, TypeError):
        return "stopped before an epoch was whole; the same command begins anew"


if __name__ == "__main__":
    sys.exit(main())
