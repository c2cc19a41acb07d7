"""Columns of every data set here, and how a table's class and the label of a label set are read from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import datasets

from bus_hf import labels
from bus_hf.data.formats.records import shortened
from bus_hf.data.names import PATHOLOGIES
from bus_hf.errors import BusError

# The two classes by the number that tables give them.
NUMBERS = {"0": "benign", "1": "malignant"}
# Sources that a label set excludes. BUS-BRA has no normal breasts: its rows would show a model the source instead of
# the class. BrEaST's diagnoses are of other words than the set's, and several to a lesion.
_EXCLUDED = {"busi3": ("busbra",), "histology": ("brest",)}


def features(label_set: str) -> datasets.Features:
    """Columns of every dataset that `load` returns."""
    text = datasets.Value("string")
    return datasets.Features(
        {
            "image": datasets.Image(),
            "mask": datasets.Image(),
            "label": datasets.ClassLabel(names=list(labels.label_set(label_set).classes)),
            "group": text,
            "source": text,
            "name": text,
            "patient": text,
            "birads": text,
            "histology": text,
            "device": text,
            "pathology": text,
            "fold": datasets.Value("int32"),
        }
    )


def pathology_column(
    table: datasets.Features, columns: Mapping[str, Sequence[Any]], origin: str
) -> tuple[list[str], list[str]]:
    """Class of each row of a table, by its column pathology, else by label; and sentences on how it was read.

    Args:
        table: all columns that the table has.
        columns: values of those of the two that it has.
        origin: what errors call the table.

    Raises:
        BusError: neither column is there, or one holds other classes; it names the columns that are there.
    """
    candidates = [name for name in ("pathology", "label") if name in columns]
    # An empty column says nothing where another one does.
    filled = [name for name in candidates if any(value not in (None, -1) for value in columns[name])]
    column = next(iter(filled or candidates), None)
    present = ", ".join(f"{name} ({_kind(feature)})" for name, feature in table.items())
    remedy = f"give a column pathology or label with the classes {', '.join(PATHOLOGIES)}"
    if column is None:
        raise BusError(f"the table says no class; its columns are {present}", where=origin, remedy=remedy)
    feature = table[column]
    texts = [_text(value, feature) for value in columns[column]]
    notes = []
    if set(texts) <= set(NUMBERS):
        texts = [NUMBERS[text] for text in texts]
        notes = [f"{origin}: the column {column} holds numbers without names; 0 is read as benign, 1 as malignant."]
    unknown = sorted(set(texts) - set(PATHOLOGIES))
    if unknown:
        shown = shortened(unknown, 5)
        raise BusError(
            f"the table has rows of the class {shown} in its column {column}; its columns are {present}",
            where=origin,
            remedy=remedy,
        )
    return texts, notes


def _text(value: object, feature: object) -> str:
    """A class as lower-case text: by its name where the column has names, whole numbers without a point."""
    if value is None or (isinstance(feature, datasets.ClassLabel) and int(str(value)) < 0):
        return "None"
    if isinstance(feature, datasets.ClassLabel):
        return feature.names[int(str(value))].strip().lower()
    if isinstance(value, bool | int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    return str(value).strip().lower()


def _kind(feature: object) -> str:
    if isinstance(feature, datasets.ClassLabel):
        return f"classes {'/'.join(feature.names[:5])}"
    return str(getattr(feature, "dtype", None) or type(feature).__name__.lower())


def assign_labels(
    sources: Sequence[str], pathologies: Sequence[str], histologies: Sequence[str | None], label_set: str
) -> tuple[list[str | None], list[str]]:
    """Class of each row in a label set, None for rows it has no class for, and a sentence for each such kind of row.

    Raises:
        BusError: unknown histologies (all are listed), or no row has a class.
    """
    classes = labels.label_set(label_set).classes
    unknown: set[str] = set()
    assigned: list[str | None] = []
    for source, pathology, histology in zip(sources, pathologies, histologies, strict=True):
        if source.startswith(_EXCLUDED.get(label_set, ())):
            assigned.append(None)
        elif label_set == "malignancy":
            assigned.append("malignant" if pathology == "malignant" else "benign")
        elif label_set == "busi3":
            assigned.append(pathology)
        elif histology is None:
            assigned.append(None)
        else:
            try:
                assigned.append(labels.histology_class(histology, pathology))
            except KeyError:
                unknown.add(histology)
                assigned.append(None)
    if unknown:
        raise BusError(
            f"the histology set does not know {', '.join(sorted(unknown))}",
            where="column histology",
            remedy="correct the entries or add them to bus_hf/labels.py",
        )
    excluded = Counter(source for source, label in zip(sources, assigned, strict=True) if label is None)
    if sum(excluded.values()) == len(assigned):
        raise BusError(
            f"no image has a class of the label set {label_set} ({', '.join(classes)})",
            where=", ".join(sorted(excluded)) or None,
            remedy="choose another label set or other data",
        )
    notes = [
        f"{source}: {count} images have no class in the label set {label_set}; they are excluded."
        for source, count in sorted(excluded.items())
    ]
    return assigned, notes
