"""Folds that keep every group (patient, near-duplicate set) on one side."""

from __future__ import annotations

import csv
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bus_hf.errors import BusError


def grouped_folds(
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    strata: Sequence[str] | np.ndarray,
    k: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Assign rows to `k` folds: no group in two folds, every fold with about the same mix of strata.

    Args:
        labels: class of each row, (n,).
        groups: group of each row, (n,).
        strata: what to balance besides the class, (n,), such as the source of each row.
        k: number of folds.
        seed: equal seeds and rows give equal folds.

    Returns:
        int64 (n,), the fold of each row, from 0 to k - 1.

    Raises:
        BusError: there are fewer groups than folds, or too few images of every stratum.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    group_names, group_ids = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if k < 2:
        raise BusError(f"{k} folds leave nothing to validate on", remedy="ask for two folds or more")
    if len(group_names) < k:
        raise BusError(
            f"{len(group_names)} groups can't be assigned to {k} folds", remedy="ask for fewer folds or add images"
        )
    mixed = [f"{stratum}\0{label}" for stratum, label in zip(strata, labels, strict=True)]
    classes = np.unique(mixed, return_inverse=True)[1]
    if np.bincount(classes).max() < k:
        raise BusError(
            f"no class of a source has {k} images, one for each fold", remedy="ask for fewer folds or add images"
        )
    folds = np.full(len(classes), -1, dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A rare stratum can't be in every fold, which is no fault.
        warnings.filterwarnings("ignore", message="The least populated class")
        for fold, (_, rows) in enumerate(splitter.split(np.zeros(len(classes)), classes, group_ids)):
            folds[rows] = fold
    return folds


def read_folds(path: str | Path, k: int) -> dict[str, int]:
    """Folds that were assigned before: fold by name of the image, from a CSV file with the columns name and fold.

    Raises:
        BusError: it cannot be read, lacks a column, names an image twice, or has another number of folds than k.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = [(row["name"], int(row["fold"])) for row in csv.DictReader(file)]
    except OSError as error:
        raise BusError(
            f"the folds cannot be read ({error.strerror})",
            where=path,
            remedy="name the file that folds_from is to read",
        ) from None
    except (ValueError, KeyError, TypeError, csv.Error):
        raise BusError(
            "this is no list of folds", where=path, remedy="give a CSV file with the columns name and fold"
        ) from None
    folds = dict(rows)
    if len(folds) < len(rows) or set(folds.values()) != set(range(k)):
        raise BusError(
            f"an image stands in it twice, or its folds are not 0 to {k - 1}",
            where=path,
            remedy="set folds to their number, or assign them anew with --folds_from ''",
        )
    return folds


def kept_folds(names: Sequence[str], groups: Sequence[str], known: Mapping[str, int]) -> np.ndarray:
    """Folds of groups that have been assigned before, each whole group in one.

    Groups may have grown since, because near-duplicates are found that were not; a group goes where most of its images
    were, on a tie into the lower fold.

    Args:
        names: name of each row, (n,).
        groups: group of each row, (n,).
        known: fold by name, of `read_folds`.

    Returns:
        int64 (n,); -1 where no image of the group is known.
    """
    homes: dict[str, list[int]] = defaultdict(list)
    for name, group in zip(names, groups, strict=True):
        if name in known:
            homes[group].append(known[name])
    home = {group: Counter(sorted(folds)).most_common(1)[0][0] for group, folds in homes.items()}
    return np.array([home.get(group, -1) for group in groups], dtype=np.int64)


def assert_disjoint(folds: Sequence[int] | np.ndarray, groups: Sequence[str] | np.ndarray) -> None:
    """Check that no group lies in two folds.

    Raises:
        BusError: one does; it is named, with its folds.
    """
    home: dict[str, int] = {}
    for fold, group in zip(np.asarray(folds).tolist(), groups, strict=True):
        if home.setdefault(str(group), fold) != fold:
            raise BusError(
                f"group {group} lies in folds {home[str(group)]} and {fold}",
                remedy="assign the folds by groups (grouped_folds)",
            )
