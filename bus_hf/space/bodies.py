"""What a client may ask an endpoint: every value is checked here, before Gradio sees any of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gradio as gr

from bus_hf.errors import BusError
from bus_hf.space.uploads import Uploads

_MAX_TEXT, _MAX_FILES = 2000, 1000


class UnknownEndpointError(BusError):
    """There is no such endpoint."""


def checked(body: Mapping[str, Any], page: gr.Blocks, name: str | None, uploads: Uploads, owner: str) -> dict[str, Any]:
    """A request's body with nothing in it but what the endpoint takes; arguments that it lacks are None.

    Args:
        body: decoded JSON: "data" is a list of arguments, or (`/call/v2`) the body itself a mapping of them.
        page: the page whose endpoint is meant.
        name: of the endpoint; None where the body's `fn_index` says it.
        uploads: files are taken from these alone.
        owner: whose files they must be.

    Raises:
        BusError: anything else, in one sentence.
    """
    fn = _endpoint(page, name, body.get("fn_index"))
    given = body.get("data", body)
    if isinstance(given, Mapping):
        names = list(inspect.signature(fn.fn).parameters)[: len(fn.inputs)] if fn.fn else []
        if unknown := [key for key in given if key not in names]:
            raise BusError(
                f"{len(unknown)} arguments are unknown to this endpoint", remedy=f"choose from {', '.join(names)}"
            )
        given = [given.get(one) for one in names]
    if not isinstance(given, list) or len(given) > len(fn.inputs):
        raise BusError(f"the endpoint takes up to {len(fn.inputs)} arguments", remedy="send them as a list")
    padded = given + [None] * (len(fn.inputs) - len(given))
    data = [_value(one, value, uploads, owner) for one, value in zip(fn.inputs, padded, strict=True)]
    clean: dict[str, Any] = {"data": data, "fn_index": fn._id}
    for key, kind in (("session_hash", str), ("trigger_id", int)):
        if isinstance(body.get(key), kind):
            clean[key] = body[key]
    return clean


def files_in(data: list[Any]) -> list[str]:
    """Paths of all files in checked arguments."""
    listed = [one for value in data for one in (value if isinstance(value, list) else [value])]
    return [one["path"] for one in listed if isinstance(one, dict)]


def _endpoint(page: gr.Blocks, name: str | None, index: object) -> Any:
    for fn in page.fns.values():
        if (fn.api_name == name) if name is not None else (isinstance(index, int) and fn._id == index):
            return fn
    raise UnknownEndpointError("there is no such endpoint", remedy="see /gradio_api/info for those that there are")


def _value(component: Any, value: Any, uploads: Uploads, owner: str) -> Any:
    """One argument, if it is of the component's kind."""
    schema = component.api_info()
    if schema.get("type") == "array":
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > _MAX_FILES:
            raise BusError("an argument is no list of files", remedy="upload them first and send what that answers")
        return [_file(one, uploads, owner) for one in value]
    if "path" in schema.get("properties", {}):
        return None if value is None else _file(value, uploads, owner)
    if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _MAX_TEXT):
        return value
    raise BusError("an argument is neither a text, a number nor true or false", remedy="send one of these")


def _file(value: Any, uploads: Uploads, owner: str) -> dict[str, Any]:
    """A file as Gradio writes it, made anew: nothing but the path of the client's own upload is taken over."""
    path = value.get("path") if isinstance(value, Mapping) else None
    if not uploads.has(path, owner):
        raise BusError(
            "an argument is no upload of yours, or one that is no longer there", remedy="upload the file and ask then"
        )
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
