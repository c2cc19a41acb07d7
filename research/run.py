"""A trial: one network a source, trained with one change of the settings, and the logits that it leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bus_hf.config import MACHINE
from bus_hf.errors import BusError
from bus_hf.filenames import LOGITS, without
from bus_hf.files import replace_file, settle

# Says what a trial changed; where it stands, the trial is finished.
CHANGE = "change.txt"


def run(
    name: str,
    data: Sequence[str],
    changes: Sequence[str],
    config: Path,
    sources: Sequence[str],
    folder: Path,
    left_out: bool = False,
) -> int:
    """Train a network a source, on it or on all others, and keep its logits; 1 where a training stopped.

    Args:
        name: of the trial.
        data: folders or Hub ids, one a source.
        changes: KEY=VALUE, each a setting that differs from the config; {source} in a value is the source trained on.
        config: YAML of `train_accelerate.py`.
        sources: to train on, or to leave out, one network each.
        folder: gets NAME/SOURCE.parquet, NAME/SOURCE.yaml and NAME/change.txt.
        left_out: leave each source out; the files are then called without_SOURCE.

    Raises:
        BusError: the name or a change is none, or a file cannot be written.
    """
    settings = _settings(changes)
    if not name.replace("-", "").replace("_", "").isalnum():
        raise BusError(f"'{name}' is no name of a trial", remedy="use letters, digits and hyphens")
    target = folder / name
    for source in sources:
        stem, held_out = (without(source), "--hold_out") if left_out else (source, "--train_sources")
        if (target / f"{stem}.parquet").is_file():
            continue
        output = Path("runs") / "trials" / name / stem
        command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "train_accelerate.py"]
        command += ["--config", str(config), "--data", *data, held_out, source, "--output", str(output)]
        for key, value in settings.items():
            command += [f"--{key}", *value.replace("{source}", source).split(",")]
        if subprocess.run(command, check=False).returncode:
            print(f"research: the training {stem} stopped; the same command goes on.", file=sys.stderr)
            return 1
        settle(output)
        # The logits last: where they stand, this source is done.
        _copy(output / "config.yaml", target / f"{stem}.yaml")
        _copy(output / LOGITS, target / f"{stem}.parquet")
    changed = [f"{key}={value}" for key, value in settings.items() if key not in MACHINE]
    with replace_file(target / CHANGE) as part:
        part.write_text((", ".join(changed) or "none") + "\n", encoding="utf-8")
    return 0


def _settings(changes: Sequence[str]) -> dict[str, str]:
    """Settings by key; BusError where one has no value or is given twice."""
    settings: dict[str, str] = {}
    for change in changes:
        key, _, value = change.partition("=")
        if not key or not value:
            raise BusError("a change has no value", where="--set", remedy="write KEY=VALUE, as input_size=160")
        if key in settings:
            raise BusError(f"{key} is given twice", where="--set", remedy="give each key once")
        settings[key] = value
    return settings


def _copy(file: Path, target: Path) -> None:
    try:
        with replace_file(target) as part:
            shutil.copyfile(file, part)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=target, remedy="name another folder with --to"
        ) from None
