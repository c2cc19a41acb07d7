"""Distillation from a teacher that sees the student's own training squares (L. Beyer et al., CVPR 2022)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bus_hf.errors import BusError
from bus_hf.filenames import WEIGHTS
from bus_hf.labels import LabelSet
from bus_hf.models import input_size, load_member
from bus_hf.training.batches import normalised
from bus_hf.training.pretrained import pulled, require_finite


@dataclass(frozen=True)
class Teacher:
    """A member in eval mode; `channels` are those of its last feature map, `input_size` its side in pixels.

    `sha256` is that of its weights.
    """

    backbone: Any
    channels: int
    input_size: int
    sha256: str

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float32 (N, K) logits and (N, channels, h, w) last feature map of grey (N, S, S) squares, 0 to 255.

        The squares are resized to the teacher's input size first.
        """
        cfg = self.backbone.pretrained_cfg
        batch = normalised(images, cfg["mean"], cfg["std"])
        if batch.shape[-1] != self.input_size:
            batch = functional.interpolate(batch, self.input_size, mode="bilinear", antialias=True)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            features = self.backbone.forward_features(batch)
            logits = self.backbone.forward_head(features)
        # Tensors of inference mode cannot be saved for backward.
        return logits.float().clone(), features.float().clone()


def load_teacher(name: str, label_set: LabelSet, device: torch.device) -> Teacher:
    """Load a teacher from a member folder or a Hub id.

    `lineage.earlier_run` refuses a teacher that learned from images that the student holds out.

    Raises:
        BusError: there is no member, it has another label set, or its weights are not finite.
    """
    path = Path(name)
    folder = path if path.exists() else pulled(name)
    backbone = load_member(folder, device).to(memory_format=torch.channels_last)
    if backbone.num_classes != label_set.num_logits:
        raise BusError(
            f"the teacher has {backbone.num_classes} outputs where '{label_set.name}' has {label_set.num_logits}",
            where=name,
            remedy="choose a teacher of the same label set",
        )
    require_finite(backbone, name)
    weights = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    return Teacher(backbone, backbone.num_features, input_size(folder), weights)


def soft_class_loss(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of (N, K) logits against the probabilities of (N, K) teacher logits (G. Hinton et al., 2015)."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(teacher_logits))
    return functional.cross_entropy(logits, torch.softmax(teacher_logits, dim=1))


def feature_loss(matched: Tensor, target: Tensor) -> Tensor:
    """1 - correlation over channels, averaged over places, of the student's and the teacher's last feature map.

    Args:
        matched: (N, T, h, w), the student's in the teacher's channels.
        target: (N, T, H, W), the teacher's; pooled to (h, w) where it is another size.
    """
    if target.shape[-2:] != matched.shape[-2:]:
        target = functional.adaptive_avg_pool2d(target, (matched.shape[-2], matched.shape[-1]))
    centred, target = (value.float() - value.float().mean(1, keepdim=True) for value in (matched, target))
    return 1 - functional.cosine_similarity(centred, target, dim=1).mean()
