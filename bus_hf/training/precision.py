"""Which arithmetic a run uses on its device."""

from __future__ import annotations

import os

import torch

from bus_hf.errors import BusError

_KNOWN = ("no", "fp16", "bf16")


def usable(wanted: str, device: torch.device, launched: str | None = None) -> tuple[str, str | None]:
    """The precision to train in, and one sentence where it is not the one that was asked for.

    What the config says goes before what `accelerate launch` says, and that before auto.

    Args:
        wanted: `mixed_precision` of a config: auto, no, fp16 or bf16.
        device: that the run trains on.
        launched: `--mixed_precision` of accelerate launch, which is "no" too where nobody asked; None without it.

    Returns:
        no, fp16 or bf16, as accelerate takes them, and that sentence, or None.

    Raises:
        BusError: accelerate launch asks for a precision that this training does not have, or the device cannot do it.
    """
    chosen, notes = wanted, []
    if wanted == "auto" and launched not in (None, "no"):
        chosen = str(launched)
        if chosen not in _KNOWN:
            raise BusError(
                f"accelerate launch asks for mixed_precision {chosen}",
                where="accelerate launch",
                remedy=f"choose one of {', '.join(_KNOWN)}",
            )
    elif wanted == "auto":
        chosen = "fp16" if device.type == "cuda" else "no"
        if launched == "no" and chosen != "no":
            notes.append(
                "accelerate launch says no mixed precision, as it does where nobody asks, so the run chooses fp16; "
                "give --mixed_precision no behind train_accelerate.py for float32"
            )
    elif launched not in (None, "no", wanted):
        notes.append(f"mixed_precision {wanted} of the settings goes before {launched} of accelerate launch")
    if chosen == "fp16" and device.type == "cpu":
        raise BusError(
            "fp16 needs a GPU", where="mixed_precision", remedy="choose no or bf16 on a CPU, or leave it at auto"
        )
    if chosen == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        # Emulated, a step of ConvNeXt-Tiny was seen to take twenty times as long as in float32.
        chosen = "no"
        notes.append("this CPU has no bfloat16 arithmetic, so the run uses float32, which is many times quicker here")
    return chosen, "; ".join(notes) or None


def launched_precision() -> str | None:
    """`--mixed_precision` of the accelerate launch that started this process, None where none did."""
    return (os.environ.get("ACCELERATE_MIXED_PRECISION") or "").lower() or None


def cpu_has_bf16() -> bool:
    """Whether PyTorch's CPU kernels find instructions for bfloat16 here."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
