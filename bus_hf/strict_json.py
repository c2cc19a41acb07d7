"""JSON files into frozen dataclasses, strictly: unknown, missing and doubled keys and wrong types are errors."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from pathlib import Path
from typing import Any

from bus_hf.errors import BusError

# Our files are a few kilobytes; a larger one is something else.
_MAX_BYTES = 1 << 20


def load(path: Path, remedy: str) -> Any:
    """Parse a JSON file; BusError with `remedy` where it is missing, too large, or no JSON."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BusError(f"the file cannot be read ({error.strerror})", where=path, remedy=remedy) from None
    return loads(data, path, remedy)


def loads(data: bytes, path: Path, remedy: str) -> Any:
    """Parse the bytes of a JSON file, as `load`."""
    try:
        if len(data) > _MAX_BYTES:
            raise BusError("the file is larger than 1 MiB", where=path, remedy=remedy)
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except BusError as error:
        raise BusError(error.what, where=path, remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BusError(f"the file is not valid JSON{line}", where=path, remedy=remedy) from None


def finite(text: str) -> Any:
    """`json.loads` without NaN, Infinity and numbers too large for a float, which are ValueErrors."""
    return json.loads(text, parse_constant=_number, parse_float=_number)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


def typed(value: Any, kind: Any, at: str) -> Any:
    """Return `value`, as JSON gave it, as `kind`.

    Args:
        value: what `json.loads` returned.
        kind: str, int, float (finite), a dataclass, `kind | None`, `dict[str, kind]`, `tuple[kind, ...]` or a tuple of
            fixed length.
        at: name of the value in error messages, such as "members[0].weight".

    Raises:
        BusError: a wrong type, or an unknown or missing key; says which.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        inner = next(arg for arg in args if arg is not type(None))
        return None if value is None else typed(value, inner, at)
    if dataclasses.is_dataclass(kind):
        return _record(value, kind, at)
    if origin is dict and isinstance(value, dict):
        return {key: typed(entry, args[1], f"{at}.{key}") for key, entry in value.items()}
    if origin is tuple and isinstance(value, list):
        kinds = [args[0]] * len(value) if args[1:] == (...,) else list(args)
        if len(kinds) == len(value):
            pairs = enumerate(zip(value, kinds, strict=True))
            return tuple(typed(entry, entry_kind, f"{at}[{index}]") for index, (entry, entry_kind) in pairs)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and _finite(value):
        return float(value)
    if kind in (str, int) and isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise BusError(f"{at or 'the file'} is {_short(value)}", remedy=f"give {_described(kind)}")


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # A whole number of hundreds of digits.
        return False


def _record(value: Any, kind: Any, at: str) -> Any:
    if not isinstance(value, dict):
        raise BusError(f"{at or 'the file'} is {_short(value)}", remedy=f"give {_described(kind)}")
    hints = typing.get_type_hints(kind)
    place = f" in {at}" if at else ""
    for key in value:
        if key not in hints:
            raise BusError(f"unknown key '{key}'{place}", remedy="take it out, or update bus_hf if it is new")
    for key in hints:
        if key not in value:
            raise BusError(f"the key '{key}' is missing{place}", remedy="add it")
    return kind(**{key: typed(value[key], hint, f"{at}.{key}".lstrip(".")) for key, hint in hints.items()})


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BusError("a key stands twice in one object", remedy="keep one of them")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _described(kind: Any) -> str:
    plain = {str: "a text", int: "a whole number", float: "a finite number"}
    if kind in plain:
        return plain[kind]
    if typing.get_origin(kind) is tuple:
        args = typing.get_args(kind)
        return "a list" if args[1:] == (...,) else f"a list of {len(args)}"
    return "an object"
