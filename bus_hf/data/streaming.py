"""A data set on the Hub read row by row, without a copy of it on this disk."""

from __future__ import annotations

import logging
from typing import Any

import datasets

from bus_hf import labels
from bus_hf.data.columns import assign_labels, features, pathology_column
from bus_hf.data.dataset import Case, case
from bus_hf.errors import BusError

logger = logging.getLogger(__name__)


def stream(repo_id: str, label_set: str = "malignancy") -> list[Case]:
    """Decode every training row as it arrives; rows that the label set has no class for are excluded with a note.

    Args:
        repo_id: `owner/name` of a data set with the columns of `columns.features`, as `bus-hf push dataset` writes it.
        label_set: malignancy, busi3 or histology; labels are read anew from the columns pathology and histology.

    Raises:
        BusError: it cannot be reached, lacks a column, or has rows of another class.
    """
    table, rows = _rows(repo_id, label_set)
    columns = {key: [row[key] for row in rows] for key in ("source", "pathology", "label", "histology")}
    pathologies, notes = pathology_column(table, columns, repo_id)
    classes, excluded = assign_labels(columns["source"], pathologies, columns["histology"], label_set)
    for note in [*notes, *excluded]:
        logger.warning(note)
    numbers = {name: number for number, name in enumerate(labels.label_set(label_set).classes)}
    return [
        case(row | {"label": numbers[name], "pathology": pathology})
        for row, name, pathology in zip(rows, classes, pathologies, strict=True)
        if name is not None
    ]


def _rows(repo_id: str, label_set: str) -> tuple[datasets.Features, list[dict[str, Any]]]:
    from tqdm import tqdm

    raw = datasets.Image(decode=False)
    try:
        splits = datasets.load_dataset(repo_id, streaming=True)
        train = splits.get("train")
        present = (train.features if train is not None else None) or datasets.Features()
        lacking = sorted(set(features(label_set)) - set(present))
        if train is not None and not lacking:
            plain = train.cast_column("image", raw).cast_column("mask", raw)
            return present, list(tqdm(plain, desc="streaming", unit=" images", disable=None))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BusError(
            "this data set cannot be reached on the Hub",
            where=repo_id,
            remedy="check the name, the network and your access",
        ) from error
    if train is None:
        raise BusError(
            f"there are only images of the split {' and '.join(splits)}, and none to train on",
            where=repo_id,
            remedy="give a data set with a split train",
        )
    raise BusError(
        f"the data set has no column {', '.join(lacking)}; its columns are {', '.join(present)}",
        where=repo_id,
        remedy="write it with bus-hf push dataset, or read it without streaming",
    )
