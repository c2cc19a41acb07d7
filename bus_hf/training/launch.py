"""How a run was started: its processes, their precision, and what only the first of them does."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    ProjectConfiguration,
    broadcast_object_list,
)

from bus_hf.config import TrainConfig
from bus_hf.errors import BusError
from bus_hf.training.precision import launched_precision, usable

Result = TypeVar("Result")
# They keep weights and states in other forms than this training saves.
_UNSUPPORTED = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM, DistributedType.XLA)


def accelerator_for(config: TrainConfig) -> Accelerator:
    """The accelerator of a run, as the config, torchrun or accelerate launch ask; it prints what is decided otherwise.

    Raises:
        BusError: what they ask for does not go together, or this training does not have it.
    """
    # Without cpu=True accelerate makes of torchrun's processes on a CPU as many runs of one process each.
    cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "on") or not (
        torch.accelerator.is_available()
    )
    state = PartialState(cpu=cpu)
    precision, note = usable(config.mixed_precision, state.device, launched_precision())
    # A lesion head that nothing trains has no gradients for DDP to wait for.
    idle = DistributedDataParallelKwargs(find_unused_parameters=not config.lesion_weight)
    try:
        accelerator = Accelerator(
            cpu=cpu,
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
    _check(accelerator, config)
    for sentence in filter(None, (note, _alone(accelerator))):
        accelerator.print(sentence)
    return accelerator


def on_main(accelerator: Accelerator, act: Callable[[], Result]) -> Result:
    """Run `act` in the first process; every process gets its result or its BusError, so that none waits for ever."""
    outcome: list[Result | BusError | None] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [act()]
        except BusError as error:
            outcome = [error]
    broadcast_object_list(outcome)
    if isinstance(outcome[0], BusError):
        raise outcome[0]
    return outcome[0]  # type: ignore[return-value]


def _check(accelerator: Accelerator, config: TrainConfig) -> None:
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != asked:
        raise BusError(
            f"{asked} processes were started and do not find together on {accelerator.device.type}",
            where="launcher",
            remedy="start one process, or set ACCELERATE_USE_CPU=true",
        )
    if accelerator.distributed_type in _UNSUPPORTED:
        raise BusError(
            f"the launcher asks for {accelerator.distributed_type.value}",
            where="accelerate launch",
            remedy="choose one process or plain data parallelism (--multi_gpu), which are what this training has",
        )
    if accelerator.gradient_accumulation_steps != 1:
        raise BusError(
            f"the launcher asks for {accelerator.gradient_accumulation_steps} steps of gradient accumulation",
            where="accelerate launch",
            remedy="leave them out; where memory is short, give a smaller --batch_size or --input_size",
        )
    if config.batch_size % accelerator.num_processes:
        raise BusError(
            f"batch_size {config.batch_size} cannot be shared by {accelerator.num_processes} processes",
            where="training config",
            remedy="give a multiple of their number",
        )


def _alone(accelerator: Accelerator) -> str | None:
    # accelerate launch sets an address where it was asked for several processes, and on a CPU starts one all the same.
    asked = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if accelerator.num_processes == 1 and asked and "LOCAL_RANK" not in os.environ:
        return "accelerate launch started one process only; torchrun --nproc_per_node N starts several on a CPU"
    return None
