"""A data set to the Hub: Parquet shards with groups and folds, and a card whose counts come from the data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bus_hf.errors import BusError
from bus_hf.hub.outgoing import require_own_files
from bus_hf.hub.project import HOME, project_files
from bus_hf.hub.upload import Pushed, Upload, checked, send

if TYPE_CHECKING:
    import datasets

    from bus_hf.data.duplicates import Audit

# The source whose own licence allows to pass it on; only its layout tells patients and BI-RADS.
_FREE = "busbra"
FOLDS = 5
_CARD = "dataset_card/README.md"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def prepare(*roots: str | Path, label_set: str = "malignancy") -> tuple[datasets.DatasetDict, Audit]:
    """Read data, join near-duplicates into groups and assign folds.

    Args:
        roots: as for `bus_hf.data.dataset.load`.
        label_set: malignancy, busi3 or histology.

    Returns:
        The splits, with `group` after joining near-duplicates and `fold` 0 to 4 of grouped folds of "train" (None for
        groups whose classes contradict each other, for those that another split holds too, and for other splits), and
        the audit.

    Raises:
        BusError: as for `load`; there is no "train"; or a root holds links, or names files that lie elsewhere.
    """
    import datasets

    from bus_hf.data.columns import features
    from bus_hf.data.dataset import cases, load
    from bus_hf.data.duplicates import audit
    from bus_hf.data.splits import assert_disjoint, grouped_folds

    for root in map(Path, roots):
        here = root.expanduser()
        if here.is_dir():
            require_own_files(here)
    loaded = load(*roots, label_set=label_set)
    if "train" not in loaded:
        raise BusError("there are no images to train on", where=str(roots[0]), remedy="give a training_set too")
    everything = [case for part in loaded.values() for case in cases(part)]
    result = audit(everything)
    splits = [name for name, part in loaded.items() for _ in range(len(part))]
    held_out = {group for group, split in zip(result.groups, splits, strict=True) if split != "train"}
    excluded = held_out | result.conflicts
    assigned = [row for row, split in enumerate(splits) if split == "train" and result.groups[row] not in excluded]
    groups = [result.groups[row] for row in assigned]
    strata = [f"{everything[row].source} {everything[row].pathology}" for row in assigned]
    folds = grouped_folds([everything[row].label for row in assigned], groups, strata, FOLDS)
    assert_disjoint(folds, groups)
    fold_of_row: list[int | None] = [None] * len(everything)
    for row, fold in zip(assigned, folds.tolist(), strict=True):
        fold_of_row[row] = fold
    wanted, start, parts = features(label_set), 0, {}
    for name, part in loaded.items():
        rows = slice(start, start + len(part))
        start += len(part)
        changed = part.remove_columns(["group", "fold"])
        changed = changed.add_column("group", list(result.groups[rows]), feature=wanted["group"])
        changed = changed.add_column("fold", fold_of_row[rows], feature=wanted["fold"])
        parts[name] = changed.select_columns(list(wanted)).cast(wanted)
    return datasets.DatasetDict(parts), result


def plan(
    roots: Sequence[str | Path],
    repo_id: str,
    folder: Path,
    *,
    label_set: str = "malignancy",
    may_redistribute: bool = False,
    shard_bytes: int = 400_000_000,
    home: Path = HOME,
) -> Upload:
    """What a push of a data set uploads; shards are written into `folder`, and nothing is sent.

    Args:
        roots: as for `prepare`.
        repo_id: `owner/name` of the data set.
        folder: an empty one for the shards; it has to outlast the push.
        label_set: as for `prepare`.
        may_redistribute: the caller says that every source may be passed on.
        shard_bytes: most bytes of a Parquet shard, before compression.
        home: the folder that holds the package, a clone or site-packages, for the card.

    Raises:
        BusError: no Hub id, data that cannot be read, or a source whose terms do not allow to pass it on, unconfirmed.
    """
    checked(repo_id)
    card = project_files([_CARD], home)[_CARD]
    splits, result = prepare(*roots, label_set=label_set)
    bound = sorted(
        {
            source
            for part in splits.values()
            for source, patient, birads in zip(part["source"], part["patient"], part["birads"], strict=True)
            if source != _FREE or patient is None or birads is None
        }
    )
    if bound and not may_redistribute:
        raise BusError(
            f"the terms of {', '.join(bound)} do not say that anybody may pass the images on",
            where=repo_id,
            remedy="ask whoever holds the rights, then say so with --may-redistribute",
        )
    files: dict[str, Path | bytes] = {}
    for name, part in splits.items():
        count = max(1, -(-_bytes(part) // shard_bytes))
        for number in range(count):
            path = folder / f"{name}-{number:05d}-of-{count:05d}.parquet"
            part.shard(count, number, contiguous=True).to_parquet(path)
            files[f"data/{path.name}"] = path
    text = _card(card.read_text(encoding="utf-8"), repo_id, splits, result, files)
    terms = text[text.index("## Terms and citation") :]
    return Upload(
        repo_id,
        f"{len(result.names)} images",
        files | {"README.md": text.encode(), "LICENSE": terms.encode()},
        "dataset",
        # A push with fewer shards must not leave those of an earlier one to be read too.
        whole="data",
    )


def push(upload: Upload, *, private: bool = False, revision: str | None = None) -> Pushed:
    """Push what `plan` made.

    Raises:
        BusError: no access, or the Hub cannot be reached; the same call goes on.
    """
    return send(upload, private, revision)


def _bytes(part: datasets.Dataset) -> int:
    return int(part.data.nbytes)


_INTRO = """\
Breast-ultrasound images with lesion masks, labels, groups and folds, as `bus-hf push dataset` wrote them.

```python
from datasets import load_dataset

splits = load_dataset("{repo_id}")
```
"""
_COLUMNS = {
    "group": "patient or lesion: images of one patient, and near-duplicates, bear one name",
    "fold": "of five folds that share no group; empty where its classes contradict each other, or another split has it",
}


def _card(text: str, repo_id: str, splits: datasets.DatasetDict, result: Audit, files: dict[str, Path | bytes]) -> str:
    """The project's card of the data with front matter, columns, terms and counts of these splits."""
    from datasets import DatasetInfo, SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCard

    from bus_hf.reporting.cards import replace_between
    from bus_hf.reporting.data_card import counts_table

    text = replace_between(text, "figures", counts_table(result))
    text = replace_between(text, "intro", _INTRO.format(repo_id=repo_id))
    for column, meaning in _COLUMNS.items():
        text, count = re.subn(rf"(\| `{column}` \| [^|]* \|) [^|]* \|", rf"\1 {meaning} |", text)
        if count != 1:
            raise BusError(
                f"the card does not describe the column {column} once", remedy="correct its table of columns"
            )
    card = DatasetCard(replace_between(text, "terms", _terms(text, result)), ignore_metadata_errors=False)
    count = len(result.names)
    card.data["size_categories"] = [next((name for most, name in _SIZES if count < most), "n>1M")]
    info = DatasetInfo(
        features=splits["train"].features,
        splits=SplitDict(
            {
                name: SplitInfo(name=name, num_bytes=_bytes(part), num_examples=len(part))
                for name, part in splits.items()
            }
        ),
        download_size=sum(file.stat().st_size for file in files.values() if isinstance(file, Path)),
        dataset_size=sum(map(_bytes, splits.values())),
    )
    DatasetInfosDict({"default": info}).to_dataset_card_data(card.data)
    card.data["configs"] = [
        {
            "config_name": "default",
            "data_files": [{"split": name, "path": f"data/{name}-*.parquet"} for name in splits],
        }
    ]
    return str(card)


def _terms(text: str, result: Audit) -> str:
    """The rows of the table of terms that are of these sources, and a row for each that it does not know."""
    start, end = (text.index(f"<!-- terms:{side} -->") for side in ("start", "end"))
    head, rule, *rows = text[start:end].strip().splitlines()[1:]
    kept = []
    for source in dict.fromkeys(source for source, _ in result.counts):
        known = [row for row in rows if row.split("|")[1].strip().lower().replace("-", "") == source]
        kept += known or [
            f"| {source} | not known to this project: whoever pushed it says that it may be passed on | – |"
        ]
    return "\n".join([head, rule, *kept])
