"""From roots to grouped folds: load, join near-duplicates, leave conflicts out, split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bus_hf.config import TrainConfig
from bus_hf.data.dataset import Case, cases, check_once, load, to_train_on
from bus_hf.data.duplicates import conflicting, join_groups, near_duplicates
from bus_hf.data.splits import assert_disjoint, grouped_folds, kept_folds, read_folds
from bus_hf.data.streaming import stream
from bus_hf.errors import BusError
from bus_hf.labels import label_set


@dataclass(frozen=True)
class Split:
    """The cases of a run with the fold of each; `left_out` counts those in groups whose labels conflict.

    `train_sources` are the only ones trained on where it names any; every image of the others is then held out. `notes`
    are sentences on what is left aside.
    """

    cases: Sequence[Case]
    folds: np.ndarray
    left_out: int
    near_duplicate_pairs: int
    train_sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def training(self, fold: int) -> list[Case]:
        """Cases outside `fold`, of the sources to train on."""
        return [case for case, own in zip(self.cases, self.folds, strict=True) if own != fold and self._of_use(case)]

    def held_out(self, fold: int) -> list[Case]:
        """Cases of `fold`, and all of the sources that are not trained on."""
        return [case for case, own in zip(self.cases, self.folds, strict=True) if own == fold or not self._of_use(case)]

    def watched(self, fold: int) -> list[Case]:
        """Cases of `fold`, which are read after every epoch."""
        return [case for case, own in zip(self.cases, self.folds, strict=True) if own == fold]

    def _of_use(self, case: Case) -> bool:
        return not self.train_sources or case.source in self.train_sources


def _read(config: TrainConfig) -> tuple[list[Case], tuple[str, ...]]:
    """Cases of the train split, and a sentence on each other split, which is neither trained on nor read."""
    away = [root for root in config.data if config.streaming and not Path(root).expanduser().exists()]
    here = [root for root in config.data if root not in away]
    found: list[Case] = []
    notes: tuple[str, ...] = ()
    if here or not away:
        parts = load(*here, label_set=config.label_set)
        found = cases(to_train_on(parts, " ".join(here)))
        notes = tuple(
            f"{len(rows)} images of the split {name} are neither trained on nor held out"
            for name, rows in parts.items()
            if name != "train"
        )
    found += [case for root in away for case in stream(root, config.label_set)]
    check_once(case.name for case in found)
    return found, notes


def _deal(kept: Sequence[Case], config: TrainConfig) -> np.ndarray:
    """Fold of each case: of `config.folds_from` where its group stands there, else dealt by class and source."""
    groups, strata = [case.group for case in kept], [f"{case.source} {case.label}" for case in kept]
    # All are dealt, so that a few groups that the file lacks find folds too.
    folds = grouped_folds([case.label for case in kept], groups, strata, config.folds, config.split_seed)
    if not config.folds_from:
        return folds
    before = kept_folds([case.name for case in kept], groups, read_folds(config.folds_from, config.folds))
    return np.where(before < 0, folds, before)


def split(config: TrainConfig) -> Split:
    """Read `config.data` and split it into folds that share no patient and no near-duplicate.

    Raises:
        BusError: nothing to read, too few groups of a class for the folds, or a part without a class.
    """
    if not config.data:
        raise BusError("no data is named", where="training config", remedy="give --data FOLDER (several may follow)")
    everything, notes = _read(config)
    pairs = near_duplicates([case.image for case in everything]) if config.near_duplicates else []
    groups = join_groups([case.group for case in everything], pairs)
    conflicts = conflicting(groups, [case.label for case in everything])
    kept = [
        replace(case, group=group) for case, group in zip(everything, groups, strict=True) if group not in conflicts
    ]
    unknown = set(config.train_sources) - {case.source for case in kept}
    if unknown:
        raise BusError(
            f"the data has no source '{min(unknown)}' to train on",
            where=" ".join(config.data),
            remedy=f"choose from {', '.join(sorted({case.source for case in kept}))}",
        )
    for label, name in enumerate(label_set(config.label_set).classes):
        count = len({case.group for case in kept if case.label == label})
        if count < config.folds:
            raise BusError(
                f"the class {name} has {count} groups, fewer than the {config.folds} folds",
                where=" ".join(config.data),
                remedy="give more images of it, fewer folds or another label_set",
            )
    folds = _deal(kept, config)
    assert_disjoint(folds, [case.group for case in kept])
    stay = ~np.isin(folds, [int(fold) for fold in config.set_apart])
    left_out = len(everything) - len(kept)
    found = Split(
        [case for case, in_use in zip(kept, stay, strict=True) if in_use],
        folds[stay],
        left_out,
        len(pairs),
        config.train_sources,
        notes,
    )
    _check_classes(found, config)
    return found


def _check_classes(data: Split, config: TrainConfig) -> None:
    """BusError where a class has no image to train on, or none in the fold that is held out."""
    names = label_set(config.label_set).classes
    dealt = "deal the folds anew with --folds_from ''" if config.folds_from else "take another --fold or --split_seed"
    other = "train on further sources or exclude fewer folds (train_sources, set_apart)"
    for what, part, remedy in (
        (f"fold {config.fold} holds no image", data.watched(config.fold), dealt),
        ("there is no image to train on", data.training(config.fold), other),
    ):
        lacking = [name for label, name in enumerate(names) if label not in {case.label for case in part}]
        if lacking:
            raise BusError(
                f"{what} of the class {' and '.join(lacking)}",
                where=config.folds_from or " ".join(config.data),
                remedy=remedy,
            )
