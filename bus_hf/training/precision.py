"""Which arithmetic a run uses on its device."""

from __future__ import annotations

import torch


def usable(wanted: str, device: torch.device) -> tuple[str, str | None]:
    """The precision to train in, and one sentence where it is not the one that was asked for.

    Args:
        wanted: `mixed_precision` of a config: auto, no, fp16 or bf16.
        device: that the run trains on.

    Returns:
        no, fp16 or bf16, as accelerate takes them, and what to tell, or None.
    """
    if wanted == "auto":
        return "fp16" if device.type == "cuda" else "no", None
    if wanted == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        # Emulated, a step of ConvNeXt-Tiny was seen to take twenty times as long as in float32.
        return "no", "this CPU has no bfloat16 arithmetic, so the run uses float32, which is many times quicker here"
    return wanted, None


def cpu_has_bf16() -> bool:
    """Whether PyTorch's CPU kernels find instructions for bfloat16 here."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
