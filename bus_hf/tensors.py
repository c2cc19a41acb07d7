"""Safetensors from bytes, their header checked before anything is allocated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from bus_hf.errors import BusError

_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I64": 8}
# Limits: bytes of the header, tensors in a file, dimensions of a tensor.
_HEADER, _COUNT, _DIMENSIONS = 4 << 20, 10_000, 8
_REMEDY = "download or export the member again"


def header(data: bytes, file: Path) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor by name.

    Raises:
        BusError: the file is no safetensors, holds a type that weights do not have, or its sizes do not fit its length.
    """

    def damaged(why: str) -> BusError:
        return BusError(f"{file.name} is damaged ({why})", where=file.parent, remedy=_REMEDY)

    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(_HEADER, len(data) - 8):
        raise damaged("it has no header")
    try:
        entries: dict[str, Any] = json.loads(data[8 : 8 + length])
        entries.pop("__metadata__", None)
        shapes, total = {}, 0
        for name, entry in entries.items():
            kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
            if kind not in _BYTES or not whole or len(shape) > _DIMENSIONS:
                raise damaged("a tensor of an odd kind")
            if math.prod(shape) * _BYTES[kind] != end - start:
                raise damaged("a tensor of another size than it says")
            shapes[name] = tuple(shape)
            total += end - start
    except BusError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged("its header cannot be read") from None
    if len(shapes) > _COUNT or total != len(data) - 8 - length:
        raise damaged("its tensors do not fit its size")
    return shapes


def tensors(data: bytes, file: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, those of floating point as float32; `file` is what errors name.

    Raises:
        BusError: as for `header`, or a number that is not finite.
    """
    header(data, file)
    try:
        loaded = load(data)
    except (SafetensorError, ValueError, RuntimeError):
        raise BusError(f"{file.name} is damaged", where=file.parent, remedy=_REMEDY) from None
    values = {name: value.float() if value.is_floating_point() else value for name, value in loaded.items()}
    if not all(torch.isfinite(value).all() for value in values.values()):
        raise BusError(f"a number in {file.name} is not finite", where=file.parent, remedy=_REMEDY)
    return values
