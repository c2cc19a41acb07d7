"""From roots to grouped folds: load, join near-duplicates, leave conflicts out, split."""

from __future__ import annotations

from collections import Counter
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


@dataclass(frozen=True)
class Split:
    """The cases of a run with the fold of each; `left_out` counts those in groups whose labels conflict.

    `train_sources` are the only ones trained on where it names any; every image of the others is then held out.
    """

    cases: Sequence[Case]
    folds: np.ndarray
    left_out: int
    near_duplicate_pairs: int
    train_sources: tuple[str, ...] = ()

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


def _read(config: TrainConfig) -> list[Case]:
    away = [root for root in config.data if config.streaming and not Path(root).expanduser().exists()]
    here = [root for root in config.data if root not in away]
    where = " ".join(here)
    found = cases(to_train_on(load(*here, label_set=config.label_set), where)) if here or not away else []
    found += [case for root in away for case in stream(root, config.label_set)]
    check_once(case.name for case in found)
    return found


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
        BusError: nothing to read, or too few groups of a class for the folds.
    """
    if not config.data:
        raise BusError("no data is named", where="training config", remedy="give --data FOLDER (several may follow)")
    everything = _read(config)
    pairs = near_duplicates([case.image for case in everything]) if config.near_duplicates else []
    groups = join_groups([case.group for case in everything], pairs)
    conflicts = conflicting(groups, [case.label for case in everything])
    kept = [
        replace(case, group=group) for case, group in zip(everything, groups, strict=True) if group not in conflicts
    ]
    classes = Counter(case.label for case in kept)
    for label in range(max(classes, default=0) + 1):
        count = len({case.group for case in kept if case.label == label})
        if count < config.folds:
            raise BusError(
                f"class {label} has {count} groups, fewer than the {config.folds} folds",
                where=" ".join(config.data),
                remedy="give more images or fewer folds",
            )
    folds = _deal(kept, config)
    assert_disjoint(folds, [case.group for case in kept])
    lacking = set(classes) - {case.label for case, fold in zip(kept, folds, strict=True) if fold == config.fold}
    if lacking and config.folds_from:
        raise BusError(
            f"fold {config.fold} holds no image of class {min(lacking)} of this data",
            where=config.folds_from,
            remedy="deal the folds anew with --folds_from ''",
        )
    unknown = set(config.train_sources) - {case.source for case in kept}
    if unknown:
        raise BusError(
            f"the data has no source '{min(unknown)}' to train on",
            where=" ".join(config.data),
            remedy=f"choose from {', '.join(sorted({case.source for case in kept}))}",
        )
    stay = ~np.isin(folds, [int(fold) for fold in config.set_apart])
    left_out = len(everything) - len(kept)
    return Split(
        [case for case, in_use in zip(kept, stay, strict=True) if in_use],
        folds[stay],
        left_out,
        len(pairs),
        config.train_sources,
    )
