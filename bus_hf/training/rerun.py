"""Run a finished member on its held-out fold again, without training: with other boxes, or to check its logits."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import PartialState
from safetensors.torch import load_file

from bus_hf.config import EACH_SOURCE, TrainConfig, from_mapping
from bus_hf.data.dataset import Case
from bus_hf.errors import BusError
from bus_hf.filenames import CHECKPOINT, LESION_HEAD, LOGITS, RUN, without
from bus_hf.files import replace_together, settle
from bus_hf.labels import label_set
from bus_hf.models import TrainingNet, load_member
from bus_hf.training.held_out import fold_logits, read_boxes
from bus_hf.training.identity import data_digests, differences, digest
from bus_hf.training.lineage import history_of, record_of
from bus_hf.training.lock import writing
from bus_hf.training.record import recorded_settings, write_run
from bus_hf.training.splits import split


def rerun(member: str, given: dict[str, Any]) -> Path:
    """Run a member on the images that it did not train on, with its stored weights, and write that as a finished run.

    What is held out is what the member's own record says, so that nothing it learned from can pass as out-of-fold.

    Args:
        member: its folder: `checkpoint` of a run, or a member of an ensemble folder.
        given: settings by name: `data`, `output`, and where wanted `boxes` and `threads`.

    Returns:
        The output folder, with `checkpoint/`, `out_of_fold.parquet`, `run.json`, `history.json` and three plots. It may
        be the run that the member is of.

    Raises:
        BusError: no record of the member is known, another setting is given, or the output holds another run.
    """
    folder = Path(member)
    settle(folder.parent)
    record, history = record_of(member), history_of(member)
    if record is None or history is None:
        raise BusError(
            "no record of this member's training is known, so neither is what it held out",
            where=member,
            remedy="give the checkpoint folder of a run, or a member's folder inside an ensemble folder",
        )
    if record["config"].get("hold_out") == EACH_SOURCE:
        raise BusError(
            "this member was trained on every image; its logits are those of the runs without each source",
            where=member,
            remedy=f"read {without('SOURCE')}/{CHECKPOINT} of its run again, then give the command that trained it",
        )
    unexpected = sorted(set(given) - {"data", "output", "boxes", "threads"})
    if unexpected:
        raise BusError(
            f"a member is read again as it was trained, without another {', '.join(unexpected)}",
            where="command line",
            remedy="give --data, --output and, where wanted, --boxes and --threads alone",
        )
    if "output" not in given:
        raise BusError("no folder to write is named", where="command line", remedy="give --output FOLDER")
    config = from_mapping(given, "command line", from_mapping(record["config"], f"record of {member}"))
    output = Path(config.output)
    settle(output)
    same_run = output.resolve() == folder.parent.resolve() and folder.name == CHECKPOINT
    if (
        (output / RUN).exists()
        and not same_run
        and _trained_as(record_of(str(output / CHECKPOINT))) != _trained_as(record)
    ):
        raise BusError("the folder holds another run", where=output, remedy="choose another --output")
    if config.threads:
        torch.set_num_threads(config.threads)
    device = PartialState().device
    net = _net(folder, config).to(device).eval()
    print(f"reading {' '.join(config.data)} ...")
    cases = _held_out_cases(config, record, folder)
    boxes = read_boxes(config.boxes, cases) if config.boxes else None
    with writing(output):
        frame = fold_logits(net, cases, config, boxes)
        plain = {key: value for key, value in record.items() if key != "history"}
        try:
            with replace_together(output) as part:
                if not same_run:
                    shutil.copytree(folder, part / CHECKPOINT)
                write_run(
                    frame, label_set(config.label_set), plain | {"config": recorded_settings(config)}, history, part
                )
        except (OSError, shutil.Error) as error:
            raise BusError(
                f"it cannot be written ({getattr(error, 'strerror', None) or 'a file cannot be copied'})",
                where=output,
                remedy="make room on the disk; the same command then writes it",
            ) from None
    return output


def _held_out_cases(config: TrainConfig, record: Mapping[str, Any], folder: Path) -> list[Case]:
    """The cases that a member held out; BusError unless they and the training cases are known to be the same."""
    data = split(config)
    cases = data.held_out(config.fold)
    if (len(cases), len(data.training(config.fold))) != (record["n_held_out"], record["n_train"]):
        raise BusError(
            f"{len(cases)} images are held out of this data, where the member held out {record['n_held_out']}",
            where=" ".join(config.data),
            remedy="give the data that it was trained on",
        )
    if digest(case.name for case in cases) != _held_out_digest(folder, record):
        raise BusError(
            f"fold {config.fold} of this data is not known to be the one that the member held out",
            where=" ".join(config.data),
            remedy="give the data that it was trained on, all of it, and run where the folds_from of its record lies",
        )
    differing = differences(record.get("data_sha256") or {}, data_digests(data.training(config.fold), cases))
    if differing:
        raise BusError(
            f"this is not the data that the member was trained on ({', '.join(differing)} differ)",
            where=" ".join(config.data),
            remedy="give the data as it was",
        )
    return cases


def _trained_as(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a record holds of the training itself, whatever its held-out images gave since."""
    return {key: value for key, value in (record or {}).items() if key not in ("history", "config")}


def _held_out_digest(folder: Path, record: Mapping[str, Any]) -> str | None:
    """Digest of the images that a member held out: of its record, or of the logits beside it; None where none is."""
    stored = folder.parent / LOGITS
    if "held_out_sha256" in record or not stored.is_file():
        return record.get("held_out_sha256")
    return digest(pd.read_parquet(stored, columns=["name"])["name"])


def _net(folder: Path, config: TrainConfig) -> TrainingNet:
    net = TrainingNet(load_member(folder), config.lesion_stride)
    try:
        net.lesion_head.load_state_dict(
            {name: value.float() for name, value in load_file(folder / LESION_HEAD).items()}
        )
    except (OSError, RuntimeError):
        raise BusError(
            f"{LESION_HEAD} is missing or does not fit", where=folder, remedy="download or export it again"
        ) from None
    return net
