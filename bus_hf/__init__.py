"""Read breast ultrasound: how likely a malignant lesion is, where, and how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bus_hf.inference.detector import BreastCancerDetector as BreastCancerDetector

__all__ = ["BreastCancerDetector"]


def __getattr__(name: str) -> Any:
    # Training and tools import bus_hf too; only those who read images wait for OpenCV.
    if name == "BreastCancerDetector":
        from bus_hf.inference.detector import BreastCancerDetector

        return BreastCancerDetector
    raise AttributeError(f"module 'bus_hf' has no attribute '{name}'")
