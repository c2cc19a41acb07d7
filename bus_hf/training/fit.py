"""The epochs of a run: steps, validation, early stopping, and the stop at the first value that is not finite."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from timm.utils import ModelEmaV3
from torch import Tensor
from tqdm.auto import tqdm

from bus_hf.config import TrainConfig
from bus_hf.errors import BusError
from bus_hf.evaluation.metrics import auroc
from bus_hf.files import replace_file
from bus_hf.labels import LabelSet
from bus_hf.training.batches import DrawSampler, mixup, normalised
from bus_hf.training.distillation import Teacher
from bus_hf.training.losses import terms
from bus_hf.training.optimisation import set_training
from bus_hf.training.state import BEST, Progress, save

# Steps between two checks of the loss: a GPU waits for each.
_STEPS_BETWEEN_CHECKS = 20


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The parts of a run that every epoch needs. What accelerate has wrapped has no static type.

    `y_val` are the int (N,) labels of `val_loader`, `class_weights` those of `losses.class_weights`.
    """

    config: TrainConfig
    labels: LabelSet
    accelerator: Accelerator
    net: Any
    ema: ModelEmaV3
    optimiser: Any
    scheduler: Any
    train_loader: Any
    val_loader: Any
    sampler: DrawSampler
    class_weights: Tensor | None
    y_val: np.ndarray
    teacher: Teacher | None

    def epochs(self, progress: Progress, output: Path) -> bool:
        """Train to the end, to early stopping or to `max_epochs_now`; True when the run is finished.

        Raises:
            BusError: a loss, a weight or a logit is not finite; the state of the epoch before stays as it is.
        """
        config, accelerator = self.config, self.accelerator
        done_before = progress.epoch
        bar = tqdm(
            total=config.epochs * len(self.train_loader),
            initial=progress.epoch * len(self.train_loader),
            unit="step",
            desc=output.name,
            disable=not accelerator.is_local_main_process,
        )
        with bar:
            while progress.epoch < config.epochs and not self._stopped(progress):
                if config.max_epochs_now and progress.epoch - done_before >= config.max_epochs_now:
                    return False
                row = self._epoch(progress.epoch, bar)
                if len(self.y_val):
                    row["auroc"] = self.validate(progress.epoch)
                progress.epoch += 1
                progress.history.append(row)
                if row.get("auroc", -1.0) > progress.best:
                    progress.best, progress.since_best = row["auroc"], 0
                    if config.patience and accelerator.is_main_process:
                        with replace_file(output / BEST) as part:
                            save_file(_contiguous(self.ema.module), part)
                else:
                    progress.since_best += 1
                accelerator.log(row, step=progress.epoch * len(self.train_loader))
                bar.set_postfix({key: f"{row[key]:.4f}" for key in ("loss", "auroc") if key in row})
                save(accelerator, output, progress)
        if config.patience and (output / BEST).is_file():
            self.ema.module.load_state_dict(load_file(output / BEST))
        return True

    def _stopped(self, progress: Progress) -> bool:
        return bool(self.config.patience) and progress.since_best >= self.config.patience

    def _epoch(self, epoch: int, bar: Any) -> dict[str, float]:
        config = self.config
        # Seeded by the epoch, so that dropout after a resume is that of an uninterrupted run.
        set_seed((config.seed * 100_003 + epoch) % 2**31, device_specific=True)
        self.sampler.epoch = epoch
        bare = self.accelerator.unwrap_model(self.net)
        set_training(self.net, bare.backbone, config.freeze)
        sums, step, taken, began = torch.zeros(6, device=self.accelerator.device), 0, 0, time.monotonic()
        for drawn in self.train_loader:
            batch = mixup(drawn, config.mixup) if config.mixup else drawn
            with self.accelerator.autocast():
                output = self.net(self._input(batch["image"]))
                target = self.teacher(batch["image"]) if self.teacher else None
            loss = terms(output, batch, self.labels, config, self.class_weights, target)
            self.accelerator.backward(loss.total)
            if config.clip_grad:
                self.accelerator.clip_grad_norm_(self.net.parameters(), config.clip_grad)
            self.optimiser.step()
            self.scheduler.step()
            self.optimiser.zero_grad()
            step += 1
            bar.update()
            self.ema.update(bare, step=epoch * len(self.train_loader) + step + 1)
            # fp16 skips steps whose scaled gradients overflow: that sets its scale and is no fault.
            if not self.accelerator.optimizer_step_was_skipped:
                taken += 1
                # Summed on the device: reading a value each step would make a GPU wait.
                parts = (loss.total, loss.classes, loss.lesion, loss.inside, loss.birads, loss.distillation)
                sums += torch.stack(parts).detach()
            if step % _STEPS_BETWEEN_CHECKS == 0:
                self._require_finite([sums], "loss", epoch, step)
        # Not a number where every step was skipped.
        means = self.accelerator.reduce(sums / taken, reduction="mean")
        self._require_finite([means], "loss", epoch, step)
        self._require_finite(self.stored_tensors(bare), "state of the network", epoch, step)
        names = ("loss", "loss_classes", "loss_lesion", "loss_inside", "loss_birads", "loss_distillation")
        row = dict(zip(names, means.tolist(), strict=True))
        return row | {"epoch": epoch + 1.0, "lr": self.scheduler.get_last_lr()[0], "seconds": time.monotonic() - began}

    def stored_tensors(self, bare: torch.nn.Module) -> Iterable[Tensor]:
        """Every tensor that a state keeps."""
        yield from bare.state_dict().values()
        yield from self.ema.module.state_dict().values()
        for moments in self.optimiser.state.values():
            yield from (value for value in moments.values() if torch.is_tensor(value))

    def _require_finite(self, tensors: Iterable[Tensor], what: str, epoch: int, step: int) -> None:
        infinite = torch.zeros((), device=self.accelerator.device)
        for values in tensors:
            if values.is_floating_point():
                infinite += (~torch.isfinite(values)).any()
        # Every process stops where one of them has to.
        if self.accelerator.reduce(infinite, reduction="sum").item() == 0:
            return
        config = self.config
        remedies = [f"a lower --lr (it is {config.lr:g})"]
        remedies += [] if config.clip_grad else ["--clip_grad 1"]
        remedies += ["--mixed_precision no"] if self.accelerator.mixed_precision == "fp16" else []
        kept = f", after which the state of epoch {epoch} is kept" if epoch else ""
        raise BusError(
            f"the {what} is not finite in epoch {epoch + 1} of {config.epochs}, at step {step} of "
            f"{len(self.train_loader)}{kept}",
            where=config.output,
            remedy=f"start over with {' or '.join(remedies)}, in another --output or with --no-resume",
        )

    def validate(self, epoch: int) -> float:
        """AUROC of the averaged weights on the held-out whole views (macro one-against-rest for more classes)."""
        scores = np.zeros((len(self.y_val), self.labels.num_logits))
        for batch in self.val_loader:
            with torch.inference_mode():
                logits = self.ema.module(self._input(batch["image"])).logits.float()
            gathered, index = self.accelerator.gather_for_metrics((logits, batch["index"]))
            scores[index.cpu().numpy()] = gathered.cpu().numpy()
        self._require_finite([torch.from_numpy(scores)], "logit of a held-out image", epoch, len(self.train_loader))
        if scores.shape[1] == 1:
            return float(auroc(self.y_val, scores[:, 0]))
        each = [auroc((self.y_val == k).astype(int), scores[:, k]) for k in range(scores.shape[1])]
        return float(np.mean(each))

    def _input(self, images: Tensor) -> Tensor:
        cfg = self.ema.module.backbone.pretrained_cfg
        batch = normalised(images, cfg["mean"], cfg["std"])
        return batch.contiguous(memory_format=torch.channels_last) if self.config.channels_last else batch


def _contiguous(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous().clone() for name, value in net.state_dict().items()}
