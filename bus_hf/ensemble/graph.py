"""`graph.onnx` of a member: checked, and the weights that it points to put into it.

The file holds no weights: each initialiser names the bytes of one tensor in a safetensors file of the same folder.
Runtimes get graph and weights as one, from memory: they open no file, whatever a graph names, and follow no link. The
few messages of protobuf that this takes are read here, so that serving does without the onnx package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from bus_hf.errors import BusError
from bus_hf.filenames import GRAPH
from bus_hf.tensors import Stored, finite_table

# Names of the input and the outputs, and of their first dimension.
INPUT, LOGITS, CAM, LESION = "images", "logits", "cam", "lesion"
BATCH = "batch"
# Operator sets whose meaning this version knows.
OPSETS = range(17, 22)
# ONNX's numbers of the types of a safetensors file.
ELEMENT_TYPES = {"F32": 1, "I64": 7, "F16": 10, "BF16": 16}

AGAIN = "download the member again, or write its graph with bus-hf build graphs"
_VARINT, _BYTES, _FOUR = 0, 2, 5
_EXTERNAL = 1
# The fields of onnx.proto that a graph may have, and the messages that some of them are. What could lead elsewhere or
# run for long is not among them: functions, subgraphs, weights in a file other than an initialiser's.
_FIELDS: dict[str, dict[int, str | None]] = {
    "ModelProto": {1: None, 2: None, 3: None, 7: "GraphProto", 8: "OperatorSetIdProto"},
    "OperatorSetIdProto": {1: None, 2: None},
    "GraphProto": {1: "NodeProto", 2: None, 5: "TensorProto", 11: None, 12: None},
    "NodeProto": {1: None, 2: None, 3: None, 4: None, 5: "AttributeProto", 7: None},
    "AttributeProto": {1: None, 2: None, 3: None, 4: None, 5: "constant", 7: None, 8: None, 20: None},
    "TensorProto": {1: None, 2: None, 8: None, 13: "StringStringEntryProto", 14: None},
    "constant": {1: None, 2: None, 8: None, 9: None},
    "StringStringEntryProto": {1: None, 2: None},
}


class _RefusedError(Exception):
    """What is wrong with a graph, as it follows the name of its file."""


class _Field(NamedTuple):
    """A field of a message by its number, as it was read; its value is a whole number or bytes."""

    number: int
    value: int | memoryview
    raw: memoryview


def embed(graph: bytes, files: Mapping[str, bytes], home: Path) -> bytes:
    """The ONNX model of a graph, each initialiser holding the bytes that it pointed to.

    Args:
        graph: bytes of a `graph.onnx`.
        files: bytes of the safetensors files that it may point into, by name.
        home: the member's folder, which errors name.

    Raises:
        BusError: no graph that this version reads (damaged, an unknown operator set, operators from elsewhere); an
            initialiser that is not one of the tensors of `files`; a file that is damaged or not finite.
    """
    tables = {
        name: {
            (str(tensor.start), str(tensor.end - tensor.start)): tensor
            for tensor in finite_table(data, home / name).values()
        }
        for name, data in files.items()
    }
    try:
        return b"".join(_model(memoryview(graph), tables, files))
    except _RefusedError as why:
        raise BusError(f"{GRAPH} {why}", where=home, remedy=AGAIN) from None


_Tables = Mapping[str, Mapping[tuple[str, str], Stored]]


def _model(data: memoryview, tables: _Tables, files: Mapping[str, bytes]) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    numbers = []
    for number, value, raw in _fields(data, "ModelProto"):
        numbers.append(number)
        if number == 7:
            parts += _chunk(7, _graph(_bytes(value), tables, files))
            continue
        if number == 8:
            _check_operators(_bytes(value))
        parts.append(raw)
    if numbers.count(7) != 1 or numbers.count(8) != 1:
        raise _RefusedError("is damaged (it is no ONNX model)")
    return parts


def _check_operators(data: memoryview) -> None:
    entry = {number: value for number, value, _ in _fields(data, "OperatorSetIdProto")}
    version = entry.get(2, 0)
    if entry.get(1, b"") or version not in OPSETS:
        known = f"{OPSETS.start} to {OPSETS.stop - 1}"
        raise _RefusedError(f"is of operator set {_text(entry.get(1, b''))}{version}, and {known} of ONNX are read")


def _graph(data: memoryview, tables: _Tables, files: Mapping[str, bytes]) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for number, value, raw in _fields(data, "GraphProto"):
        if number == 1:
            _check_node(_bytes(value))
        parts += _chunk(5, _initialiser(_bytes(value), tables, files)) if number == 5 else [raw]
    return parts


def _check_node(data: memoryview) -> None:
    for number, value, _ in _fields(data, "NodeProto"):
        if number == 7 and value:
            raise _RefusedError(f"has an operator that is not of ONNX itself but of '{_text(value)}'")
        if number == 5:
            for inner, content, _ in _fields(_bytes(value), "AttributeProto"):
                if inner == 5:
                    list(_fields(_bytes(content), "constant"))


def _initialiser(data: memoryview, tables: _Tables, files: Mapping[str, bytes]) -> list[bytes | memoryview]:
    """An initialiser with its bytes in the place of where they lie."""
    fields = list(_fields(data, "TensorProto"))
    values: dict[int, list[int | memoryview]] = {}
    for number, value, _ in fields:
        values.setdefault(number, []).append(value)
    if not len(values.get(2, ())) == len(values.get(8, ())) == 1:
        raise _RefusedError("is damaged (an initialiser without a type or a name)")
    name = _text(values[8][0])
    entries = [
        {number: _text(value) for number, value, _ in _fields(_bytes(entry), "StringStringEntryProto")}
        for entry in values.get(13, ())
    ]
    place = {entry.get(1, ""): entry.get(2, "") for entry in entries}
    if values.get(14) != [_EXTERNAL] or sorted(entry.get(1, "") for entry in entries) != [
        "length",
        "location",
        "offset",
    ]:
        raise _RefusedError(f"does not say where '{name}' lies")
    location = place["location"]
    if location not in tables:
        raise _RefusedError(f"points to '{location[:100]}', which is none of {', '.join(tables)}")
    tensor = tables[location].get((place["offset"], place["length"]))
    if tensor is None:
        raise _RefusedError(f"points to bytes that are no tensor of {location} ('{name}')")
    if ELEMENT_TYPES[tensor.kind] != values[2][0] or list(tensor.shape) != values.get(1, []):
        raise _RefusedError(f"takes '{name}' for another type or shape than {location} has")
    stored = memoryview(files[location])[tensor.start : tensor.end]
    return [*(raw for number, _, raw in fields if number in (1, 2, 8)), *_chunk(9, [stored])]


def _fields(data: memoryview, message: str) -> Iterator[_Field]:
    """The fields of a message in protobuf's encoding; each has to be one of `_FIELDS`."""
    at = 0
    while at < len(data):
        begin = at
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        known = _FIELDS[message]
        if number not in known or kind not in (_VARINT, _BYTES, _FOUR) or (known[number] and kind != _BYTES):
            raise _RefusedError(f"holds what is not read (field {number} of {message})")
        value: int | memoryview
        if kind == _VARINT:
            value, at = _varint(data, at)
        else:
            length, at = _varint(data, at) if kind == _BYTES else (4, at)
            value, at = data[at : at + length], at + length
        if at > len(data):
            raise _RefusedError("is damaged (it ends too early)")
        yield _Field(number, value, data[begin:at])


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A whole number of at most 64 bits, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _RefusedError("is damaged (it ends too early)")
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _RefusedError("is damaged (a number without an end)")


def _chunk(number: int, parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """A field that holds `parts`, encoded."""
    return [_encoded(number << 3 | _BYTES) + _encoded(sum(map(len, parts))), *parts]


def _encoded(value: int) -> bytes:
    result = bytearray()
    while value > 0x7F:
        result.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*result, value))


def _bytes(value: int | memoryview) -> memoryview:
    assert isinstance(value, memoryview)
    return value


def _text(value: int | bytes | memoryview) -> str:
    return str(value) if isinstance(value, int) else bytes(value).decode("utf-8", "replace")
