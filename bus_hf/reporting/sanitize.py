"""Reports and records of an ensemble folder as they may be shown: bounded, and plain words and numbers alone."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

_MAX_BYTES, _MAX_CHARACTERS = 4 << 20, 300
# Letters of any language, digits, and signs that mean nothing in Markdown or HTML; an @ that stands in no address.
_ODD = re.compile(r"[^\w .,;:%/()+=@≥≤–±×'\"?-]+|(?<=\S)@")
# What Markdown would make a link of.
_LINK = re.compile(r"(?i)\b(https?|ftp|mailto|data|javascript):|\bwww\.")


def load(path: Path) -> Any:
    """Parse a JSON file and make it `plain`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or too large.
    """
    with open(path, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError("too large")
    try:
        return plain(json.loads(data))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def plain(value: Any) -> Any:
    """JSON-ready value with every text, keys too, in harmless signs; numbers that are not finite become None."""
    if isinstance(value, str):
        # A sign is replaced, not escaped: names are looked up, and stand in code too.
        return _LINK.sub(lambda match: match[0][:-1] + " ", _ODD.sub(" ", value[:_MAX_CHARACTERS]))
    if isinstance(value, dict):
        return {plain(str(key)): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
