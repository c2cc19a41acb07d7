"""JSON files and settings checked by pydantic, whose first complaint becomes one BusError."""

from __future__ import annotations

import json
import types
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from bus_hf.errors import BusError

T = TypeVar("T")

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

# Our files are a few kilobytes; a larger one is something else.
_MAX_BYTES = 1 << 20
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
_TOO_SHORT_OR_LONG = ("missing", "too_long", "unexpected_positional_argument")
_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
# What a value should have been, by the kind of pydantic's error up to its first "_".
_WANTED = {
    "string": "a text",
    "int": "a whole number",
    "float": "a finite number",
    "finite": "a finite number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "an object",
    "dataclass": "an object",
}


def read_bytes(path: Path, remedy: str) -> bytes:
    """The bytes of a file, one more than `decode` takes at the most; BusError with `remedy` where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise BusError(f"the file cannot be read ({error.strerror})", where=path, remedy=remedy) from None


def decode(data: bytes, where: object, remedy: str) -> Any:
    """Parse JSON in which no key stands twice in one object.

    Args:
        data: UTF-8, at most 1 MiB.
        where: names the file in errors.
        remedy: what to do about a file that is none.

    Raises:
        BusError: too large, no JSON, nested too deeply, or a doubled key. NaN and infinities are left to `validate`.
    """
    if len(data) > _MAX_BYTES:
        raise BusError("the file is larger than 1 MiB", where=where, remedy=remedy)
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except BusError as error:
        raise BusError(error.what, where=where, remedy=error.remedy) from None
    except (ValueError, RecursionError) as error:
        line = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise BusError(f"the file is not valid JSON{line}", where=where, remedy=remedy) from None


def validate(kind: type[T], data: bytes, where: object, remedy: str | None = None) -> T:
    """Make a pydantic dataclass, or a container of some, of JSON that `decode` has let through.

    Args:
        kind: type to make.
        data: UTF-8.
        where: names the file in errors.
        remedy: what to do about anything wrong; None: to mend that value by hand.

    Raises:
        BusError: the first thing that is wrong, by its place in the file, such as "members[0].weight".
    """
    try:
        return TypeAdapter(kind).validate_json(data, strict=True)
    except ValidationError as error:
        what, mend = sentence(error, kind)
        raise BusError(what, where=where, remedy=remedy or mend) from None


def load_bytes(kind: type[T], data: bytes, where: object, remedy: str) -> T:
    """`decode` and `validate` what a program wrote; `remedy` is what to do about anything wrong."""
    decode(data, where, remedy)
    return validate(kind, data, where, remedy)


def load(kind: type[T], path: Path, remedy: str) -> T:
    """`load_bytes` of a file."""
    return load_bytes(kind, read_bytes(path, remedy), path, remedy)


@contextmanager
def plain_errors(kind: type, where: object) -> Iterator[None]:
    """Turn the ValidationError of a pydantic dataclass `kind` that is made inside into a BusError at `where`."""
    try:
        yield
    except ValidationError as error:
        what, remedy = sentence(error, kind)
        raise BusError(what, where=where, remedy=remedy) from None


def sentence(error: ValidationError, kind: Any) -> tuple[str, str]:
    """What is wrong and what to do, of the first thing that pydantic found in a value of type `kind`.

    A validator of a field raises a ValueError that says what to give; one of a class raises a whole BusError.
    """
    # A key that is not known goes first: it is often the missing one, misspelt.
    first = min(error.errors(include_url=False), key=lambda one: one["type"] not in _UNKNOWN_KEY)
    code, place, context = first["type"], first["loc"], first.get("ctx", {})
    inside = f" in {_path(place[:-1])}" if place[:-1] else ""
    if code == "value_error" and isinstance(context["error"], BusError):
        return context["error"].what, context["error"].remedy
    if code in _UNKNOWN_KEY:
        return f"unknown key '{place[-1]}'{inside}", "take it out, or update bus_hf if it is new"
    if code == "missing" and isinstance(place[-1], str):
        return f"the key '{place[-1]}' is missing{inside}", "add it"
    if code in _TOO_SHORT_OR_LONG and isinstance(first["input"], Sequence):
        # pydantic points at the entry that lacks, or at the list.
        place = place[:-1] if code == "missing" else place
    what = f"{_path(place) or 'the file'} is {_shown(first['input'])}"
    return what, f"give {_wanted(code, context, _field(kind, place))}"


def _wanted(code: str, context: dict[str, Any], field: FieldInfo) -> str:
    if code == "value_error":
        return str(context["error"])
    if code == "literal_error":
        return str(context["expected"])
    if field.description and code == "string_pattern_mismatch":
        return field.description
    if code in _TOO_SHORT_OR_LONG:
        return f"a list of {len(typing.get_args(field.annotation))}"
    if code in _BOUNDS:
        return _range(field)
    if code == "multiple_of":
        return f"a multiple of {context['multiple_of']}{_range(field).removeprefix('a value')}"
    return _WANTED.get(code.partition("_")[0], "another value")


def _range(field: FieldInfo) -> str:
    ends = (next(getattr(entry, end) for entry in field.metadata if hasattr(entry, end)) for end in ("ge", "le"))
    low, high = (f"{end:,}" if isinstance(end, int) else f"{end:g}" for end in ends)
    return f"a value from {low} to {high}"


def _field(kind: Any, place: Sequence[int | str]) -> FieldInfo:
    """Type and constraints of the value at `place` in one of type `kind`."""
    field = _not_none(FieldInfo.from_annotation(kind))
    for key in place:
        kinds = typing.get_args(field.annotation)
        fields = getattr(field.annotation, "__pydantic_fields__", None)
        if fields:
            # A part that was made by itself has places of its own.
            entry = fields.get(key) or FieldInfo.from_annotation(Any)
        elif isinstance(key, int) and kinds:
            entry = FieldInfo.from_annotation(kinds[0] if kinds[-1] is Ellipsis else kinds[min(key, len(kinds) - 1)])
        else:
            entry = FieldInfo.from_annotation(kinds[-1] if kinds else Any)
        field = _not_none(entry)
    return field


def _not_none(field: FieldInfo) -> FieldInfo:
    """The constraints of `kind` where a field is `kind | None`."""
    if typing.get_origin(field.annotation) not in (types.UnionType, typing.Union):
        return field
    return FieldInfo.from_annotation(next(one for one in typing.get_args(field.annotation) if one is not type(None)))


def _path(place: Sequence[int | str]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place).removeprefix(".")


def _shown(value: Any) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    require_unique(key for key, _ in pairs)
    return dict(pairs)


def require_unique(keys: Iterable[object]) -> None:
    """BusError where a key stands twice in one object."""
    for key, count in Counter(keys).items():
        if count > 1:
            raise BusError(f"the key '{key}' stands twice in one object", remedy="keep one of them")
