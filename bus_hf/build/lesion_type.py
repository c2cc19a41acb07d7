"""The lesion-type classifier: a network of several classes that an ensemble offers beside its own answer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bus_hf import models
from bus_hf.build import fold_report, graphs
from bus_hf.build.manifest import member_entry
from bus_hf.ensemble.manifest import LesionType
from bus_hf.errors import BusError
from bus_hf.evaluation.multiclass import better_than_chance
from bus_hf.filenames import CHECKPOINT, CONFIG, LESION_TYPE, WEIGHTS
from bus_hf.labels import label_set
from bus_hf.reporting import multiclass
from bus_hf.views import VIEW_WEIGHTS


def describe(home: Path, views: Mapping[str, float] = VIEW_WEIGHTS) -> dict[str, Any]:
    """Write report, card and picture of the classifier in `home`, its views weighed by `views`; returns the report."""
    metrics, page, records = fold_report.describe(home, views)
    (home / "README.md").write_text(multiclass.card(page, records), encoding="utf-8")
    return metrics


def ship(runs: Sequence[Path], folder: Path) -> None:
    """Put the classifier of the first run into an ensemble folder, with the joined logits of all runs.

    Its temperature is then fitted on the fold that this very network held out (`manifest_entry`). Nothing is written
    where it is refused.

    Raises:
        BusError: as for `fold_report.join`; two classes; or a class is not told from the others better than by chance.
    """
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / LESION_TYPE
        fold_report.join(runs, home)
        metrics = describe(home)
        if "classes" not in metrics:
            raise BusError("these runs tell apart two classes", where=str(runs[0]), remedy="assemble them as members")
        if not better_than_chance(metrics):
            raise BusError(
                "not every class is told from the others better than by chance, so this is no lesion-type classifier",
                where=str(runs[0]),
                remedy="train it for longer, or ship the ensemble without one",
            )
        models.check_finite(runs[0] / CHECKPOINT / WEIGHTS)
        # The box is the ensemble's: a lesion head of its own has no use there.
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(runs[0] / CHECKPOINT / name, home / name)
        graphs.write(home)
        shutil.rmtree(folder / LESION_TYPE, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(home, folder / LESION_TYPE)


def manifest_entry(folder: Path, views: Mapping[str, float] = VIEW_WEIGHTS) -> LesionType | None:
    """The manifest's entry for the classifier that `ship` put into an ensemble folder; None where there is none.

    Args:
        folder: ensemble folder.
        views: weight of each view in the ensemble, which the classifier takes too.
    """
    from bus_hf.evaluation.calibration import fit_temperature
    from bus_hf.evaluation.combine import combine

    home = folder / LESION_TYPE
    if not (home / WEIGHTS).is_file():
        return None
    frame, records = fold_report.stored(home)
    labels = label_set(records[0].label_set)
    images = combine(frame[frame["fold"] == records[0].fold], {str(frame["member"].iloc[0]): 1.0}, views)
    logits = images[[f"logit_{k}" for k in range(len(labels.classes))]].to_numpy()
    return LesionType(
        label_set=labels.name,
        labels=labels.classes,
        member=member_entry(folder, labels.name, LESION_TYPE, 1.0),
        temperature=round(fit_temperature(logits, images["label"].to_numpy()), 6),
    )
