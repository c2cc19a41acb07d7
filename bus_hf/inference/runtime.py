"""Runtimes: a batch of squares in, logits and maps out, whatever computes them. None is imported until it is opened."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bus_hf.ensemble.folder import member_bytes, member_folder, parts
from bus_hf.ensemble.manifest import Ensemble
from bus_hf.ensemble.member_config import MemberConfig, parse_config
from bus_hf.errors import BusError
from bus_hf.filenames import CONFIG
from bus_hf.labels import label_set
from bus_hf.probabilities import check_finite


@dataclass(frozen=True)
class Outputs:
    """What one member gives of N views.

    Args:
        logits: float32 (N, K).
        cams: float32 (N, K, h, w), the share of each place in the logits: their mean plus a bias is the logit.
        lesion: float32 (N, h', w'), probability of a lesion; None unless the member owns the lesion map.
    """

    logits: np.ndarray
    cams: np.ndarray
    lesion: np.ndarray | None

    def __post_init__(self) -> None:
        """Refuse what is not finite, whatever computed it: every comparison with NaN is false, which reads "benign"."""
        check_finite("an answer of a network", self.logits, self.cams, *(() if self.lesion is None else (self.lesion,)))


class Runtime(Protocol):
    """Members ready to run; safe to call from several threads.

    `side_by_side` says that calls from several threads at once are quicker than one after another.
    """

    side_by_side: bool

    @property
    def device(self) -> object:
        """What the members run on; its text, such as "cpu", is shown."""

    def input_size(self, member: str) -> int:
        """Side in pixels of the squares that `member` takes."""

    def __call__(self, member: str, images: np.ndarray) -> Outputs:
        """Run `member` on uint8 grey squares (N, S, S), S its input size."""


def open_runtime(
    folder: str | Path, ensemble: Ensemble, device: str | None = None, members: Sequence[str] | None = None
) -> Runtime:
    """Load the chosen members (all for None) and the owner of the lesion map.

    On a CPU their graphs run, without torch; on a GPU, or where a member has no graph, torch runs them all. Every file
    is read once and checked against the manifest's hash; those bytes are loaded.

    Args:
        folder: the ensemble folder.
        ensemble: its manifest.
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.
        members: names as in `folder.choose_members`.

    Raises:
        BusError: a member that is not the manifest's or cannot be loaded, or a device that is not there.
    """
    graphs = all(part.graph_sha256 for part in parts(ensemble, members))
    if graphs and (device == "cpu" or (device is None and not _has_gpu())):
        from bus_hf.inference.onnx_runtime import OnnxRuntime

        return OnnxRuntime(folder, ensemble, members=members)
    from bus_hf.inference.torch_runtime import TorchRuntime

    return TorchRuntime(folder, ensemble, device=device, members=members)


def _has_gpu() -> bool:
    """Whether torch has a GPU here; it is asked only beside a GPU's driver, since its import takes seconds."""
    if importlib.util.find_spec("torch") is None:
        return False
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()


def check_squares(member: str, images: np.ndarray, size: int) -> None:
    """ValueError unless `images` are uint8 grey squares (N, size, size)."""
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (size, size):
        raise ValueError(f"{member} reads uint8 (N, {size}, {size}), not {images.dtype} {images.shape}")


@dataclass(frozen=True)
class Part:
    """A part as it was read: where it lies, its configuration, and its files by name, checked against the manifest."""

    name: str
    home: Path
    config: MemberConfig
    files: dict[str, bytes]


def read_parts(folder: str | Path, ensemble: Ensemble, members: Sequence[str] | None = None) -> Iterator[Part]:
    """Each needed part, one at a time; BusError when its outputs are not those of its label set."""
    classifier = ensemble.lesion_type
    for member in parts(ensemble, members):
        classes = label_set(classifier.label_set if classifier and member is classifier.member else ensemble.label_set)
        names = classes.output_names
        home = member_folder(folder, member)
        files = member_bytes(folder, ensemble, member)
        config = parse_config(files[CONFIG], home)
        if config.num_logits != classes.num_logits or config.label_names != names:
            raise BusError(
                f"its outputs ({', '.join(config.label_names)[:100]}) are not those of the label set '{classes.name}'",
                where=home,
                remedy=f"export a member trained on {', '.join(names)}",
            )
        yield Part(member.name, home, config, files)
