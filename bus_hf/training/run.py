"""The training run: split, start, epochs with resume, out-of-fold logits, a member folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors import SafetensorError
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from bus_hf.config import TrainConfig, to_mapping
from bus_hf.data.phantoms import write_phantoms
from bus_hf.errors import BusError
from bus_hf.files import replace_folder, replace_together
from bus_hf.labels import LabelSet, label_set
from bus_hf.models import TrainingNet, save_member
from bus_hf.training.augmentation import TrainTransform
from bus_hf.training.batches import DrawSampler, TrainingImages, WholeImages
from bus_hf.training.distillation import teacher
from bus_hf.training.fit import Fit
from bus_hf.training.held_out import read_boxes, read_fold
from bus_hf.training.identity import data_digests
from bus_hf.training.launch import accelerator_for, on_main
from bus_hf.training.lineage import earlier_run, refuse_other_data
from bus_hf.training.lock import writing
from bus_hf.training.losses import class_weights
from bus_hf.training.memory import hold_memory
from bus_hf.training.optimisation import check_smallest_batch, parameter_groups, schedule
from bus_hf.training.pretrained import start
from bus_hf.training.record import told, write_run
from bus_hf.training.splits import Split, split
from bus_hf.training.state import Progress, claim, resume
from bus_hf.views import Box


def run(config: TrainConfig) -> Path:
    """Train one member with one fold left out.

    Args:
        config: every setting.

    Returns:
        The output folder. A finished run leaves there `checkpoint/` (the member), `out_of_fold.parquet`, `run.json`,
        `history.json` and three plots; an interrupted one leaves `state/` to go on from.

    Raises:
        BusError: wrong settings or data, another run at work in the output folder, or a training that diverges.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    before = earlier_run(config)
    accelerator = accelerator_for(config)
    if accelerator.device.type == "cpu":
        hold_memory()
    with ExitStack() as held:

        def begin() -> None:
            held.enter_context(writing(Path(config.output)))
            claim(config)
            _with_phantoms(config)

        on_main(accelerator, begin)
        return _train(_with_phantoms(config), accelerator, before)


def _train(config: TrainConfig, accelerator: Accelerator, before: Mapping[str, Any] | None) -> Path:
    output, say, labels = Path(config.output), accelerator.print, label_set(config.label_set)
    say(f"reading {' '.join(config.data)} ...")
    data = split(config)
    train, held_out, watched = (part(config.fold) for part in (data.training, data.held_out, data.watched))
    digests = data_digests(train, held_out)
    refuse_other_data(config, digests)
    boxes = read_boxes(config.boxes, held_out) if config.boxes else None
    taught_by = teacher(config.teacher, labels, accelerator.device) if config.teacher else None
    learned_from = digests | ({"teacher": taught_by.sha256} if taught_by else {})
    for note in data.notes:
        say(note)
    say(
        f"{len(train)} images to train on, {len(held_out)} held out (fold {config.fold} of {config.folds}); "
        f"{data.near_duplicate_pairs} near-duplicate pairs joined, {data.left_out} images with conflicting labels left"
    )
    set_seed(config.seed)
    backbone, begun = start(
        config.backbone,
        labels.num_logits,
        config.init,
        config.init_from,
        drop_rate=config.drop_rate,
        **_drop_path(config),
    )
    say(str(begun))
    net = TrainingNet(backbone, config.lesion_stride, taught_by.channels if taught_by else 0)
    if config.channels_last:
        net = net.to(memory_format=torch.channels_last)
    drawn_from = [case.label for case in train]
    sampler = DrawSampler(drawn_from, config.balanced_sampling, config.seed, config.epoch_images)
    check_smallest_batch(net, config, len(sampler), accelerator.num_processes)
    transform = TrainTransform(config.input_size, config.augment, config.lesion_crop_prob, config.scanner)
    images = TrainingImages(train, transform, config.seed)
    loader: Any = _loader(images, config, sampler=sampler, drop_last=len(sampler) >= config.batch_size)
    watch: Any = _loader(WholeImages(watched, config.input_size), config)
    optimiser: Any = torch.optim.AdamW(parameter_groups(net, config), lr=config.lr)
    plan: Any = schedule(optimiser, config, len(loader))
    prepared, optimiser, loader, watch, plan = accelerator.prepare(net, optimiser, loader, watch, plan)
    ema = ModelEmaV3(
        accelerator.unwrap_model(prepared), decay=config.ema_decay, use_warmup=True, warmup_power=1.0, foreach=True
    )
    accelerator.register_for_checkpointing(ema)
    progress, unlike = resume(accelerator, output, learned_from)
    if unlike:
        say(unlike)
    if progress.epoch:
        say(f"going on after epoch {progress.epoch} of {config.epochs}")
    weights = None
    if config.pos_weight:
        weights = class_weights(torch.tensor(drawn_from), labels).to(accelerator.device)
    truth = np.array([case.label for case in watched])
    fit = Fit(
        config, labels, accelerator, prepared, ema, optimiser, plan, loader, watch, sampler, weights, truth, taught_by
    )
    if config.trackers:
        flat = {
            key: value if isinstance(value, int | float | str) else str(value)
            for key, value in to_mapping(config).items()
        }
        accelerator.init_trackers(output.name, config=flat)
    if not fit.epochs(progress, output):
        say(f"stopped after epoch {progress.epoch} of {config.epochs}; the same command goes on")
    elif accelerator.is_main_process:
        record = {
            "start": asdict(begun) | {"earlier_run": before},
            "precision": accelerator.mixed_precision,
            "held_out_sha256": digests["held_out_names"],
            "data_sha256": digests,
        }
        _finish(config, labels, ema.module, data, boxes, record, progress, output)
        say(_what_next(config))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return output


def _what_next(config: TrainConfig) -> str:
    """Where a finished run lies and the command that comes next."""
    output = Path(config.output)
    if label_set(config.label_set).positive is None:
        command = ["bus-hf", "build", "report", str(output), "--to", f"reports/{output.name}"]
        why = "its metrics; name the runs of the other folds too where there are any"
    else:
        # The member whose boxes were taken stands first: it finds the lesion.
        light = [str(Path(config.boxes).parent)] if config.boxes else []
        command = ["bus-hf", "build", "ensemble", *light, str(output), "--to", "my_ensemble"]
        why = "an ensemble that bus-hf predict, serve and push take; name further runs to let them vote too"
    return (
        f"written: {output}: checkpoint/ (the member), out_of_fold.parquet (logits of the held-out images), run.json "
        f"(the record) and plots\nnext: {shlex.join(command)}   ({why})"
    )


def _with_phantoms(config: TrainConfig) -> TrainConfig:
    """Put generated images in the place of missing data; they are made once and kept in the output folder."""
    if config.data or not config.phantoms:
        return config
    folder = Path(config.output) / "phantoms"
    if not folder.exists():
        with replace_folder(folder) as part:
            write_phantoms(part, config.phantoms, config.split_seed)
    return replace(config, data=(str(folder),))


def _loader(data: Any, config: TrainConfig, **kwargs: Any) -> DataLoader[Any]:
    return DataLoader(
        data,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Its own: workers that start anew after a resume must not draw from the chance of dropout.
        generator=torch.Generator().manual_seed(config.seed),
        **kwargs,
    )


def _drop_path(config: TrainConfig) -> dict[str, float]:
    # DenseNet has no stochastic depth and refuses the argument.
    return (
        {}
        if config.backbone.startswith("densenet") or not config.drop_path_rate
        else {"drop_path_rate": config.drop_path_rate}
    )


def _finish(
    config: TrainConfig,
    labels: LabelSet,
    net: TrainingNet,
    data: Split,
    boxes: Mapping[str, Box | None] | None,
    known: Mapping[str, Any],
    progress: Progress,
    output: Path,
) -> None:
    """Write everything that a finished run leaves; `known` joins its record."""
    train, held_out = data.training(config.fold), data.held_out(config.fold)
    frame = read_fold(net.eval(), held_out, config, boxes)
    record = {
        "architecture": config.backbone,
        "label_set": config.label_set,
        "input_size": config.input_size,
        **known,
        "epochs": progress.epoch,
        "kept": "best epoch on the held-out fold" if config.patience else "last epoch, averaged weights",
        "fold": config.fold,
        "folds": config.folds,
        "n_train": len(train),
        "n_held_out": len(held_out),
        "n_left_out": data.left_out,
        "near_duplicate_pairs": data.near_duplicate_pairs,
        "sources": {
            source: sum(case.source == source for case in train) for source in sorted({case.source for case in train})
        },
        "seconds": round(sum(row["seconds"] for row in progress.history)),
        "config": told(config),
    }
    try:
        with replace_together(output) as part:
            save_member(part / "checkpoint", net.backbone, labels, config.input_size, net.lesion_head)
            write_run(frame, labels, record, progress.history, part)
    except (OSError, SafetensorError) as error:
        raise BusError(
            f"the finished run cannot be written ({getattr(error, 'strerror', None) or error})",
            where=output,
            remedy="make room on the disk; the same command then writes it",
        ) from None
