"""A teacher that reads the very squares the student trains on (function matching: L. Beyer et al., CVPR 2022)."""

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
        """Read grey (N, S, S), 0 to 255; returns (N, K) logits and the (N, channels, h, w) last feature map.

        The squares are brought to the teacher's own input size first, at which it learned.
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


def teacher(name: str, label_set: LabelSet, device: torch.device) -> Teacher:
    """Load a teacher from a member folder or a Hub id.

    What it knows of images that the student holds out would reach the student: `lineage.earlier_run` refuses that.

    Raises:
        BusError: no member is there, it tells apart other classes, or its weights are not finite.
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


def soft_class_loss(logits: Tensor, taught: Tensor) -> Tensor:
    """Cross-entropy of (N, K) logits against the teacher's probabilities (G. Hinton et al., 2015, temperature 1)."""
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(taught))
    return functional.cross_entropy(logits, torch.softmax(taught, dim=1))


def feature_loss(matched: Tensor, taught: Tensor) -> Tensor:
    """1 - correlation over channels, meaned over places, of the student's and the teacher's last feature map.

    Args:
        matched: (N, T, h, w), the student's in the teacher's channels.
        taught: (N, T, H, W), brought to (h, w) where it is another size.
    """
    if taught.shape[-2:] != matched.shape[-2:]:
        taught = functional.adaptive_avg_pool2d(taught, (matched.shape[-2], matched.shape[-1]))
    own, other = (value.float() - value.float().mean(1, keepdim=True) for value in (matched, taught))
    return 1 - functional.cosine_similarity(own, other, dim=1).mean()
