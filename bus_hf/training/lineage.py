"""Where a network's start and its teacher come from, and that neither has learned from what is held out now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus_hf.config import TrainConfig
from bus_hf.ensemble import records
from bus_hf.errors import BusError
from bus_hf.filenames import CHECKPOINT, HISTORY, RUN, TRAINING
from bus_hf.files import settle
from bus_hf.training.identity import differences
from bus_hf.validation import load

_AGAIN = "give the checkpoint folder of a finished run, or a member's folder inside an ensemble folder"

# What has to be equal for two runs on the same data to hold out the same images.
_SPLIT = ("label_set", "folds", "fold", "split_seed", "folds_from", "near_duplicates", "train_sources", "hold_out")

# Digests that have to be equal for it.
_HELD_OUT = ("held_out_names", "held_out_pixels")


def record_of(name: str) -> dict[str, Any] | None:
    """The record of the run that made a member, from beside its folder; None where none lies there.

    Args:
        name: a member's folder: `checkpoint` of a run, or one of an ensemble folder.

    Raises:
        BusError: what lies there is no record.
    """
    folder = Path(name)
    if folder.name == CHECKPOINT:
        path = folder.parent / RUN
        return records.plain(load(records.RunRecord, path, _AGAIN)) if path.is_file() else None
    if not (folder.parent / TRAINING).is_file():
        return None
    members = records.read_members(folder.parent)
    return records.plain(members[folder.name]) if folder.name in members else None


def history_of(name: str) -> list[dict[str, float]] | None:
    """One row an epoch of the run that made a member, from beside its folder; None where none lies there.

    Raises:
        BusError: what lies there is no history, or holds a number that is not finite.
    """
    folder = Path(name)
    if folder.name != CHECKPOINT:
        return (record_of(name) or {}).get("history")
    path = folder.parent / HISTORY
    return list(load(records.Epochs, path, _AGAIN)) if path.is_file() else None


def earlier_run(config: TrainConfig) -> dict[str, Any] | None:
    """The record of the run that `init_from` ends, for the record of this one, without its history.

    Raises:
        BusError: that run, or the teacher's, learned from images that this one holds out.
    """
    for name in (config.teacher, config.init_from):
        if name:
            settle(Path(name).parent)
    if config.teacher:
        _refuse_leak(record_of(config.teacher), config, config.teacher, "teacher")
    if not config.init_from:
        return None
    record = record_of(config.init_from)
    _refuse_leak(record, config, config.init_from, "start")
    return {key: value for key, value in record.items() if key != "history"} if record else None


def refuse_other_data(config: TrainConfig, data: Mapping[str, str]) -> None:
    """Compare what this run holds out with what the runs of its start and its teacher held out, where these tell it.

    Args:
        config: of this run.
        data: its `identity.data_digests`.

    Raises:
        BusError: equal settings hold out other images, because the data or the file of folds is another one.
    """
    for name, what in ((config.teacher, "teacher"), (config.init_from, "start")):
        record = record_of(name) if name else None
        if not record:
            continue
        before = record.get("data_sha256") or {"held_out_names": record.get("held_out_sha256")}
        # Other labels or masks there teach nothing about the images here.
        differing = differences({key: before[key] for key in _HELD_OUT if before.get(key)}, data)
        if differing:
            raise BusError(
                f"the {what} held out other images than this run does ({', '.join(differing)} differ), so it may have "
                "learned from some that are held out now",
                where=name,
                remedy=f"give the data and the file of folds that the {what} was trained with, or another {what}",
            )


def _refuse_leak(record: Mapping[str, Any] | None, config: TrainConfig, where: str, what: str) -> None:
    if record is None:
        return
    before = record["config"]
    # A run without a setting was made when its default was the only choice.
    known = {key: before.get(key, getattr(TrainConfig(), key)) for key in _SPLIT}
    now = {key: getattr(config, key) for key in _SPLIT}
    differing = [key for key in _SPLIT if _plain(known[key]) != _plain(now[key])]
    differing += ["set_apart"] if set(config.set_apart) - set(before.get("set_apart", ())) else []
    if differing:
        changes = ", ".join(
            f"{key} {known.get(key, before.get(key, 'none'))} then, {getattr(config, key)} now" for key in differing
        )
        raise BusError(
            f"the {what} learned from images that this run holds out ({changes})",
            where=where,
            remedy=f"give a {what} that held out the same fold",
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
