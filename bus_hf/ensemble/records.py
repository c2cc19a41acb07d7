"""Records of finished runs: `run.json` and `history.json` of a run, `training.json` of a folder made of several."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from bus_hf.errors import BusError
from bus_hf.filenames import HISTORY, RUN, TRAINING
from bus_hf.validation import STRICT, load

_AGAIN = "train the run again"

Count = Annotated[int, Field(ge=0, le=10**9)]


def _finite(settings: dict[str, Any]) -> dict[str, Any]:
    json.dumps(settings, allow_nan=False)
    return settings


# Checked in full where a training config is made of them.
Settings = Annotated[dict[str, Any], AfterValidator(_finite)]
Epochs = tuple[dict[str, Annotated[float, Field(allow_inf_nan=False)]], ...]


@dataclass(frozen=True, config=STRICT)
class Start:
    """Where a network started: tensors taken from elsewhere and newly initialised ones, and the run before, if any."""

    kind: str
    source: str
    licence: str
    taken: Count
    fresh: Count
    earlier_run: RunRecord | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunRecord:
    """What a finished run tells of itself.

    Counts are of images; `seconds` are those of training; `data_sha256` holds the digests of `training.identity`;
    `history`, one row of numbers an epoch, stands in `training.json` alone.
    """

    architecture: str
    label_set: str
    input_size: Count
    start: Start
    precision: str | None = None
    held_out_sha256: str | None = None
    data_sha256: dict[str, str] | None = None
    epochs: Count
    kept: str
    fold: Count
    folds: Count
    n_train: Count
    n_held_out: Count
    n_left_out: Count
    near_duplicate_pairs: Count
    sources: dict[str, Count]
    seconds: Count
    config: Settings
    history: Epochs | None = None


def read_run(run: Path) -> RunRecord:
    """The record of a finished run, its history with it.

    Raises:
        BusError: the run is not finished, or its record or history is no such thing.
    """
    if not (run / RUN).is_file():
        raise BusError(
            f"the run is not finished: it holds no {RUN}", where=run, remedy="let train_accelerate.py go on to its end"
        )
    return dataclasses.replace(load(RunRecord, run / RUN, _AGAIN), history=load(Epochs, run / HISTORY, _AGAIN))


def read_members(folder: Path) -> dict[str, RunRecord]:
    """Records of the members of an ensemble folder by name; BusError where its `training.json` is none."""
    return load(dict[str, RunRecord], folder / TRAINING, _AGAIN)


def read_folds(folder: Path) -> tuple[RunRecord, ...]:
    """Records of one network's runs, each of another fold; BusError where the folder's `training.json` is none."""
    return load(tuple[RunRecord, ...], folder / TRAINING, _AGAIN)


def plain(record: RunRecord) -> dict[str, Any]:
    """A record as JSON-ready values, without the keys that it lacks."""
    return {key: value for key, value in dataclasses.asdict(record).items() if value is not None}


def write_members(records: Mapping[str, RunRecord], folder: Path) -> None:
    """Write `training.json` of an ensemble folder."""
    _write({name: plain(record) for name, record in records.items()}, folder)


def write_folds(records: Sequence[RunRecord], folder: Path) -> None:
    """Write `training.json` of a folder of one network's folds."""
    _write([plain(record) for record in records], folder)


def _write(content: Any, folder: Path) -> None:
    (folder / TRAINING).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
