"""What a run keeps to go on from: written whole or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from accelerate import Accelerator

from bus_hf.config import MACHINE, TrainConfig, to_mapping
from bus_hf.errors import BusError

# Settings that may change when a run goes on: they decide nothing about its weights.
_FREE = ("output", "boxes", *MACHINE, "push_to_hub", "hub_private")


@dataclass
class Progress:
    """How far a run is: epochs done, the history's rows, the best AUROC and the epochs since."""

    epoch: int = 0
    best: float = -1.0
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def save(accelerator: Accelerator, output: Path, progress: Progress) -> None:
    """Write the state beside the old one and put it in its place: a kill at any moment leaves one of the two."""
    new, current, old = (output / name for name in ("state.new", "state", "state.old"))
    if accelerator.is_main_process:
        shutil.rmtree(new, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(new))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (new / "progress.json").write_text(json.dumps(asdict(progress)), encoding="utf-8")
        shutil.rmtree(old, ignore_errors=True)
        if current.exists():
            current.rename(old)
        new.rename(current)
        shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, output: Path) -> Progress:
    """Load the newest whole state of `output`; a fresh `Progress` where there is none."""
    for folder in (output / "state", output / "state.old"):
        if (folder / "progress.json").is_file():
            accelerator.load_state(str(folder))
            return Progress(**json.loads((folder / "progress.json").read_text(encoding="utf-8")))
    return Progress()


def claim(config: TrainConfig) -> None:
    """Make the output folder this run's, writing `config.yaml`.

    Raises:
        BusError: it holds a run with other settings, which are named, and `resume` would mix the two.
    """
    output = Path(config.output)
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
        for name in ("state", "state.new", "state.old", "checkpoint"):
            shutil.rmtree(output / name, ignore_errors=True)
        # run.json says that a run is finished.
        for name in ("run.json", "history.json", "out_of_fold.parquet", "best.safetensors"):
            (output / name).unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False), encoding="utf-8")
