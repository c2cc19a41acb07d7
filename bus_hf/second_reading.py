"""Readers of several classes: their joined logits and figures, and the one that an ensemble offers beside its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bus_hf import ensemble
from bus_hf.errors import BusError
from bus_hf.labels import label_set
from bus_hf.views import VIEW_WEIGHTS

FOLDER = "second_reading"
_LOGITS, _RECORDS = "out_of_fold.parquet", "training.json"
_SAME = ("label_set", "architecture", "folds")


def join(runs: Sequence[Path], folder: Path) -> None:
    """Write the logits and records of finished runs of one split, each with another fold held out, into `folder`.

    Raises:
        BusError: a run is not finished, the runs are not of one kind, or a group is held out twice.
    """
    import pandas as pd

    try:
        records = [json.loads((path / "run.json").read_text(encoding="utf-8")) for path in runs]
        frames = [pd.read_parquet(path / _LOGITS) for path in runs]
    except (OSError, ValueError) as error:
        raise BusError(
            "a run is not finished", where=getattr(error, "filename", None) or "runs", remedy="let its training end"
        ) from None
    where = ", ".join(map(str, runs))
    for key in _SAME:
        if len({record[key] for record in records}) > 1:
            raise BusError(f"the runs differ in {key}", where=where, remedy="give runs of one kind")
    if records[0]["label_set"] == "malignancy":
        raise BusError("these runs tell apart two classes", where=str(runs[0]), remedy="use bus-hf assemble for them")
    frame = pd.concat(frames, ignore_index=True)
    homes = frame.drop_duplicates(["group", "fold"])
    if len({record["fold"] for record in records}) < len(records) or homes["group"].duplicated().any():
        raise BusError(
            "two runs held out the same group, so its images would count twice",
            where=where,
            remedy="give runs of different folds of one split (same data and split_seed)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / _LOGITS, index=False)
    kept = [
        record | {"history": json.loads((path / "history.json").read_text())}
        for path, record in zip(runs, records, strict=True)
    ]
    (folder / _RECORDS).write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def describe(folder: Path) -> tuple[dict[str, Any], str]:
    """Write report, page and picture of a report folder from its stored logits; returns the first two."""
    from bus_hf.evaluation import classes

    frame, records = _stored(folder)
    found = classes.report(frame, label_set(records[0]["label_set"]).classes, VIEW_WEIGHTS)
    text = classes.markdown(found, records[0]["label_set"], records)
    if (folder / ensemble.WEIGHTS).is_file():
        text = classes.card(text, records)
    (folder / "report.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(text, encoding="utf-8")
    classes.draw_confusion(folder / "confusion_matrix.png", found)
    return found, text


def ship(runs: Sequence[Path], folder: Path) -> None:
    """Put the reader of the first run into an ensemble folder, with the joined logits of all runs.

    Its temperature is then fitted on the fold that this very network left out (`found`).

    Raises:
        BusError: as for `join`; or a class is not told from the others better than by chance.
    """
    from bus_hf.evaluation import classes

    home = folder / FOLDER
    shutil.rmtree(home, ignore_errors=True)
    join(runs, home)
    figures, _ = describe(home)
    if not classes.better_than_chance(figures):
        shutil.rmtree(home)
        raise BusError(
            "not every class is told from the others better than by chance, so this is no second reading",
            where=str(runs[0]),
            remedy="train it for longer, or ship the ensemble without one",
        )
    for file in (runs[0] / "checkpoint").iterdir():
        shutil.copyfile(file, home / file.name)
    describe(home)


def found(folder: Path) -> ensemble.SecondReading | None:
    """The manifest's entry for the reader that `ship` put into an ensemble folder; None where there is none."""
    from bus_hf.evaluation.calibration import fit_temperature
    from bus_hf.evaluation.combine import combine

    home = folder / FOLDER
    if not (home / ensemble.WEIGHTS).is_file():
        return None
    frame, records = _stored(home)
    labels = label_set(records[0]["label_set"])
    images = combine(frame[frame["fold"] == records[0]["fold"]], {str(frame["member"].iloc[0]): 1.0}, VIEW_WEIGHTS)
    logits = images[[f"logit_{k}" for k in range(len(labels.classes))]].to_numpy()
    return ensemble.SecondReading(
        label_set=labels.name,
        labels=labels.classes,
        member=ensemble.Member(
            name=labels.name,
            path=FOLDER,
            repo_id=None,
            revision=None,
            sha256=ensemble.sha256(home / ensemble.WEIGHTS),
            weight=1.0,
        ),
        temperature=round(fit_temperature(logits, images["label"].to_numpy()), 6),
    )


def _stored(folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    import pandas as pd

    try:
        return pd.read_parquet(folder / _LOGITS), json.loads((folder / _RECORDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BusError(
            "there is no report here", where=folder, remedy="give a folder that bus-hf classes wrote"
        ) from None
