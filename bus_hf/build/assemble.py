"""From finished runs to an ensemble folder: their members, logits and records, and all that is fitted to them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bus_hf import models
from bus_hf.build import graphs, lesion_type
from bus_hf.build.describe import describe
from bus_hf.ensemble.records import RunRecord, read_run, write_members
from bus_hf.errors import BusError
from bus_hf.evaluation import stored_logits
from bus_hf.filenames import CHECKPOINT, CONFIG, LESION_HEAD, LESION_TYPE, LOGITS, WEIGHTS
from bus_hf.files import replace_folder, settle

_BOX = ["box_x", "box_y", "box_w", "box_h"]
_FINISH = "let train_accelerate.py go on to its end"


def assemble(
    runs: Sequence[Path],
    folder: Path,
    *,
    name: str = "bus-ensemble",
    version: str = "1.0.0",
    weights: Mapping[str, float] | None = None,
    lesion_type_runs: Sequence[Path] = (),
) -> Path:
    """Write the ensemble folder of finished runs that held out the same images.

    Args:
        runs: output folders of `train_accelerate.py`; the first one is the light member and owns the lesion map.
        folder: becomes the ensemble folder; members and metrics of an earlier one are replaced.
        name: of the ensemble.
        version: of the ensemble.
        weights: of each member, by its backbone's name; by how well each separates the classes where None.
        lesion_type_runs: runs of a lesion-type classifier, one a fold of one split; the network of the first one ships.

    Returns:
        `folder`, holding `ensemble.json`, a folder a member, `out_of_fold.parquet`, `training.json`, `report.json`,
        plots and cards.

    Raises:
        BusError: a run is not finished, or two runs held out other images or tell apart other classes.
    """
    for run in (*runs, *lesion_type_runs):
        settle(run)
    records = [read_run(run) for run in runs]
    members = [record.architecture for record in records]
    frame = pd.concat([stored_logits.read(run / LOGITS, _FINISH) for run in runs], ignore_index=True)
    _check(frame, records, [str(run) for run in runs])
    given = _summing_to_one(members, weights) if weights is not None else None
    for run in runs:
        for file in (WEIGHTS, LESION_HEAD):
            models.check_finite(run / CHECKPOINT / file)
    try:
        with replace_folder(folder, keep=True) as part:
            shutil.rmtree(part / LESION_TYPE, ignore_errors=True)
            if lesion_type_runs:
                lesion_type.ship(lesion_type_runs, part)
            for run, member in zip(runs, members, strict=True):
                _copy_member(run / CHECKPOINT, part / member)
                graphs.write(part / member, LESION_HEAD if member == members[0] else None)
            frame.to_parquet(part / LOGITS, index=False)
            write_members(dict(zip(members, records, strict=True)), part)
            describe(part, members, name, version, given)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="name another folder with --to"
        ) from None
    return folder


def _copy_member(checkpoint: Path, home: Path) -> None:
    """Put a run's member into its folder in the ensemble: configuration, weights and lesion head, and nothing else."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name in (CONFIG, WEIGHTS, LESION_HEAD):
        # Contents alone: safetensors writes files that only their owner reads.
        shutil.copyfile(checkpoint / name, home / name)


def _check(frame: pd.DataFrame, records: Sequence[RunRecord], runs: Sequence[str]) -> None:
    """Refuse runs whose logits are not out-of-fold together, or not those that the ensemble would read."""
    where, first = ", ".join(runs), records[0].architecture
    sets = frame.groupby("member")["name"].agg(frozenset)
    if len(sets) != len(runs):
        raise BusError("two runs are of the same backbone", where=where, remedy="give each backbone once")
    if sets.nunique() != 1:
        raise BusError(
            "the runs held out different images, so no metric of their ensemble is out-of-fold",
            where=where,
            remedy="train all of them on the same data with the same fold and split_seed",
        )
    # Where a box was looked for and not found it is NaN, which equals nothing.
    boxes = frame.drop_duplicates(["name", "member"]).set_index(["name", "member"])[_BOX].fillna(-1.0).unstack()
    for side in _BOX:
        apart = [member for member in sets.index if not np.allclose(boxes[side][member], boxes[side][first], atol=1e-3)]
        if apart:
            raise BusError(
                f"the lesion crops of {apart[0]} took other boxes than the light member's, which it will take in use",
                where=where,
                remedy=f"read it again in them: train_accelerate.py --reread RUN/checkpoint --boxes {runs[0]}/{LOGITS}",
            )
    if any(record.label_set != "malignancy" for record in records):
        raise BusError(
            "a run is not of the label set 'malignancy'", where=where, remedy="assemble runs of that label set"
        )


def _summing_to_one(members: Sequence[str], given: Mapping[str, float]) -> dict[str, float]:
    if set(given) != set(members) or min(given.values()) < 0 or sum(given.values()) <= 0:
        raise BusError(
            "the weights do not fit the members",
            remedy=f"give weights of 0 or more, not all 0, of {', '.join(members)}",
        )
    total = sum(given.values())
    return {member: given[member] / total for member in members}
