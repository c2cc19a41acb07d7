"""Arguments of a request: how the image of an upload is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bus_hf.space.uploads import WrongRequestError
from bus_hf.views import Box


@dataclass(frozen=True)
class Settings:
    """How to run inference on an image.

    Attributes:
        point: name of an operating point; None: the ensemble's own.
        roi: box of the lesion; None: it is located.
        light: run the light member alone.
        heatmap: return the heat map too.
        lesion_type: run the lesion-type classifier too.
    """

    point: str | None = None
    roi: Box | None = None
    light: bool = False
    heatmap: bool = False
    lesion_type: bool = False


def parse_settings(point: Any, roi: Any, light: Any, heatmap: Any, lesion_type: Any) -> Settings:
    """Settings from the arguments of a request; WrongRequestError for a value of another type."""
    if point is not None and not isinstance(point, str):
        raise WrongRequestError("operating_point is no text", remedy="give a name, or nothing for the ensemble's own")
    return Settings(
        point or None,
        parse_box(roi),
        _flag("light", light),
        _flag("heatmap", heatmap),
        _flag("lesion_type", lesion_type),
    )


def _flag(name: str, given: Any) -> bool:
    if given is None or isinstance(given, bool):
        return bool(given)
    raise WrongRequestError(f"{name} is neither true nor false", remedy="give one of these without quotes, or nothing")


def parse_box(given: object) -> Box | None:
    """A box from "left, top, width, height" or a list of these numbers; None for None and for empty text."""
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    try:
        if isinstance(given, str):
            left, top, width, height = map(float, given.replace(";", ",").split(","))
        elif isinstance(given, list) and not any(isinstance(number, bool | str) for number in given):
            left, top, width, height = map(float, given)
        else:
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        shown = f"'{str(given)[:40]}'" if isinstance(given, str | list) else "what stands there"
        raise WrongRequestError(
            f"{shown} is no lesion box",
            remedy="write left, top, width and height in pixels, such as 120, 80, 60, 40, or leave it empty",
        ) from None
    return Box(left, top, width, height)
