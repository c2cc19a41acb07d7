"""Runs that each held out another fold of one split: their out-of-fold logits joined, and the metrics of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.config import MACHINE
from bus_hf.ensemble.records import RunRecord, plain, read_folds, read_run, write_folds
from bus_hf.errors import BusError
from bus_hf.evaluation import stored_logits
from bus_hf.filenames import EXCLUDED, LOGITS, REPORT, TRAINING
from bus_hf.files import replace_folder, settle
from bus_hf.labels import label_set
from bus_hf.views import VIEW_WEIGHTS

if TYPE_CHECKING:
    import pandas as pd

# What has to be equal for runs to be of one network.
_SAME = ("label_set", "architecture", "folds", "input_size", "epochs")
# Settings in which the runs of one network may differ.
_FREE = ("fold", "seed", "boxes", "init_from", "teacher", *MACHINE)


def write(folder: Path, runs: Sequence[Path] = ()) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """`join` where runs are given, then `describe`: `folder` is as it was, or has all that is new.

    Raises:
        BusError: as for the two, or the folder cannot be written.
    """
    if not runs:
        # A folder that is none of a report is not copied first.
        stored(folder)
    try:
        with replace_folder(folder, keep=True) as part:
            if runs:
                join(runs, part)
            return describe(part)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="name another folder, or make room"
        ) from None


def join(runs: Sequence[Path], folder: Path) -> None:
    """Write the logits and records of finished runs, each with another fold held out, into `folder`.

    `write` does so whole or not at all.

    Raises:
        BusError: a run is not finished, the runs are not of one kind, or a group is held out twice.
    """
    import pandas as pd

    for run in runs:
        settle(run)
    records = [read_run(path) for path in runs]
    frames = [stored_logits.read(path / LOGITS, "let its training end") for path in runs]
    where = ", ".join(map(str, runs))
    for key in _SAME:
        if len({getattr(record, key) for record in records}) > 1:
            raise BusError(f"the runs differ in {key}", where=where, remedy="give runs of one kind")
    first = records[0].config
    for record in records[1:]:
        other = [key for key in first if key not in _FREE and record.config.get(key) != first[key]]
        if other:
            raise BusError(f"the runs differ in {', '.join(other)}", where=where, remedy="give runs of one config")
    frame = pd.concat(frames, ignore_index=True)
    homes = frame.drop_duplicates(["group", "fold"])
    if len({record.fold for record in records}) < len(records) or homes["group"].duplicated().any():
        raise BusError(
            "two runs held out the same group, so its images would count twice",
            where=where,
            remedy="give runs of different folds of one split (same data and split_seed)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / LOGITS, index=False)
    write_folds(records, folder)


def excluded(folder: Path) -> dict[str, str]:
    """Images that no metric of the logits in `folder` counts, and why: its `left_out.csv`, where there is one."""
    import csv

    path = folder / EXCLUDED
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["name"]: row["why"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        raise BusError(
            "it cannot be read", where=path, remedy="give a CSV file with the columns name and why"
        ) from None


def counted(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Logits that lie in `folder`, but for those of images `excluded`."""
    return frame[~frame["name"].isin(excluded(folder))].reset_index(drop=True)


def stored(folder: Path) -> tuple[pd.DataFrame, tuple[RunRecord, ...]]:
    """Logits, but for images `excluded`, and records that `join` wrote into `folder`; BusError where there are none."""
    if not (folder / LOGITS).is_file() or not (folder / TRAINING).is_file():
        raise BusError("there is no report here", where=folder, remedy="give a folder that bus-hf build report wrote")
    return counted(stored_logits.read(folder / LOGITS), folder), read_folds(folder)


def describe(
    folder: Path, views: Mapping[str, float] = VIEW_WEIGHTS
) -> tuple[dict[str, Any], str, list[dict[str, Any]]]:
    """Write report and page (and, of several classes, a picture) of joined logits; returns the two, and the records.

    Args:
        folder: that `join` wrote into.
        views: weight of each view.

    Raises:
        BusError: there are no joined logits.
    """
    from bus_hf.evaluation import cross_validation, multiclass, weighting
    from bus_hf.reporting import cross_validation as pages
    from bus_hf.reporting import multiclass as multiclass_pages

    frame, records = stored(folder)
    recorded = [plain(record) for record in records]
    labels = label_set(records[0].label_set)
    if labels.positive is None:
        balanced = records[0].config.get("balanced_sampling", False)
        metrics = multiclass.report(frame, labels.classes, views, balanced)
        text = multiclass_pages.markdown(metrics, labels.name, recorded)
        multiclass_pages.draw_confusion(folder / "confusion_matrix.png", metrics)
    else:
        held_out = weighting.held_out_logits(frame, [records[0].architecture], list(views))
        folds = frame.drop_duplicates("name")["fold"].to_numpy()
        metrics = cross_validation.report(held_out, folds, views)
        text = pages.markdown(metrics, recorded)
    without = excluded(folder)
    if without:
        metrics["left_out"] = without
        text += f"\nExcluded: {'; '.join(f'{name} ({why})' for name, why in without.items())}.\n"
    (folder / REPORT).write_text(json.dumps(metrics, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(text, encoding="utf-8")
    return metrics, text, recorded
