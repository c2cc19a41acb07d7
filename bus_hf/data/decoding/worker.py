"""The process that decodes what strangers send: images in on stdin, pixels out on stdout, under limits of its own."""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

from bus_hf.data.decoding.decode import Decoded, Limits, decode
from bus_hf.errors import BusError

# Writable memory of the process in bytes, and processor seconds for one image.
MAX_MEMORY = 500 * 2**20
MAX_SECONDS = 2.0

# A process that holds more after an image is replaced.
_GROWN = 200 * 2**20
_PLANES = ("pixels", "alpha", "colours")


def send(stream: BinaryIO, head: dict[str, Any], *bodies: bytes | memoryview) -> None:
    """Write one message: the length of its head, the head as JSON, and bodies whose lengths the head tells."""
    text = json.dumps(head).encode()
    stream.write(struct.pack("<I", len(text)) + text)
    for body in bodies:
        stream.write(body)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Read the head of a message; None at the end of the stream."""
    length = stream.read(4)
    if len(length) < 4:
        return None
    return json.loads(stream.read(struct.unpack("<I", length)[0]))


def main() -> None:
    """Answer requests until stdin ends."""
    # Decoders that print would garble the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    limit_resources()
    send(answers, {"ready": True})
    while (head := receive(sys.stdin.buffer)) is not None:
        data = sys.stdin.buffer.read(head["bytes"])
        signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
        try:
            decoded = decode(data, head["where"], Limits(**head["limits"]))
        except BusError as error:
            send(answers, {"error": [error.what, error.where, error.remedy], "last": _grown()})
        else:
            _answer(answers, decoded)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _grown() -> bool:
    """Whether this process holds much memory, and the next image may find too little of its share."""
    # Not the peak of getrusage: that one is inherited from the process that started this one.
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") > _GROWN
    except OSError:
        return False


def limit_resources() -> None:
    """Bound the memory of this process, and let it write no file."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    # It reads pipes only: no file is written, and no core is left behind.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _answer(answers: BinaryIO, decoded: Decoded) -> None:
    planes = {name: getattr(decoded, name) for name in _PLANES if getattr(decoded, name) is not None}
    planes = {name: np.ascontiguousarray(plane) for name, plane in planes.items()}
    shapes = {name: plane.shape for name, plane in planes.items()}
    head: dict[str, Any] = {
        "shapes": shapes,
        "orientation": decoded.orientation,
        "lossy": decoded.lossy,
        "last": _grown(),
    }
    send(answers, head, *(plane.data for plane in planes.values()))


if __name__ == "__main__":
    main()
