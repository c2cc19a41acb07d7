"""What a run keeps to go on from: written whole or not at all."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator
from accelerate.utils import SCALER_NAME
from safetensors import SafetensorError

from bus_hf import files
from bus_hf.config import MACHINE, TrainConfig, to_mapping
from bus_hf.errors import BusError
from bus_hf.filenames import CHECKPOINT, HISTORY, LOGITS, RUN
from bus_hf.training.identity import differences

BEST = "best.safetensors"
# Settings that may change when a run goes on: they decide nothing about its weights.
_FREE = ("output", "boxes", *MACHINE, "push_to_hub", "hub_private")


@dataclass
class Progress:
    """How far a run is: epochs done, the history's rows, the best AUROC and the epochs since.

    `data` holds the digests of what it learns from (`identity.data_digests`, and `teacher`), `precision` its
    arithmetic (no, fp16 or bf16).
    """

    data: dict[str, str]
    precision: str
    epoch: int = 0
    best: float = -1.0
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def save(accelerator: Accelerator, output: Path, progress: Progress) -> None:
    """Write the state beside the old one and put it in its place in one step: a kill leaves one of the two.

    Raises:
        BusError: the disk does not take it; the old state stays.
    """
    # One name for all processes, which write into it together; `training.lock` keeps other runs away.
    new = output / "state.new"
    try:
        if accelerator.is_main_process:
            shutil.rmtree(new, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(new))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            (new / "progress.json").write_text(json.dumps(asdict(progress), allow_nan=False), encoding="utf-8")
            files.put(new, output / "state")
        accelerator.wait_for_everyone()
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise BusError(
            f"the state after epoch {progress.epoch} cannot be written ({reason})",
            where=output,
            remedy="make room on the disk; the same command then goes on from the state before it",
        ) from None


def stored(output: Path) -> tuple[Path, Progress] | None:
    """The folder of the whole state of `output` and how far it is; None where there is none.

    Raises:
        BusError: there is one that cannot be read.
    """
    folder = output / "state"
    path = folder / "progress.json"
    if not path.is_file():
        return None
    try:
        return folder, Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise _damaged(folder) from None


def resume(accelerator: Accelerator, output: Path, data: Mapping[str, str]) -> tuple[Progress, list[str]]:
    """Load the whole state of `output`.

    Args:
        accelerator: with everything that a state holds.
        output: of the run.
        data: digests of the data that the run would now learn from.

    Returns:
        How far the run is (a new `Progress` where there is no state), and sentences for the log.

    Raises:
        BusError: the state was learned from other data or in another arithmetic, or cannot be read.
    """
    latest = stored(output)
    if latest is None:
        return Progress(data=dict(data), precision=accelerator.mixed_precision), []
    folder, progress = latest
    differing = differences(progress.data, data)
    differing += ["weights of the teacher"] if progress.data.get("teacher") != data.get("teacher") else []
    if differing:
        raise BusError(
            f"the run was begun on other data ({', '.join(differing)} differ), so images that it has learned from "
            "could count as held out",
            where=output,
            remedy="give the data as it was, or start over in another --output or with --no-resume",
        )
    notes = []
    if progress.precision != accelerator.mixed_precision:
        notes.append(f"begun with mixed_precision {progress.precision}, it goes on with {accelerator.mixed_precision}")
    if accelerator.scaler is not None and not (folder / SCALER_NAME).is_file():
        raise BusError(
            "the state was learned without fp16 and lacks what fp16 goes on from",
            where=folder,
            remedy="go on where it was begun, or start over in another --output or with --no-resume",
        )
    try:
        accelerator.load_state(str(folder))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError):
        raise _damaged(folder) from None
    progress.precision = accelerator.mixed_precision
    return progress, notes


def _damaged(folder: Path) -> BusError:
    return BusError(
        "the state cannot be read, or is of another network",
        where=folder,
        remedy="start over in another --output or with --no-resume",
    )


def claim(config: TrainConfig) -> None:
    """Make the output folder this run's, writing `config.yaml`.

    Raises:
        BusError: it holds a run with other settings, which are named, and `resume` would mix the two.
    """
    output = Path(config.output)
    files.settle(output)
    files.mend(output / "state")
    path = output / "config.yaml"
    if path.exists() and config.resume:
        before: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        now, default = to_mapping(config), to_mapping(TrainConfig())
        # A setting that the run was begun without had its default.
        differing = [key for key in now if key not in _FREE and before.get(key, default[key]) != now[key]]
        if differing:
            raise BusError(
                f"the folder holds a run with another {', '.join(differing)}",
                where=output,
                remedy="choose another --output, or start over with --no-resume",
            )
    if not config.resume:
        # First what says that a run is finished, or that a state is whole.
        for name in (RUN, "state/progress.json", HISTORY, LOGITS, BEST):
            (output / name).unlink(missing_ok=True)
        # Generated images belong to the settings that the run began with.
        for name in ("state", "state.new", CHECKPOINT, "phantoms"):
            shutil.rmtree(output / name, ignore_errors=True)
    with files.replace_file(path) as part:
        part.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False), encoding="utf-8")
