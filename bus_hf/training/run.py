"""The training run: split, start, epochs with resume, out-of-fold logits, a member folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, ProjectConfiguration, set_seed
from safetensors.torch import load_file, save_file
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from bus_hf.config import TrainConfig, to_mapping
from bus_hf.data.phantoms import write_phantoms
from bus_hf.errors import BusError
from bus_hf.evaluation.figures import auroc
from bus_hf.labels import LabelSet, label_set
from bus_hf.models import TrainingNet, save_member
from bus_hf.start_weights import start
from bus_hf.training.batches import DrawSampler, TrainingImages, WholeImages, mixed, normalised
from bus_hf.training.distillation import Teacher, teacher
from bus_hf.training.lineage import earlier_run
from bus_hf.training.losses import class_weights, terms
from bus_hf.training.memory import hold_memory
from bus_hf.training.optimisation import parameter_groups, schedule, set_training
from bus_hf.training.out_of_fold import read_boxes, read_fold
from bus_hf.training.precision import usable
from bus_hf.training.record import digest, told, write_run
from bus_hf.training.splits import Split, split
from bus_hf.training.state import Progress, claim, resume, save
from bus_hf.transforms import TrainTransform
from bus_hf.views import Box

BEST_FILE = "best.safetensors"


def run(config: TrainConfig) -> Path:
    """Train one member with one fold left out.

    Args:
        config: every setting.

    Returns:
        The output folder. A finished run leaves there `checkpoint/` (the member), `out_of_fold.parquet`, `run.json`,
        `history.json` and three plots; an interrupted one leaves `state/` to go on from.

    Raises:
        BusError: wrong settings or data, told in one sentence.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    output = Path(config.output)
    before = earlier_run(config)
    accelerator = _accelerator(config)
    if accelerator.device.type == "cpu":
        hold_memory()
    if accelerator.is_main_process:
        claim(config)
        config = _with_phantoms(config)
    accelerator.wait_for_everyone()
    config = _with_phantoms(config)
    say = accelerator.print
    labels = label_set(config.label_set)
    say(f"reading {' '.join(config.data)} ...")
    data = split(config)
    train, held_out, watched = (part(config.fold) for part in (data.training, data.held_out, data.watched))
    boxes = read_boxes(config.boxes, held_out) if config.boxes else None
    taught_by = teacher(config.teacher, labels, accelerator.device) if config.teacher else None
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
    transform = TrainTransform(config.input_size, config.augment, config.lesion_crop_prob, config.scanner)
    images = TrainingImages(train, transform, config.seed)
    loader: Any = _loader(images, config, sampler=sampler, drop_last=len(sampler) >= config.batch_size)
    watch: Any = _loader(WholeImages(watched, config.input_size), config)
    steps = len(loader)
    optimiser: Any = torch.optim.AdamW(parameter_groups(net, config), lr=config.lr)
    plan: Any = schedule(optimiser, config, steps)
    prepared, optimiser, loader, watch, plan = accelerator.prepare(net, optimiser, loader, watch, plan)
    ema = ModelEmaV3(
        accelerator.unwrap_model(prepared), decay=config.ema_decay, use_warmup=True, warmup_power=1.0, foreach=True
    )
    accelerator.register_for_checkpointing(ema)
    progress = resume(accelerator, output) if config.resume else Progress()
    if progress.epoch:
        say(f"going on after epoch {progress.epoch} of {config.epochs}")
    weights = None
    if config.pos_weight:
        weights = class_weights(torch.tensor(drawn_from), labels).to(accelerator.device)
    truth = np.array([case.label for case in watched])
    fit = _Fit(
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
        record = {"start": asdict(begun) | {"earlier_run": before}, "precision": accelerator.mixed_precision}
        _finish(config, labels, ema.module, data, boxes, record, progress, output)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return output


@dataclass(frozen=True)
class _Fit:
    """The parts of a run that every epoch needs; what accelerate has wrapped is of no type that it tells."""

    config: TrainConfig
    labels: LabelSet
    accelerator: Accelerator
    net: Any
    ema: ModelEmaV3
    optimiser: Any
    plan: Any
    loader: Any
    watch: Any
    sampler: DrawSampler
    weights: Tensor | None
    truth: np.ndarray
    teacher: Teacher | None

    def epochs(self, progress: Progress, output: Path) -> bool:
        """Train to the end, to early stopping or to `max_epochs_now`; True when the run is finished."""
        config, accelerator = self.config, self.accelerator
        done_before = progress.epoch
        bar = tqdm(
            total=config.epochs * len(self.loader),
            initial=progress.epoch * len(self.loader),
            unit="step",
            desc=output.name,
            disable=not accelerator.is_local_main_process,
        )
        with bar:
            while progress.epoch < config.epochs and not self._stopped(progress):
                if config.max_epochs_now and progress.epoch - done_before >= config.max_epochs_now:
                    return False
                row = self._epoch(progress.epoch, bar)
                row["auroc"] = self._watch()
                progress.epoch += 1
                progress.history.append(row)
                if row["auroc"] > progress.best:
                    progress.best, progress.since_best = row["auroc"], 0
                    if config.patience and accelerator.is_main_process:
                        save_file(_plain(self.ema.module), output / BEST_FILE)
                else:
                    progress.since_best += 1
                accelerator.log(row, step=progress.epoch * len(self.loader))
                bar.set_postfix(loss=f"{row['loss']:.3f}", auroc=f"{row['auroc']:.4f}")
                save(accelerator, output, progress)
        if config.patience and (output / BEST_FILE).is_file():
            self.ema.module.load_state_dict(load_file(output / BEST_FILE))
        return True

    def _stopped(self, progress: Progress) -> bool:
        return bool(self.config.patience) and progress.since_best >= self.config.patience

    def _epoch(self, epoch: int, bar: Any) -> dict[str, float]:
        config = self.config
        # Seeded by the epoch, so that dropout after a resume is that of an uninterrupted run.
        set_seed(config.seed * 100_003 + epoch, device_specific=True)
        self.sampler.epoch = epoch
        bare = self.accelerator.unwrap_model(self.net)
        set_training(self.net, bare.backbone, config.freeze)
        sums, count, began = torch.zeros(5, device=self.accelerator.device), 0, time.monotonic()
        for drawn in self.loader:
            batch = mixed(drawn, config.mixup) if config.mixup else drawn
            with self.accelerator.autocast():
                result = self.net(self._input(batch["image"]))
                taught = self.teacher(batch["image"]) if self.teacher else None
            loss = terms(result, batch, self.labels, config, self.weights, taught)
            self.accelerator.backward(loss.total)
            if config.clip_grad:
                self.accelerator.clip_grad_norm_(self.net.parameters(), config.clip_grad)
            self.optimiser.step()
            self.plan.step()
            self.optimiser.zero_grad()
            count += 1
            self.ema.update(bare, step=epoch * len(self.loader) + count + 1)
            # Summed on the device: reading a value each step would make a GPU wait.
            sums += torch.stack([loss.total, loss.classes, loss.lesion, loss.inside, loss.taught]).detach()
            bar.update()
        means = self.accelerator.reduce(sums / max(count, 1), reduction="mean").tolist()
        row = dict(zip(("loss", "loss_classes", "loss_lesion", "loss_inside", "loss_taught"), means, strict=True))
        return row | {"epoch": epoch + 1.0, "lr": self.plan.get_last_lr()[0], "seconds": time.monotonic() - began}

    def _watch(self) -> float:
        """AUROC of the averaged weights on the held-out whole views (macro one-against-rest for more classes)."""
        scores = np.zeros((len(self.truth), self.labels.num_logits))
        for batch in self.watch:
            with torch.inference_mode():
                logits = self.ema.module(self._input(batch["image"])).logits.float()
            gathered, index = self.accelerator.gather_for_metrics((logits, batch["index"]))
            scores[index.cpu().numpy()] = gathered.cpu().numpy()
        if scores.shape[1] == 1:
            return float(auroc(self.truth, scores[:, 0]))
        each = [auroc((self.truth == k).astype(int), scores[:, k]) for k in range(scores.shape[1])]
        return float(np.mean(each))

    def _input(self, images: Tensor) -> Tensor:
        cfg = self.ema.module.backbone.pretrained_cfg
        batch = normalised(images, cfg["mean"], cfg["std"])
        return batch.contiguous(memory_format=torch.channels_last) if self.config.channels_last else batch


def _accelerator(config: TrainConfig) -> Accelerator:
    precision, note = usable(config.mixed_precision, PartialState().device)
    # A lesion head that nothing trains has no gradients for DDP to wait for.
    idle = DistributedDataParallelKwargs(find_unused_parameters=not config.lesion_weight)
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
            kwargs_handlers=[idle],
            log_with=list(config.trackers) or None,
            project_config=ProjectConfiguration(project_dir=config.output, logging_dir=config.logging_dir),
        )
    except ValueError as error:
        raise BusError(
            f"accelerate refuses these settings ({error})",
            where="training config",
            remedy="choose another mixed_precision or other trackers",
        ) from None
    if config.batch_size % accelerator.num_processes:
        raise BusError(
            f"batch_size {config.batch_size} cannot be shared by {accelerator.num_processes} processes",
            where="training config",
            remedy="give a multiple of their number",
        )
    if note:
        accelerator.print(note)
    return accelerator


def _with_phantoms(config: TrainConfig) -> TrainConfig:
    """Put generated images in the place of missing data; they are made once and kept in the output folder."""
    if config.data or not config.phantoms:
        return config
    folder = Path(config.output) / "phantoms"
    if not folder.exists():
        part = folder.with_name("phantoms.part")
        shutil.rmtree(part, ignore_errors=True)
        write_phantoms(part, config.phantoms, config.split_seed)
        part.rename(folder)
    return replace(config, data=(str(folder),))


def _loader(data: Any, config: TrainConfig, **kwargs: Any) -> DataLoader[Any]:
    return DataLoader(
        data,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        **kwargs,
    )


def _drop_path(config: TrainConfig) -> dict[str, float]:
    # DenseNet has no stochastic depth and refuses the argument.
    return (
        {}
        if config.backbone.startswith("densenet") or not config.drop_path_rate
        else {"drop_path_rate": config.drop_path_rate}
    )


def _plain(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous().clone() for name, value in net.state_dict().items()}


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
    save_member(output / "checkpoint", net.backbone, labels, config.input_size, net.lesion_head)
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
        "held_out_sha256": digest(case.name for case in held_out),
        "n_left_out": data.left_out,
        "near_duplicate_pairs": data.near_duplicate_pairs,
        "sources": {
            source: sum(case.source == source for case in train) for source in sorted({case.source for case in train})
        },
        "seconds": round(sum(row["seconds"] for row in progress.history)),
        "config": told(config),
    }
    write_run(frame, labels, record, progress.history, output)
