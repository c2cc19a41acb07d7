"""Arguments of a request: how the image of an upload is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bus_hf import views
from bus_hf.errors import BusError
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
        return views.parse_box(given)
    except BusError as error:
        raise WrongRequestError(error.what, remedy=f"{error.remedy}, or leave it empty") from None
