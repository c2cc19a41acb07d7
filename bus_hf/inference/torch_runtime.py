"""The PyTorch runtime: timm backbones on CPU or GPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bus_hf.ensemble.manifest import Ensemble
from bus_hf.errors import BusError
from bus_hf.filenames import WEIGHTS
from bus_hf.inference.runtime import Outputs, check_squares, read_parts
from bus_hf.models import build, class_activation, lesion_logits
from bus_hf.tensors import tensors

# A forked child has none of the threads that its parent's OpenMP pool waits for: with more than one it would hang.
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True)
class _Loaded:
    # A timm backbone; nn.Module does not declare its forward_features and forward_head.
    model: Any
    input_size: int
    mean: Tensor
    std: Tensor
    lesion_head: tuple[Tensor, Tensor] | None


class TorchRuntime:
    """Members of an ensemble, loaded once in float32.

    Args:
        folder: the ensemble folder.
        ensemble: its manifest.
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.
        members: names as in `folder.choose_members`; the owner of the lesion map is always loaded.
        autocast: compute in fp16 on CUDA; faster, and no longer equal to the last digit.

    Raises:
        BusError: a member that cannot be loaded, or a device that is not there.
    """

    side_by_side = False

    def __init__(
        self,
        folder: str | Path,
        ensemble: Ensemble,
        *,
        device: str | None = None,
        members: Sequence[str] | None = None,
        autocast: bool = False,
    ) -> None:
        self.device = _device(device)
        self._process = os.getpid()
        self._autocast = autocast and self.device.type == "cuda"
        self._members: dict[str, _Loaded] = {}
        for part in read_parts(folder, ensemble, members):
            config, file = part.config, ensemble.lesion_map.file
            weights = part.files[WEIGHTS]
            model = build(config.architecture, config.num_logits, config.model_args, weights, part.home / WEIGHTS)
            model = model.to(self.device).to(memory_format=torch.channels_last)
            head = _lesion_head(part.files[file], part.home / file, model, self.device) if file in part.files else None
            mean, std = (
                torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (config.mean, config.std)
            )
            self._members[part.name] = _Loaded(model, config.input_size, mean, std, head)

    def input_size(self, member: str) -> int:
        """Side in pixels of the squares that `member` takes."""
        return self._members[member].input_size

    def __call__(self, member: str, images: np.ndarray) -> Outputs:
        """Run `member` on uint8 grey squares (N, S, S), S its input size."""
        if self.device.type == "cuda" and os.getpid() != self._process:
            raise BusError(
                "a forked process cannot use the GPU that its parent opened",
                remedy="load the detector in the new process, or start it with the method 'spawn'",
            )
        loaded = self._members[member]
        check_squares(member, images, loaded.input_size)
        lesion = None
        with torch.inference_mode(), self._precision():
            grey = torch.from_numpy(np.ascontiguousarray(images)).to(self.device).float().div_(255)
            pixels = (grey[:, None] - loaded.mean) / loaded.std
            features = loaded.model.forward_features(pixels.contiguous(memory_format=torch.channels_last))
            logits = loaded.model.forward_head(features)
            cams = class_activation(loaded.model, features)
            if loaded.lesion_head is not None:
                lesion = _array(lesion_logits(features, *loaded.lesion_head).float().sigmoid())
        return Outputs(_array(logits), _array(cams), lesion)

    def _precision(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cuda", torch.float16) if self._autocast else contextlib.nullcontext()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().contiguous().numpy()


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # Only an allocation shows whether the device is there.
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise BusError(f"there is no device '{name}' on this machine", remedy="take 'cpu', or None to choose") from None
    return device


def _lesion_head(data: bytes, file: Path, model: nn.Module, device: torch.device) -> tuple[Tensor, Tensor]:
    """Read weight (r*r, C, 1, 1) and bias (r*r) of a lesion head for the C channels of `model` from a file's bytes."""
    remedy = "export the member that owns the lesion map again"
    try:
        stored = tensors(data, file)
        weight, bias = stored["weight"], stored["bias"]
    except KeyError:
        raise BusError("the lesion head cannot be read", where=file, remedy=remedy) from None
    cells = weight.shape[0] if weight.ndim == 4 else 0
    if round(cells**0.5) ** 2 != cells or weight.shape != (cells, model.num_features, 1, 1) or bias.shape != (cells,):
        raise BusError("the lesion head does not fit its member", where=file, remedy=remedy)
    return weight.to(device), bias.to(device)
