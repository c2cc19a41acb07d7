"""The training run: split, pretrained weights, epochs with resume, held-out logits, a member folder."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors import SafetensorError
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from bus_hf.config import EACH_SOURCE, FOLD, TrainConfig, to_mapping
from bus_hf.data.dataset import Case
from bus_hf.data.phantoms import write_phantoms
from bus_hf.errors import BusError
from bus_hf.filenames import CHECKPOINT, LESION_HEAD
from bus_hf.files import replace_folder, replace_together
from bus_hf.labels import LabelSet, label_set
from bus_hf.models import TrainingNet, save_member
from bus_hf.training.augmentation import TrainTransform
from bus_hf.training.batches import DrawSampler, TrainingImages, WholeImages
from bus_hf.training.distillation import Teacher, load_teacher
from bus_hf.training.fit import Fit
from bus_hf.training.grey_exchange import GreyExchange
from bus_hf.training.held_out import fold_logits, joined_logits, read_boxes
from bus_hf.training.identity import data_digests
from bus_hf.training.launch import accelerator_for, on_main
from bus_hf.training.lineage import earlier_run, refuse_other_data
from bus_hf.training.lock import writing
from bus_hf.training.losses import class_weights
from bus_hf.training.memory import hold_memory
from bus_hf.training.optimisation import check_smallest_batch, parameter_groups, schedule
from bus_hf.training.pretrained import Pretrained, start
from bus_hf.training.record import recorded_settings, write_run
from bus_hf.training.splits import Images, Split, split
from bus_hf.training.squares import DrawnSquares, PreparedSquares, Squares
from bus_hf.training.state import Progress, claim, resume
from bus_hf.views import Box


def run(
    config: TrainConfig,
    images: Images | None = None,
    squares: Squares | None = None,
    source_runs: Sequence[Path] = (),
) -> Path:
    """Train one member with one fold or one source held out, or on everything.

    Args:
        config: every setting.
        images: what `read_images` gave for it, where several runs share them.
        squares: of these images, likewise.
        source_runs: finished runs without each source, whose logits a run on everything takes.

    Returns:
        The output folder. A finished run leaves there `checkpoint/` (the member), `out_of_fold.parquet`, `run.json`,
        `history.json` and three plots; an interrupted one leaves `state/` to go on from.

    Raises:
        BusError: wrong settings or data, another run at work in the output folder, or a training that diverges.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    earlier = earlier_run(config)
    accelerator = accelerator_for(config)
    if accelerator.device.type == "cpu":
        hold_memory()
    with ExitStack() as held:

        def begin() -> None:
            held.enter_context(writing(Path(config.output)))
            claim(config)
            _with_phantoms(config)

        on_main(accelerator, begin)
        return _train(_with_phantoms(config), accelerator, earlier, images, squares, source_runs)


def _train(
    config: TrainConfig,
    accelerator: Accelerator,
    earlier: Mapping[str, Any] | None,
    images: Images | None,
    squares: Squares | None,
    source_runs: Sequence[Path],
) -> Path:
    output, labels = Path(config.output), label_set(config.label_set)
    if images is None:
        accelerator.print(f"reading {' '.join(config.data)} ...")
    data = _data(config, images)
    teacher = load_teacher(config.teacher, labels, accelerator.device) if config.teacher else None
    for line in data.summary(config):
        accelerator.print(line)
    set_seed(config.seed)
    net, pretrained = _network(config, labels, teacher)
    accelerator.print(str(pretrained))
    fit = _prepared(config, labels, accelerator, data, net, teacher, squares)
    progress, notes = resume(accelerator, output, data.digests | ({"teacher": teacher.sha256} if teacher else {}))
    for note in notes:
        accelerator.print(note)
    if progress.epoch:
        accelerator.print(f"going on after epoch {progress.epoch} of {config.epochs}")
    if config.trackers:
        accelerator.init_trackers(output.name, config=_trackable(config))
    if not fit.epochs(progress, output):
        accelerator.print(f"stopped after epoch {progress.epoch} of {config.epochs}; the same command goes on")
    elif accelerator.is_main_process:
        start = asdict(pretrained) | {"earlier_run": earlier}
        _finish(fit, data, progress, start, source_runs)
        accelerator.print(_what_next(config))
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return output


@dataclass(frozen=True)
class _Data:
    """Cases of a run by their use, their digests, and the given boxes of the held-out ones by name."""

    split: Split
    training: list[Case]
    validation: list[Case]
    held_out: list[Case]
    digests: dict[str, str]
    boxes: Mapping[str, Box | None] | None

    def summary(self, config: TrainConfig) -> list[str]:
        """Sentences on what is trained on and what is not."""
        held_out = {
            FOLD: f"{len(self.held_out)} held out (fold {config.fold} of {config.folds})",
            EACH_SOURCE: "none held out (the runs without each source give its logits)",
        }.get(config.hold_out, f"{len(self.held_out)} held out ({config.hold_out})")
        return [
            *self.split.notes,
            f"{len(self.training)} images to train on, {held_out}; {self.split.near_duplicate_pairs} near-duplicate "
            f"pairs joined, {self.split.excluded} images with conflicting labels excluded",
        ]


def _data(config: TrainConfig, images: Images | None) -> _Data:
    parts = split(config, images)
    training, validation, held_out = (part(config.fold) for part in (parts.training, parts.validation, parts.held_out))
    digests = data_digests(training, held_out)
    refuse_other_data(config, digests)
    boxes = read_boxes(config.boxes, held_out) if config.boxes else None
    return _Data(parts, training, validation, held_out, digests, boxes)


def _network(config: TrainConfig, labels: LabelSet, teacher: Teacher | None) -> tuple[TrainingNet, Pretrained]:
    arguments = {"drop_rate": config.drop_rate}
    # DenseNet has no stochastic depth and refuses the argument.
    if config.drop_path_rate and not config.backbone.startswith("densenet"):
        arguments["drop_path_rate"] = config.drop_path_rate
    backbone, pretrained = start(config.backbone, labels.num_logits, config.init, config.init_from, **arguments)
    net = TrainingNet(backbone, config.lesion_stride, teacher.channels if teacher else 0, config.birads_weight > 0)
    return net.to(memory_format=torch.channels_last) if config.channels_last else net, pretrained


def _prepared(
    config: TrainConfig,
    labels: LabelSet,
    accelerator: Accelerator,
    data: _Data,
    net: TrainingNet,
    teacher: Teacher | None,
    squares: Squares | None,
) -> Fit:
    """Loaders, optimiser and averaged weights of a run, wrapped and registered by accelerate."""
    y_train = [case.label for case in data.training]
    sampler = DrawSampler(_strata(config, data.training), len(data.training), config.seed, config.epoch_images)
    check_smallest_batch(net, config, len(sampler), accelerator.num_processes)
    exchange = GreyExchange(data.training, config.grey_exchange) if config.grey_exchange else None
    images = TrainingImages(data.training, squares or squares_of(config, data.training), config.seed, exchange)
    drop_last = len(sampler) >= config.batch_size
    train_loader: Any = _loader(images, config, sampler=sampler, drop_last=drop_last)
    val_loader: Any = _loader(WholeImages(data.validation, config.input_size), config)
    optimiser: Any = torch.optim.AdamW(parameter_groups(net, config), lr=config.lr)
    scheduler: Any = schedule(optimiser, config, len(train_loader))
    wrapped, optimiser, train_loader, val_loader, scheduler = accelerator.prepare(
        net, optimiser, train_loader, val_loader, scheduler
    )
    ema = ModelEmaV3(
        accelerator.unwrap_model(wrapped), decay=config.ema_decay, use_warmup=True, warmup_power=1.0, foreach=True
    )
    accelerator.register_for_checkpointing(ema)
    weights = class_weights(torch.tensor(y_train), labels).to(accelerator.device) if config.pos_weight else None
    return Fit(
        config=config,
        labels=labels,
        accelerator=accelerator,
        net=wrapped,
        ema=ema,
        optimiser=optimiser,
        scheduler=scheduler,
        train_loader=train_loader,
        val_loader=val_loader,
        sampler=sampler,
        class_weights=weights,
        y_val=np.array([case.label for case in data.validation]),
        teacher=teacher,
    )


def squares_of(config: TrainConfig, cases: Sequence[Case]) -> Squares:
    """Squares of cases as a config augments them."""
    transform = TrainTransform(config.input_size, config.augment, config.lesion_crop_prob, config.scanner)
    if not config.versions:
        return DrawnSquares(transform)
    return PreparedSquares(cases, transform, config.versions, config.num_workers)


def _strata(config: TrainConfig, cases: Sequence[Case]) -> list[tuple[str, int]] | None:
    """What each case is drawn as; None where every case is drawn once a pass."""
    if not (config.balanced_sampling or config.balance_sources):
        return None
    return [
        (case.source if config.balance_sources else "", case.label if config.balanced_sampling else 0) for case in cases
    ]


def _loader(dataset: Any, config: TrainConfig, **arguments: Any) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # A separate generator: workers that start after a resume must not shift the random state of dropout.
        generator=torch.Generator().manual_seed(config.seed),
        **arguments,
    )


def _trackable(config: TrainConfig) -> dict[str, int | float | str]:
    """The settings as trackers take them."""
    return {
        key: value if isinstance(value, int | float | str) else str(value) for key, value in to_mapping(config).items()
    }


def _finish(fit: Fit, data: _Data, progress: Progress, start: Mapping[str, Any], source_runs: Sequence[Path]) -> None:
    """Write everything that a finished run leaves; `start` is the record of its pretrained weights."""
    config, labels, net, output = fit.config, fit.labels, fit.ema.module, Path(fit.config.output)
    if config.hold_out == EACH_SOURCE:
        frame = joined_logits(source_runs, [case.name for case in data.held_out])
    else:
        frame = fold_logits(net.eval(), data.held_out, config, data.boxes)
    sources = Counter(case.source for case in data.training)
    record = {
        "architecture": config.backbone,
        "label_set": config.label_set,
        "input_size": config.input_size,
        "start": start,
        "precision": fit.accelerator.mixed_precision,
        "held_out_sha256": data.digests["held_out_names"],
        "data_sha256": data.digests,
        "epochs": progress.epoch,
        "kept": "best epoch on the held-out fold" if config.patience else "last epoch, averaged weights",
        "fold": config.fold,
        "folds": config.folds,
        "n_train": len(data.training),
        "n_held_out": len(data.held_out),
        "n_left_out": data.split.excluded,
        "near_duplicate_pairs": data.split.near_duplicate_pairs,
        "sources": dict(sorted(sources.items())),
        "seconds": round(sum(row["seconds"] for row in progress.history)),
        "config": recorded_settings(config),
    }
    try:
        with replace_together(output) as part:
            save_member(part / CHECKPOINT, net.backbone, labels, config.input_size, net.lesion_head)
            _write_graph(part / CHECKPOINT)
            write_run(frame, labels, record, progress.history, part)
    except (OSError, SafetensorError) as error:
        raise BusError(
            f"the finished run cannot be written ({getattr(error, 'strerror', None) or error})",
            where=output,
            remedy="make room on the disk; the same command then writes it",
        ) from None


def _write_graph(checkpoint: Path) -> None:
    """The member as ONNX beside its weights, where it can be; without it torch runs the member."""
    from bus_hf.inference.export import write_graph

    try:
        write_graph(checkpoint, LESION_HEAD)
    except BusError as error:
        print(error)


def _what_next(config: TrainConfig) -> str:
    """Where a finished run lies and the command that comes next."""
    output = Path(config.output)
    if label_set(config.label_set).positive is None:
        command = ["bus-hf", "build", "report", str(output), "--to", f"reports/{output.name}"]
        why = "its metrics; name the runs of the other folds too where there are any"
    else:
        # The member whose boxes were taken comes first: it finds the lesion.
        light = [str(Path(config.boxes).parent)] if config.boxes else []
        command = ["bus-hf", "build", "ensemble", *light, str(output), "--to", "my_ensemble"]
        why = "an ensemble that bus-hf predict, serve and push take; name further runs to average their members"
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
