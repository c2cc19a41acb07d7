"""A data set on the Hub read row by row, without a copy of it on this disk."""

from __future__ import annotations

import logging
from typing import Any

import datasets

from bus_hf import labels
from bus_hf.data.dataset import Case, assign_labels, case, check_pathologies, features
from bus_hf.errors import BusError

logger = logging.getLogger(__name__)


def stream(repo_id: str, label_set: str = "malignancy") -> list[Case]:
    """Decode every training row as it arrives; rows that the label set has no class for are left out and said.

    Args:
        repo_id: `owner/name` of a data set with the columns of `dataset.features`, as `bus-hf push-dataset` writes it.
        label_set: malignancy, busi3 or histology; labels are read anew from the columns pathology and histology.

    Raises:
        BusError: it cannot be reached, lacks a column, or has rows of another class.
    """
    rows = _rows(repo_id, label_set)
    sources, pathologies, histologies = ([row[key] for row in rows] for key in ("source", "pathology", "histology"))
    check_pathologies(pathologies, repo_id)
    names, notes = assign_labels(sources, pathologies, histologies, label_set)
    for note in notes:
        logger.warning(note)
    numbers = {name: number for number, name in enumerate(labels.label_set(label_set).classes)}
    return [case(row | {"label": numbers[name]}) for row, name in zip(rows, names, strict=True) if name is not None]


def _rows(repo_id: str, label_set: str) -> list[dict[str, Any]]:
    from tqdm import tqdm

    raw = datasets.Image(decode=False)
    try:
        found = datasets.load_dataset(repo_id, split="train", streaming=True)
        lacking = sorted(set(features(label_set)) - set(found.features or {}))
        if not lacking:
            plain = found.cast_column("image", raw).cast_column("mask", raw)
            return list(tqdm(plain, desc="streaming", unit=" images", disable=None))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BusError(
            "this data set cannot be reached on the Hub",
            where=repo_id,
            remedy="check the name, the network and your access",
        ) from error
    raise BusError(
        f"the data set has no column {', '.join(lacking)}",
        where=repo_id,
        remedy="write it with bus-hf push-dataset, or read it without streaming",
    )
