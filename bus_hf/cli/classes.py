"""`bus-hf classes`: figures of runs that tell apart more than two classes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bus_hf.cli import shared
from bus_hf.errors import BusError

_EXAMPLES = """\
  bus-hf classes runs/busi3_f0 runs/busi3_f1 runs/busi3_f2 --to reports/busi3
  bus-hf classes --again reports/busi3                   the figures once more, from the stored logits"""
_NOTES = """\
The runs are those of train_accelerate.py with --label_set busi3 or histology, each with another --fold of the same
split. The folder gets the joined logits, report.json, a page (README.md) and the confusion matrix."""

_SAME = ("label_set", "architecture", "folds")


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "classes", "measure runs of several classes", _EXAMPLES, _NOTES)
    command.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="output folder of train_accelerate.py")
    command.add_argument("--to", type=Path, metavar="FOLDER", help="report folder to write")
    command.add_argument("--again", type=Path, metavar="FOLDER", help="report folder whose figures to write again")
    command.add_argument("--json", action="store_true", help="print every figure as JSON")
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Join the runs' logits where runs are given, then measure."""
    if bool(given.runs) == bool(given.again) or bool(given.runs) != bool(given.to):
        raise BusError("classes takes either RUN... with --to, or --again", remedy="see bus-hf classes --help")
    if given.runs:
        _join(given.runs, given.to)
    found, text = describe(given.to or given.again)
    print(json.dumps(found, indent=1) if given.json else text)
    return 0


def describe(folder: Path) -> tuple[dict[str, Any], str]:
    """Write report, page and picture of a report folder from its stored logits; returns the first two."""
    import pandas as pd

    from bus_hf.evaluation import classes
    from bus_hf.labels import label_set
    from bus_hf.views import VIEW_WEIGHTS

    try:
        frame = pd.read_parquet(folder / "out_of_fold.parquet")
        records = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BusError(
            "there is no report here", where=folder, remedy="give a folder that bus-hf classes wrote"
        ) from None
    found = classes.report(frame, label_set(records[0]["label_set"]).classes, VIEW_WEIGHTS)
    text = classes.markdown(found, records[0]["label_set"], records)
    (folder / "report.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(text, encoding="utf-8")
    classes.draw_confusion(folder / "confusion_matrix.png", found)
    return found, text


def _join(runs: list[Path], folder: Path) -> None:
    import pandas as pd

    try:
        records = [json.loads((path / "run.json").read_text(encoding="utf-8")) for path in runs]
        frames = [pd.read_parquet(path / "out_of_fold.parquet") for path in runs]
    except (OSError, ValueError) as error:
        raise BusError(
            "a run is not finished", where=getattr(error, "filename", None) or "runs", remedy="let its training end"
        ) from None
    for key in _SAME:
        if len({record[key] for record in records}) > 1:
            raise BusError(f"the runs differ in {key}", where=", ".join(map(str, runs)), remedy="give runs of one kind")
    if records[0]["label_set"] == "malignancy":
        raise BusError("these runs tell apart two classes", where=str(runs[0]), remedy="use bus-hf assemble for them")
    frame = pd.concat(frames, ignore_index=True)
    homes = frame.drop_duplicates(["group", "fold"])
    if len({record["fold"] for record in records}) < len(records) or homes["group"].duplicated().any():
        raise BusError(
            "two runs held out the same group, so its images would count twice",
            where=", ".join(map(str, runs)),
            remedy="give runs of different folds of one split (same data and split_seed)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / "out_of_fold.parquet", index=False)
    kept = [
        record | {"history": json.loads((path / "history.json").read_text())}
        for path, record in zip(runs, records, strict=True)
    ]
    (folder / "training.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"written: {folder}", file=sys.stderr)
