"""A data set on the Hub read row by row, without a copy of it on this disk."""

from __future__ import annotations

from typing import Any

import datasets

from bus_hf import labels
from bus_hf.data.dataset import Case, assign_labels, case, features
from bus_hf.errors import BusError


def stream(repo_id: str, label_set: str = "malignancy") -> list[Case]:
    """Decode every training row as it arrives; rows that the label set has no class for are left out.

    Args:
        repo_id: `owner/name` of a data set with the columns of `dataset.features`, as `bus-hf push-dataset` writes it.
        label_set: malignancy, busi3 or histology; labels are read anew from the columns pathology and histology.

    Raises:
        BusError: it cannot be reached, or lacks a column.
    """
    from tqdm import tqdm

    raw = datasets.Image(decode=False)
    try:
        rows = datasets.load_dataset(repo_id, split="train", streaming=True)
        lacking = sorted(set(features(label_set)) - set(rows.features or {}))
        if lacking:
            raise BusError(
                f"the data set has no column {', '.join(lacking)}",
                where=repo_id,
                remedy="write it with bus-hf push-dataset, or read it without streaming",
            )
        plain = rows.cast_column("image", raw).cast_column("mask", raw)
        found: list[dict[str, Any]] = list(tqdm(plain, desc="streaming", unit=" images", disable=None))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise BusError(
            "this data set cannot be reached on the Hub",
            where=repo_id,
            remedy="check the name, the network and your access",
        ) from error
    sources, pathologies, histologies = ([row[key] for row in found] for key in ("source", "pathology", "histology"))
    names, _ = assign_labels(sources, pathologies, histologies, label_set)
    numbers = {name: number for number, name in enumerate(labels.label_set(label_set).classes)}
    return [case(row | {"label": numbers[name]}) for row, name in zip(found, names, strict=True) if name is not None]
