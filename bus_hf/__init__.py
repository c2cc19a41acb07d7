"""Breast ultrasound: how likely a malignant lesion is, where, and how sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bus_hf.errors import BusError as BusError
    from bus_hf.inference.detector import BreastCancerDetector as BreastCancerDetector
    from bus_hf.inference.prediction import Failure as Failure
    from bus_hf.inference.prediction import Prediction as Prediction

    __version__: str

__all__ = ["BreastCancerDetector", "BusError", "Failure", "Prediction", "__version__"]

_MODULES = {
    "BreastCancerDetector": "bus_hf.inference.detector",
    "BusError": "bus_hf.errors",
    "Failure": "bus_hf.inference.prediction",
    "Prediction": "bus_hf.inference.prediction",
}


def __getattr__(name: str) -> Any:
    # Training and tools import bus_hf too; only those who run the detector wait for OpenCV.
    if name == "__version__":
        return _version()
    if name in _MODULES:
        from importlib import import_module

        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'bus_hf' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version in pyproject.toml: as installed, or of the source tree that is not."""
    from importlib import metadata
    from pathlib import Path

    try:
        return metadata.version("bus-hf")
    except metadata.PackageNotFoundError:
        import tomllib

        pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
        # A copy of the package alone, as on a Space, has neither.
        return tomllib.loads(pyproject.read_text())["project"]["version"] if pyproject.is_file() else "unknown"
