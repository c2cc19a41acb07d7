"""One `datasets` builder for every folder layout, and `load`, which also reads Parquet and the Hub.

Rows carry the file as it was published, its united lesion mask, the label and what the source knows. Near-duplicates
are joined later (`duplicates`), on the decoded images that `cases` returns.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import datasets
import numpy as np

from bus_hf import labels
from bus_hf.data import columns, images, names, walk
from bus_hf.data.decoding import colour, containers, decode
from bus_hf.data.formats import FORMATS, detect, parquet, records
from bus_hf.errors import BusError

logger = logging.getLogger(__name__)

_COPIED = ("group", "source", "name", "patient", "birads", "histology", "device", "pathology", "fold")
# What decides on the rows; the cache is made anew where one of these changes.
_CODE = (
    __file__,
    *(str(module.__file__) for module in (images, decode, containers, colour, columns, names, walk, labels)),
    *sorted(str(path) for path in Path(detect.__file__).parent.glob("*.py")),
)


@dataclass(frozen=True)
class Case:
    """One decoded row: `image` uint8 (H, W), `mask` bool (H, W) or None where the lesion is not drawn."""

    name: str
    group: str
    source: str
    label: int
    image: np.ndarray
    mask: np.ndarray | None
    patient: str | None
    birads: str | None
    histology: str | None
    device: str | None
    pathology: str


@dataclass
class BusConfig(datasets.BuilderConfig):
    """What to read: `data_dir` (one folder) or `roots` (several), and the label set."""

    roots: tuple[str, ...] = ()
    label_set: str = "malignancy"

    def folders(self) -> list[tuple[Path, str]]:
        """Folders to read, each with its layout."""
        given = self.roots or ((self.data_dir,) if self.data_dir else ())
        if not given:
            raise BusError("no folder is given", where=f"config {self.name}", remedy="set data_dir or roots")
        layout = self.name if self.name in FORMATS else "auto"
        return [pair for root in given for pair in detect.find_roots(Path(root), layout)]

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: Any = None) -> str:
        """Name of the cache folder: changes with every file that is added, removed or written anew."""
        stamp = _fingerprint([root for root, _ in self.folders()], self.label_set)
        return super().create_config_id({**config_kwargs, "stamp": stamp}, custom_features)


class BusDataset(datasets.GeneratorBasedBuilder):
    """Configs: one for each layout of `FORMATS`, and `joined`, which finds the layout of each of several `roots`."""

    BUILDER_CONFIG_CLASS = BusConfig
    BUILDER_CONFIGS = [  # noqa: RUF012 (datasets reads it as a class attribute)
        BusConfig(name="busi", description="BUSI and folders laid out like it"),
        BusConfig(name="busbra", description="BUS-BRA with patients, histology and official folds"),
        BusConfig(name="brest", description="BrEaST with patients, BI-RADS and diagnoses"),
        BusConfig(name="joined", description="several folders as one data set"),
    ]
    VERSION = datasets.Version("1.0.0")

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=columns.features(self.config.label_set))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        listing = detect.list_roots(self.config.folders())
        classes, notes = columns.assign_labels(
            [record.source for record in listing.records],
            [record.pathology for record in listing.records],
            [record.histology for record in listing.records],
            self.config.label_set,
        )
        self._notes = [*listing.notes, *notes]
        chosen = [(record, name) for record, name in zip(listing.records, classes, strict=True) if name is not None]
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"rows": rows})
            for split in names.SPLITS
            if (rows := [(record, name) for record, name in chosen if record.split == split])
        ]

    def _generate_examples(self, rows: list[tuple[records.Record, str]]) -> Iterator[tuple[str, dict[str, Any]]]:
        readable, problem = 0, ""
        for record, label in rows:
            try:
                shape = images.read_image(record.image, trusted=True).shape
            except BusError as error:
                problem = error.what
                self._notes.append(f"{error} It is excluded.")
                continue
            readable += 1
            row = {column: getattr(record, column) for column in _COPIED}
            # The file itself and not its path: to_parquet would write the path, which means nothing elsewhere.
            row["image"] = {"bytes": record.image.read_bytes()}
            row["mask"] = self._united_mask(record, shape)
            row["label"] = label
            yield record.name, row
        if not readable:
            raise BusError(
                f"none of the {len(rows)} images can be read ({problem})",
                where=rows[0][0].image.parent,
                remedy="open one of them in an image viewer and save it again as PNG",
            )
        # The description is kept beside the cached rows, so that a later call says the same.
        self.info.description = "\n".join(self._notes)

    def _united_mask(self, record: records.Record, shape: tuple[int, int]) -> dict[str, bytes] | None:
        mask, notes = images.read_masks(record.masks, record.image, shape, lesion=record.pathology != "normal")
        self._notes += notes
        if mask is None:
            return None
        return {"bytes": cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()}


def load(*roots: str | Path, label_set: str = "malignancy", layout: str = "auto") -> datasets.DatasetDict:
    """Read folders, Parquet folders and Hub data sets as one.

    Args:
        roots: each a folder in a layout of `FORMATS` or one that holds such folders, a Parquet file or folder, or a Hub
            id ("name/data-set").
        label_set: malignancy (normal counts as benign), busi3 or histology; rows that a set has no class for are
            excluded with a note.
        layout: auto or a name in `FORMATS`; how folders are laid out.

    Returns:
        "train", "validation" and "test", those of which there are images; the columns are those of `columns.features`.

    Raises:
        BusError: a root is missing, holds nothing usable, or the label set has a class for none of the rows.
    """
    labels.label_set(label_set)
    if layout not in ("auto", *FORMATS):
        raise BusError(f"there is no layout '{layout}'", remedy=f"choose auto or one of {', '.join(FORMATS)}")
    if not roots:
        raise BusError("no data is given", remedy="name a folder or a Hub id")
    _check_cache()
    folders: list[str] = []
    parts: list[datasets.DatasetDict] = []
    for root in roots:
        path = Path(root).expanduser()
        names.check_unpacked(path)
        if parquet.is_parquet(path) or not path.exists():
            parts.append(parquet.load_tables(root, path, label_set))
        else:
            folders.append(str(path))
    if folders:
        name = "joined" if layout == "auto" else layout
        parts.insert(0, _from_folders(name, tuple(folders), label_set))
    joined = datasets.DatasetDict(
        {
            split: datasets.concatenate_datasets([part[split] for part in parts if split in part])
            for split in dict.fromkeys(split for part in parts for split in part)
        }
    )
    check_once(name for part in joined.values() for name in part["name"])
    return joined


def to_train_on(splits: datasets.DatasetDict, where: object) -> datasets.Dataset:
    """The rows to train on; BusError where there are only other splits."""
    if "train" not in splits:
        raise BusError(
            f"there are only images of the split {' and '.join(splits)}, and none to train on",
            where=where,
            remedy="give class folders, or train/ with class folders in it, too",
        )
    return splits["train"]


def check_once(names: Iterable[str]) -> None:
    """BusError where a name is there twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BusError(
            f"{len(twice)} images are there twice, {twice[0]} among them",
            remedy="give only one of the roots that hold the same images",
        )


def cases(dataset: datasets.Dataset) -> list[Case]:
    """Decode every row once into memory: about 2 bytes a pixel.

    Raises:
        BusError: a row's image can't be read; the row is named.
    """
    from tqdm import tqdm

    raw = datasets.Image(decode=False)
    rows = dataset.cast_column("image", raw).cast_column("mask", raw)
    # Pillow lets other threads run while it decodes.
    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(case, rows), total=len(rows), desc="decoding", unit=" images", disable=None))


def _from_folders(config: str, roots: tuple[str, ...], label_set: str) -> datasets.DatasetDict:
    builder = BusDataset(config_name=config, roots=roots, label_set=label_set)
    try:
        builder.download_and_prepare()
    except datasets.exceptions.DatasetGenerationError as error:
        if isinstance(error.__cause__, BusError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from error
        raise
    for note in (builder.info.description or "").splitlines():
        logger.warning(note)
    return builder.as_dataset()


def case(row: dict[str, Any]) -> Case:
    """Decode one row, whose image and mask hold bytes; BusError where the image can't be read, or a path is there."""
    source = parquet.stored_bytes(row["image"], "image", row["name"])
    image = images.read_image(source, name=row["name"], check=False, trusted=True)
    masks = (
        [parquet.stored_bytes(row["mask"], "mask", row["name"])] if row["mask"] and any(row["mask"].values()) else []
    )
    mask, _ = images.read_masks(masks, source, image.shape, lesion=row["pathology"] != "normal", name=row["name"])
    copied = {column: row[column] for column in _COPIED if column != "fold"}
    return Case(label=row["label"], image=image, mask=mask, **copied)


def _check_cache() -> None:
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


def _fingerprint(folders: Sequence[Path], label_set: str) -> str:
    """Hash of the code that reads and of the name, size and times of every file below the folders, behind links too."""
    digest = hashlib.sha256(label_set.encode())
    for path in _CODE:
        digest.update(Path(path).read_bytes())
    for folder in folders:
        digest.update(str(folder.resolve()).encode())
        for inside in walk.walk(folder):
            for file in (*inside.files, *inside.broken, *inside.again):
                digest.update(f"{file} {os.path.realpath(file)}".encode(errors="surrogateescape"))
                if file.is_file():
                    state = file.stat()  # of what a link leads to
                    digest.update(f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}\n".encode())
    return digest.hexdigest()
