"""Loss terms: the classes, the lesion's mask, evidence inside it, and the BI-RADS category."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bus_hf.config import TrainConfig
from bus_hf.labels import LabelSet
from bus_hf.models import BIRADS_STEPS, TrainingOutput
from bus_hf.training.distillation import feature_loss, soft_class_loss


@dataclass(frozen=True)
class Terms:
    """Loss terms of a batch, each a scalar; `total` is their weighted sum.

    `distillation` is the class loss against a teacher's probabilities plus the distance to its features, 0 without
    one.
    """

    total: Tensor
    classes: Tensor
    lesion: Tensor
    inside: Tensor
    birads: Tensor
    distillation: Tensor


def class_weights(labels: Tensor, label_set: LabelSet) -> Tensor:
    """Weight of rare classes: negatives ÷ positives for one logit (shape (1,)), n ÷ (K · n_k) for K logits (K,)."""
    counts = torch.bincount(labels, minlength=len(label_set.classes)).clamp(min=1).float()
    if label_set.num_logits == 1:
        return counts[:1] / counts[1:2]
    return counts.sum() / (len(counts) * counts)


def class_loss(logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    """Cross-entropy of (N, K) logits with int (N,) labels: BCE for one logit (its `weights` a pos_weight), else CE."""
    if logits.shape[1] == 1:
        target = labels.float() * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits[:, 0], target, pos_weight=weights)
    return functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)


def lesion_loss(lesion: Tensor, mask: Tensor, has_mask: Tensor) -> Tensor:
    """BCE plus soft Dice of the lesion map (F. Milletari et al., "V-Net", 3DV 2016, squared denominator).

    Args:
        lesion: (N, h, w) logits.
        mask: (N, S, S) share of lesion in each pixel, 0 to 1.
        has_mask: bool (N,), False where the mask is not known: such an image is ignored.

    Returns:
        Scalar mean over the images with a mask. Dice counts only those with a lesion in the square.
    """
    known = has_mask.float()
    target = functional.adaptive_avg_pool2d(mask[:, None], (lesion.shape[-2], lesion.shape[-1]))[:, 0]
    pixels = functional.binary_cross_entropy_with_logits(lesion, target, reduction="none").mean((1, 2))
    shown = torch.sigmoid(lesion)
    overlap = (shown * target).sum((1, 2))
    extent = (shown * shown).sum((1, 2)) + (target * target).sum((1, 2))
    present = known * (target.sum((1, 2)) > 0)
    dice = 1 - (2 * overlap + 1e-3) / (extent + 1e-3)
    return (pixels * known).sum() / known.sum().clamp(min=1) + (dice * present).sum() / present.sum().clamp(min=1)


def inside_loss(cam: Tensor, mask: Tensor, counts: Tensor) -> Tensor:
    """1 - (positive evidence inside the slightly dilated mask ÷ all positive evidence).

    Args:
        cam: (N, h, w) class-activation map of the malignant class.
        mask: (N, S, S) lesion mask, 0 to 1; taking the maximum in each cell dilates it by up to a cell.
        counts: bool (N,), the images that count: malignant ones whose mask is known.
    """
    area = functional.adaptive_max_pool2d(mask[:, None], (cam.shape[-2], cam.shape[-1]))[:, 0]
    evidence = cam.clamp(min=0)
    share = (evidence * area).sum((1, 2)) / (evidence.sum((1, 2)) + 1e-6)
    used = (counts & (area.sum((1, 2)) > 0)).float()
    return ((1 - share) * used).sum() / used.sum().clamp(min=1)


def birads_loss(logits: Tensor, category: Tensor) -> Tensor:
    """Ordinal loss of the BI-RADS category: BCE of "at least 3", "at least 4" and "at least 5".

    E. Frank, M. Hall, "A simple approach to ordinal classification", ECML 2001.

    Args:
        logits: (N, 3).
        category: int (N,), 0 where it is not known: such an image is ignored.
    """
    known = (category > 0).float()
    target = (category[:, None] >= category.new_tensor(BIRADS_STEPS)).float()
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(1)
    return (each * known).sum() / known.sum().clamp(min=1)


def terms(
    output: TrainingOutput,
    batch: dict[str, Tensor],
    label_set: LabelSet,
    config: TrainConfig,
    weights: Tensor | None,
    target: tuple[Tensor, Tensor] | None = None,
) -> Terms:
    """Loss terms of one batch of `TrainingImages`; a term of weight 0 is not computed.

    Args:
        output: of the network.
        batch: its inputs, of `TrainingImages` or `mixup`.
        label_set: of the labels.
        config: gives the weights of the terms and the label smoothing.
        weights: of `class_weights`, or None.
        target: a teacher's (N, K) logits and (N, T, h, w) last feature map of the same squares, or None.
    """
    logits, cam, lesion = output.logits.float(), output.cam.float(), output.lesion.float()
    mask = batch["mask"].float() / 255
    zero = logits.new_zeros(())
    classes = class_loss(logits, batch["label"], config.label_smoothing, weights)
    if "other" in batch:
        second = class_loss(logits, batch["other"], config.label_smoothing, weights)
        classes = batch["share"] * classes + (1 - batch["share"]) * second
    on_mask = lesion_loss(lesion, mask, batch["has_mask"]) if config.lesion_weight else zero
    malignant = batch["has_mask"] & (batch["label"] == label_set.cancer)
    if "other" in batch:
        # Of a malignant and a benign lesion blended, the mask does not say which is which.
        malignant = malignant & (batch["other"] == label_set.cancer)
    inside = inside_loss(cam[:, -1], mask, malignant) if config.inside_weight else zero
    birads = zero if output.birads is None else birads_loss(output.birads.float(), batch["birads"])
    total = config.lesion_weight * on_mask + config.inside_weight * inside + config.birads_weight * birads
    if target is None or output.matched is None:
        return Terms(total + classes, classes, on_mask, inside, birads, zero)
    soft = soft_class_loss(logits, target[0])
    features = feature_loss(output.matched, target[1])
    total = (
        total + (1 - config.teacher_weight) * classes + config.teacher_weight * soft + config.feature_weight * features
    )
    return Terms(total, classes, on_mask, inside, birads, soft + features)
