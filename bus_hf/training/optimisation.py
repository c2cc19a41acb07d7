"""Optimiser and schedule: what learns, how fast, and when."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from bus_hf.config import TrainConfig
from bus_hf.errors import BusError
from bus_hf.models import TrainingNet


def parameter_groups(net: TrainingNet, config: TrainConfig) -> list[dict[str, Any]]:
    """AdamW's groups: frozen parameters excluded, slow ones at a share of the rate, no decay on norms and biases.

    Prefixes in `config.freeze` and `config.slow` are those of timm's names (`layer1`, `blocks.0`).

    Raises:
        BusError: a prefix fits no parameter.
    """
    for prefix in (*config.freeze, *config.slow):
        if not any(_under(name, (prefix,)) for name, _ in net.backbone.named_parameters()):
            raise BusError(
                f"no parameter of {config.backbone} starts with '{prefix}'",
                where="training config",
                remedy="give prefixes of timm's names, such as layer1 or blocks.0",
            )
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        timm_name = name.removeprefix("backbone.")
        if _under(timm_name, config.freeze):
            parameter.requires_grad_(False)
            continue
        groups.setdefault((_under(timm_name, config.slow), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.lr * (config.slow_scale if slow else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (slow, decays), parameters in groups.items()
    ]


def set_training(net: nn.Module, backbone: nn.Module, frozen: Sequence[str]) -> None:
    """Put a network in training mode but for its frozen parts, whose norms keep their statistics."""
    net.train()
    for name, module in backbone.named_modules():
        if name and _under(name, frozen):
            module.eval()


def check_smallest_batch(net: TrainingNet, config: TrainConfig, draws: int, processes: int) -> None:
    """Try a step's forward pass with the fewest images that a process gets, on a copy of the network.

    Args:
        net: to be trained, on the CPU.
        config: of the run.
        draws: images drawn in an epoch.
        processes: that share a batch.

    Raises:
        BusError: a batch norm would be left with a single value a channel.
    """
    # Several processes fill up a short batch; one takes it as it is.
    fewest = config.batch_size // processes if processes > 1 else min(config.batch_size, draws)
    copied = copy.deepcopy(net)
    set_training(copied, copied.backbone, config.freeze)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            copied(torch.zeros(min(fewest, 2), 3, config.input_size, config.input_size))
    except ValueError:
        share = f"{fewest} image{'s' * (fewest > 1)}{' in each process' * (processes > 1)}"
        raise BusError(
            f"a batch of {share} at {config.input_size} pixels leaves a batch norm of {config.backbone} a single value",
            where="training config",
            remedy=f"give --batch_size {2 * processes} or more, with as many images, or a larger --input_size",
        ) from None


def schedule(optimiser: torch.optim.Optimizer, config: TrainConfig, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then half a cosine to 1 % over `config.epochs` epochs of `steps` steps each."""
    total, warmup = config.epochs * steps, config.warmup_epochs * steps

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1.0)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _under(name: str, prefixes: Sequence[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
