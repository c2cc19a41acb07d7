"""From data folders to grouped folds: load, join near-duplicates, exclude conflicts, split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """The cases of a run with the int (N,) fold of each; `excluded` counts those in groups whose labels conflict.

    `train_sources` are the only ones trained on where it names any; every image of the others is then held out. `notes`
    are sentences on what is not used.
    """

    cases: Sequence[Case]
    folds: np.ndarray
    excluded: int
    near_duplicate_pairs: int
    train_sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def training(self, fold: int) -> list[Case]:
        """Cases outside `fold`, of the sources to train on."""
        return [case for case, part in self._pairs() if part != fold and self._trainable(case)]

    def held_out(self, fold: int) -> list[Case]:
        """Cases of `fold`, and all of the sources that are not trained on."""
        return [case for case, part in self._pairs() if part == fold or not self._trainable(case)]

    def validation(self, fold: int) -> list[Case]:
        """Cases of `fold`, on which every epoch is measured."""
        return [case for case, part in self._pairs() if part == fold]

    def _pairs(self) -> Iterator[tuple[Case, int]]:
        return zip(self.cases, self.folds.tolist(), strict=True)

    def _trainable(self, case: Case) -> bool:
        return not self.train_sources or case.source in self.train_sources


def read_cases(config: TrainConfig) -> tuple[list[Case], tuple[str, ...]]:
    """Cases of the split train, and a sentence on each other split, which is not used."""
    remote = [root for root in config.data if config.streaming and not Path(root).expanduser().exists()]
    local = [root for root in config.data if root not in remote]
    loaded: list[Case] = []
    notes: tuple[str, ...] = ()
    if local or not remote:
        parts = load(*local, label_set=config.label_set)
        loaded = cases(to_train_on(parts, " ".join(local)))
        notes = tuple(
            f"{len(rows)} images of the split {name} are neither trained on nor held out"
            for name, rows in parts.items()
            if name != "train"
        )
    loaded += [case for root in remote for case in stream(root, config.label_set)]
    check_once(case.name for case in loaded)
    return loaded, notes


def _assign_folds(kept: Sequence[Case], config: TrainConfig) -> np.ndarray:
    """Fold of each case: of `config.folds_from` where its group is listed, else assigned by class and source."""
    groups, strata = [case.group for case in kept], [f"{case.source} {case.label}" for case in kept]
    # Assigned for all, so that groups that the file lacks get folds too.
    folds = grouped_folds([case.label for case in kept], groups, strata, config.folds, config.split_seed)
    if not config.folds_from:
        return folds
    listed = kept_folds([case.name for case in kept], groups, read_folds(config.folds_from, config.folds))
    return np.where(listed < 0, folds, listed)


def split(config: TrainConfig) -> Split:
    """Read `config.data` and split it into folds that share no patient and no near-duplicate.

    Raises:
        BusError: nothing to read, too few groups of a class for the folds, or a part without a class.
    """
    if not config.data:
        raise BusError("no data is named", where="training config", remedy="give --data FOLDER (several may follow)")
    everything, notes = read_cases(config)
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
    folds = _assign_folds(kept, config)
    assert_disjoint(folds, [case.group for case in kept])
    used = ~np.isin(folds, [int(fold) for fold in config.set_apart])
    data = Split(
        [case for case, keep in zip(kept, used, strict=True) if keep],
        folds[used],
        len(everything) - len(kept),
        len(pairs),
        config.train_sources,
        notes,
    )
    _check_classes(data, config)
    return data


def _check_classes(data: Split, config: TrainConfig) -> None:
    """BusError where a class has no image to train on, or none in the fold that is held out."""
    names = label_set(config.label_set).classes
    refold = (
        "assign the folds anew with --folds_from ''" if config.folds_from else "take another --fold or --split_seed"
    )
    extend = "train on further sources or exclude fewer folds (train_sources, set_apart)"
    for what, part, remedy in (
        (f"fold {config.fold} holds no image", data.validation(config.fold), refold),
        ("there is no image to train on", data.training(config.fold), extend),
    ):
        lacking = [name for label, name in enumerate(names) if label not in {case.label for case in part}]
        if lacking:
            raise BusError(
                f"{what} of the class {' and '.join(lacking)}",
                where=config.folds_from or " ".join(config.data),
                remedy=remedy,
            )
