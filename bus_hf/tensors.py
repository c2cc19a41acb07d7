"""Safetensors from bytes, their header checked before anything is allocated; torch only where tensors are made."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bus_hf.errors import BusError

if TYPE_CHECKING:
    import torch

_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "I64": 8}
# Numbers as whole ones, and the bits of their exponent: where all of them are set it is an infinity or no number.
_EXPONENTS = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}
# Limits: bytes of the header, tensors in a file, dimensions of a tensor.
_HEADER, _COUNT, _DIMENSIONS = 4 << 20, 10_000, 8
_REMEDY = "download or export the member again"


class Stored(NamedTuple):
    """A tensor as it lies in a file: its type ("F16", "BF16", "F32", "I64"), its shape, and the bytes `start:end`."""

    kind: str
    shape: tuple[int, ...]
    start: int
    end: int


def table(data: bytes, file: Path) -> dict[str, Stored]:
    """Where each tensor of a safetensors file lies, by name; they follow the header without a gap.

    Raises:
        BusError: the file is no safetensors, holds a type that weights do not have, or its sizes do not fit its length.
    """

    def damaged(why: str) -> BusError:
        return BusError(f"{file.name} is damaged ({why})", where=file.parent, remedy=_REMEDY)

    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(_HEADER, len(data) - 8):
        raise damaged("it has no header")
    first = 8 + length
    try:
        entries: dict[str, Any] = json.loads(data[8:first])
        entries.pop("__metadata__", None)
        stored = {}
        for name, entry in entries.items():
            kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
            if kind not in _BYTES or not whole or len(shape) > _DIMENSIONS:
                raise damaged("a tensor of an odd kind")
            if math.prod(shape) * _BYTES[kind] != end - start:
                raise damaged("a tensor of another size than it says")
            stored[name] = Stored(kind, tuple(shape), first + start, first + end)
    except BusError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise damaged("its header cannot be read") from None
    ranges = sorted((tensor.start, tensor.end) for tensor in stored.values())
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
    if len(stored) > _COUNT or [*starts, len(data)] != [first, *ends]:
        raise damaged("its tensors do not fit its size")
    return stored


def finite_table(data: bytes, file: Path) -> dict[str, Stored]:
    """`table` of a file whose numbers are all finite.

    Raises:
        BusError: as for `table`, or a number that is not finite.
    """
    stored = table(data, file)
    for tensor in stored.values():
        if tensor.kind not in _EXPONENTS:
            continue
        kind, exponent = _EXPONENTS[tensor.kind]
        bits = np.frombuffer(data, kind, math.prod(tensor.shape), tensor.start)
        if ((bits & exponent) == exponent).any():
            raise BusError(f"a number in {file.name} is not finite", where=file.parent, remedy=_REMEDY)
    return stored


def tensors(data: bytes, file: Path) -> dict[str, torch.Tensor]:
    """Tensors by name, those of floating point as float32; `file` is what errors name.

    Raises:
        BusError: as for `finite_table`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    finite_table(data, file)
    try:
        loaded = load(data)
    except (SafetensorError, ValueError, RuntimeError):
        raise BusError(f"{file.name} is damaged", where=file.parent, remedy=_REMEDY) from None
    return {name: value.float() if value.is_floating_point() else value for name, value in loaded.items()}
