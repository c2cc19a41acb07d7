"""Tables of images: Parquet files and data sets on the Hub, given the columns that every reader here expects."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from bus_hf import labels
from bus_hf.data.embedded import require_bytes
from bus_hf.data.names import PATHOLOGIES
from bus_hf.errors import BusError

logger = logging.getLogger(__name__)

# What tables call the two classes by number.
NUMBERS = {"0": "benign", "1": "malignant"}


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


def pathologies_of(
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
    known = [name for name in ("pathology", "label") if name in columns]
    # An empty column says nothing where another one does.
    column = next(
        (name for name in known if any(value not in (None, -1) for value in columns[name])), known[0] if known else None
    )
    there = ", ".join(f"{name} ({_kind(feature)})" for name, feature in table.items())
    remedy = f"give a column pathology or label with the classes {', '.join(PATHOLOGIES)}"
    if column is None:
        raise BusError(f"the table says no class; its columns are {there}", where=origin, remedy=remedy)
    feature = table[column]
    texts = [_text(value, feature) for value in columns[column]]
    notes = []
    if set(texts) <= set(NUMBERS):
        texts = [NUMBERS[text] for text in texts]
        notes = [f"{origin}: the column {column} holds numbers without names; 0 is read as benign, 1 as malignant."]
    odd = sorted(set(texts) - set(PATHOLOGIES))
    if odd:
        shown = ", ".join(odd[:5]) + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")
        raise BusError(
            f"the table has rows of the class {shown} in its column {column}; its columns are {there}",
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
    found: list[str | None] = []
    for source, pathology, histology in zip(sources, pathologies, histologies, strict=True):
        if label_set == "malignancy":
            found.append("malignant" if pathology == "malignant" else "benign")
        elif label_set == "busi3":
            # BUS-BRA has no normal breasts, so its rows would teach the source instead of the class.
            found.append(None if source.startswith("busbra") else pathology)
        elif histology is None:
            found.append(None)
        else:
            try:
                found.append(labels.histology_class(histology, pathology))
            except KeyError:
                unknown.add(histology)
                found.append(None)
    if unknown:
        raise BusError(
            f"the histology set does not know {', '.join(sorted(unknown))}",
            where="column histology",
            remedy="correct the entries or add them to bus_hf/labels.py",
        )
    lost = Counter(source for source, label in zip(sources, found, strict=True) if label is None)
    if sum(lost.values()) == len(found):
        raise BusError(
            f"no image has a class of the label set {label_set} ({', '.join(classes)})",
            where=", ".join(sorted(lost)) or None,
            remedy="choose another label set or other data",
        )
    notes = [
        f"{source}: {count} images have no class in the label set {label_set}; they are left out."
        for source, count in sorted(lost.items())
    ]
    return found, notes


def check_cache() -> None:
    """BusError where the folder in which `datasets` keeps what it has read cannot be written."""
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise BusError(
            f"the cache of data sets cannot be written ({error.strerror})",
            where=folder,
            remedy="set HF_HOME, or HF_DATASETS_CACHE, to a folder that can be written and has room",
        ) from None


def is_parquet(path: Path) -> bool:
    """Whether this is a Parquet file, or a folder that holds some."""
    if path.is_dir():
        return any(path.glob("*.parquet")) or any(path.glob("*/*.parquet"))
    return path.is_file() and path.suffix == ".parquet"


def from_tables(root: str | Path, path: Path, label_set: str) -> datasets.DatasetDict:
    """Read a Parquet file or folder (`path`) or a Hub id (`root`); BusError where that cannot be done."""
    here = path.exists()
    if not here and (isinstance(root, Path) or str(root).count("/") > 1 or str(root).startswith((".", "/", "~"))):
        raise BusError("there is no such folder", where=root, remedy="check the path")
    try:
        if path.is_file():
            found = datasets.load_dataset("parquet", data_files=str(path))
        else:
            found = datasets.load_dataset(str(path) if here else str(root))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if here:
            raise BusError("the Parquet files can't be read", where=root, remedy="write them anew") from error
        raise BusError(
            "it is neither a folder here nor a data set that can be reached on the Hub",
            where=root,
            remedy="check the name, the network and your access",
        ) from error
    for part in found.values():
        require_bytes(part, str(root))
    return datasets.DatasetDict({split: _adopt(part, str(root), label_set) for split, part in found.items()})


def _adopt(part: datasets.Dataset, origin: str, label_set: str) -> datasets.Dataset:
    """Give a table the columns of `features`: labels are read anew from `pathology`, or from the names of `label`."""
    wanted = features(label_set)
    if part.features == wanted:
        return part
    if not isinstance(part.features.get("image"), datasets.Image):
        raise BusError(
            f"the table has no image column; its columns are {', '.join(part.features)}",
            where=origin,
            remedy="write it with to_parquet or push_to_hub",
        )
    count = len(part)
    known = {
        column: part[column][:] for column in wanted if column in part.features and column not in ("image", "mask")
    }
    known["pathology"], notes = pathologies_of(part.features, known, origin)
    source = origin.rstrip("/").rpartition("/")[2].lower()
    known.setdefault("source", [source] * count)
    known.setdefault("name", [f"{source}/{part.split}-{row}" for row in range(count)])
    known.setdefault("group", known["name"])
    names, lost = assign_labels(known["source"], known["pathology"], known.get("histology", [None] * count), label_set)
    for note in [*notes, *lost]:
        logger.warning(note)
    known["label"] = [None if name is None else wanted["label"].str2int(name) for name in names]
    table = part.select_columns([column for column in ("image", "mask") if column in part.features])
    for column, feature in wanted.items():
        if column not in table.features:
            table = table.add_column(column, known.get(column, [None] * count), feature=feature)
    kept = [row for row, name in enumerate(names) if name is not None]
    return table.select_columns(list(wanted)).select(kept)
