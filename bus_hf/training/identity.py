"""Digests of the images that a run learns from and holds out: equal where two runs saw the same data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bus_hf.data.dataset import Case

_PROPERTIES = ("names", "labels", "groups", "pixels", "masks")


def digest(lines: Iterable[str]) -> str:
    """SHA-256 of lines (the names of images, for one), in whatever order they come."""
    return hashlib.sha256("\n".join(sorted(set(lines))).encode()).hexdigest()


def data_digests(training: Sequence[Case], held_out: Sequence[Case]) -> dict[str, str]:
    """Digests of names, labels, groups, pixels and masks of both parts, by keys such as `training_names`."""
    digests: dict[str, str] = {}
    for part, cases in (("training", training), ("held_out", held_out)):
        lines = {
            "names": [case.name for case in cases],
            "labels": [f"{case.name}\t{case.label}" for case in cases],
            "groups": [f"{case.name}\t{case.group}" for case in cases],
            "pixels": [f"{case.name}\t{_array(case.image)}" for case in cases],
            "masks": [f"{case.name}\t{_array(case.mask)}" for case in cases],
        }
        digests |= {f"{part}_{what}": digest(lines[what]) for what in _PROPERTIES}
    return digests


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs, in words ("labels of training images"); digests that only one side knows are not compared."""
    words = []
    for part, word in (("training", "training"), ("held_out", "held-out")):
        differing = [what for what in _PROPERTIES if _differ(before, now, f"{part}_{what}")]
        # Where the names differ, so does every digest by name.
        words += [f"{what} of {word} images" for what in (["names"] if "names" in differing else differing)]
    return words


def _differ(before: Mapping[str, str], now: Mapping[str, str], key: str) -> bool:
    return key in before and key in now and before[key] != now[key]


def _array(values: np.ndarray | None) -> str:
    if values is None:
        return "none"
    return hashlib.sha256(f"{values.shape}{values.dtype}".encode() + np.ascontiguousarray(values).tobytes()).hexdigest()
