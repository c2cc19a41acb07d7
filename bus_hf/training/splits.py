"""From data folders to grouped folds: load, join near-duplicates, exclude conflicts, split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bus_hf.config import EACH_SOURCE, FOLD, TrainConfig
from bus_hf.data.dataset import Case, cases, check_once, load, to_train_on
from bus_hf.data.duplicates import conflicting, join_groups, near_duplicates
from bus_hf.data.splits import assert_disjoint, grouped_folds, kept_folds, read_folds
from bus_hf.data.streaming import stream
from bus_hf.errors import BusError
from bus_hf.labels import label_set


@dataclass(frozen=True)
class Split:
    """The cases of a run with the int (N,) fold of each; `excluded` counts those in groups whose labels conflict.

    `hold_out` is that of the config. `train_sources` are the only ones trained on where it names any; every image of
    the others is then held out. `notes` are sentences on what is not used.
    """

    cases: Sequence[Case]
    folds: np.ndarray
    excluded: int
    near_duplicate_pairs: int
    hold_out: str = FOLD
    train_sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def training(self, fold: int) -> list[Case]:
        """Cases to train on: outside `fold`, or of the sources that are not held out."""
        if self.hold_out != FOLD:
            # A near-duplicate may stand in another hospital's set.
            held_out = {case.group for case in self.validation(fold)}
            return [case for case in self.cases if case.group not in held_out]
        return [case for case, part in self._pairs() if part != fold and self._trainable(case)]

    def held_out(self, fold: int) -> list[Case]:
        """Cases whose logits are kept: those of `validation`, and all of the sources that are not trained on.

        Where each source is held out in turn, these are all.
        """
        if self.hold_out == EACH_SOURCE:
            return list(self.cases)
        if self.hold_out != FOLD:
            return self.validation(fold)
        return [case for case, part in self._pairs() if part == fold or not self._trainable(case)]

    def validation(self, fold: int) -> list[Case]:
        """Cases on which every epoch is measured: those of `fold`, or of the source that is held out."""
        if self.hold_out != FOLD:
            return [case for case in self.cases if case.source == self.hold_out]
        return [case for case, part in self._pairs() if part == fold]

    def _pairs(self) -> Iterator[tuple[Case, int]]:
        return zip(self.cases, self.folds.tolist(), strict=True)

    def _trainable(self, case: Case) -> bool:
        return not self.train_sources or case.source in self.train_sources


@dataclass(frozen=True)
class Images:
    """Labelled images in memory, near-duplicates joined into groups and groups of conflicting labels excluded.

    `excluded` and `near_duplicate_pairs` count them; `notes` are sentences on what is not used.
    """

    cases: Sequence[Case]
    excluded: int
    near_duplicate_pairs: int
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> list[str]:
        """Names of the sources (hospitals), sorted."""
        return sorted({case.source for case in self.cases})


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


def read_images(config: TrainConfig) -> Images:
    """Read `config.data`, join near-duplicates into groups and exclude groups whose labels conflict.

    Raises:
        BusError: nothing to read.
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
    return Images(kept, len(everything) - len(kept), len(pairs), notes)


def split(config: TrainConfig, images: Images | None = None) -> Split:
    """Split the images of a run so that no patient and no near-duplicate stands on both sides.

    Args:
        config: of the run.
        images: what `read_images` gave for it, where that was done before.

    Raises:
        BusError: nothing to read, too few groups of a class for the folds, or a part without a class.
    """
    images = images or read_images(config)
    kept = images.cases
    named = set(config.train_sources) | ({config.hold_out} - {FOLD, EACH_SOURCE})
    unknown = named - set(images.sources)
    if unknown:
        raise BusError(
            f"the data has no source '{min(unknown)}'",
            where=" ".join(config.data),
            remedy=f"choose from {', '.join(images.sources)} (hold_out may be '{FOLD}' or '{EACH_SOURCE}' too)",
        )
    folds = _folds(kept, config)
    used = ~np.isin(folds, [int(fold) for fold in config.set_apart])
    data = Split(
        [case for case, keep in zip(kept, used, strict=True) if keep],
        folds[used],
        images.excluded,
        images.near_duplicate_pairs,
        config.hold_out,
        config.train_sources,
        images.notes,
    )
    _check_classes(data, config)
    return data


def _folds(kept: Sequence[Case], config: TrainConfig) -> np.ndarray:
    """Fold of each case, int (N,); all 0 where no fold is held out."""
    if config.hold_out != FOLD:
        return np.zeros(len(kept), dtype=np.int64)
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
    return folds


def _check_classes(data: Split, config: TrainConfig) -> None:
    """BusError where a class has no image to train on, or none in the fold that is held out."""
    names = label_set(config.label_set).classes
    refold = (
        "assign the folds anew with --folds_from ''" if config.folds_from else "take another --fold or --split_seed"
    )
    extend = "train on further sources or exclude fewer folds (train_sources, set_apart)"
    held_out, what = data.validation(config.fold), f"fold {config.fold} holds no image"
    if config.hold_out != FOLD:
        refold, what = "hold out another source", f"the source {config.hold_out} holds no image"
    checks = [("there is no image to train on", data.training(config.fold), extend)]
    if config.hold_out != EACH_SOURCE:
        checks.insert(0, (what, held_out, refold))
    for what, part, remedy in checks:
        lacking = [name for label, name in enumerate(names) if label not in {case.label for case in part}]
        if lacking:
            raise BusError(
                f"{what} of the class {' and '.join(lacking)}",
                where=config.folds_from or " ".join(config.data),
                remedy=remedy,
            )
