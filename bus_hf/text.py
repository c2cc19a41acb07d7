"""Names that come from outside, made safe for a line of output and for a spreadsheet."""

from __future__ import annotations

import re

# A cell that begins with one of these is taken for a formula, or for one behind white space.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_DECIMALS = re.compile(r"(\d+)[.,]0+")
# Texts that say that something is not known, in lower case.
_UNKNOWN = frozenset(("", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "-", "--", "–", "?", "unknown"))


def says_unknown(text: str) -> bool:
    """Whether a text in place of a name says that there is none: blank, "nan", "None", "NA", "-", "unknown"."""
    return text.strip().lower() in _UNKNOWN


def without_decimals(text: str) -> str:
    """A whole number that a spreadsheet wrote with decimals, "1.0" or "1,0", without them; other texts as they are."""
    match = _DECIMALS.fullmatch(text)
    return match[1] if match else text


def printable(text: str) -> str:
    """The text on one line: whatever does not print (line breaks, escape codes, bidirectional marks) becomes `?`.

    Bytes of a file name that are no text are written as Python escapes them.
    """
    shown = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "?" for letter in shown)


def csv_cell(value: object) -> object:
    """The value for a CSV; text that a spreadsheet would take for a formula is quoted by an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
