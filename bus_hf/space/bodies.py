"""What a client may ask an endpoint: every value is checked here, before Gradio sees any of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from gradio.components.api_component import Api

from bus_hf.errors import BusError
from bus_hf.space.uploads import ONCE, Uploads

_MAX_TEXT, _MAX_FILES, _MAX_NUMBERS = 2000, 1000, 16
_REFUSED = "refused"


class UnknownEndpointError(BusError):
    """There is no such endpoint."""


def checked(body: Mapping[str, Any], fn: Any, uploads: Uploads, owner: str) -> dict[str, Any]:
    """A request's body with nothing in it but what the endpoint takes; arguments that it lacks are None.

    Of the named endpoints a value that is not let in is replaced by what `raise_refused` raises: `gradio_client` shows
    its callers the error of an event, and not the body of a refused request.

    Args:
        body: decoded JSON: "data" is a list of arguments, or (`/call/v2`) the body itself a mapping of them.
        fn: the endpoint, of `endpoint`.
        uploads: files are taken from these alone.
        owner: whose files they must be.

    Raises:
        BusError: anything else, in one sentence.
    """
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
    data = [_argument(one, value, uploads, owner) for one, value in zip(fn.inputs, padded, strict=True)]
    clean: dict[str, Any] = {"data": data, "fn_index": fn._id}
    for key, kind in (("session_hash", str), ("trigger_id", int)):
        if isinstance(body.get(key), kind):
            clean[key] = body[key]
    return clean


def files_in(data: list[Any]) -> list[str]:
    """Paths of all files in checked arguments."""
    listed = [one for value in data for one in (value if isinstance(value, list) else [value])]
    return [one["path"] for one in listed if isinstance(one, dict) and "path" in one]


def raise_refused(value: object) -> None:
    """Raise the sentence, as a BusError, that stands in the place of an argument that was not let in."""
    if isinstance(value, dict) and _REFUSED in value:
        what, where, remedy = value[_REFUSED]
        raise BusError(what, where=where, remedy=remedy)


def endpoint(page: gr.Blocks, name: str | None, index: object) -> Any:
    """The page's function of that name; where the name is None, of that number. BusError where there is none."""
    for fn in page.fns.values():
        if (fn.api_name == name) if name is not None else (isinstance(index, int) and fn._id == index):
            return fn
    raise UnknownEndpointError("there is no such endpoint", remedy="see /gradio_api/info for those that there are")


def _argument(component: Any, value: Any, uploads: Uploads, owner: str) -> Any:
    """One argument, if it is of the component's kind."""
    schema = component.api_info()
    if value is None:
        return None
    if not isinstance(component, Api):
        return _value(schema, value, uploads, owner)
    if schema.get("type") != "array":
        return _or_refusal(component, _value, schema, value, uploads, owner)
    # A single file is a list of one.
    listed = _or_refusal(component, _listed, value if isinstance(value, list) else [value])
    if isinstance(listed, dict):
        return listed
    return [_or_refusal(component, _file, one, uploads, owner) for one in listed]


def _or_refusal(component: Api, kind: Callable[..., Any], *given: Any) -> Any:
    try:
        return kind(*given)
    except BusError as error:
        return {_REFUSED: [error.what, component.label, error.remedy]}


def _value(schema: Mapping[str, Any], value: Any, uploads: Uploads, owner: str) -> Any:
    if schema.get("type") == "array":
        return [_file(one, uploads, owner) for one in _listed(value)]
    if "path" in schema.get("properties", {}):
        return _file(value, uploads, owner)
    if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _MAX_TEXT):
        return value
    numbers = isinstance(value, list) and all(isinstance(one, int | float) for one in value)
    if "anyOf" in schema and numbers and len(value) <= _MAX_NUMBERS:
        return value
    raise BusError("an argument is neither a text, a number nor true or false", remedy="send one of these")


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise BusError("an argument is no list of files", remedy="upload them first and send what that answers")
    if len(value) > _MAX_FILES:
        raise BusError(f"these are {len(value)} files at once", remedy=f"send up to {_MAX_FILES}")
    return value


def _file(value: Any, uploads: Uploads, owner: str) -> dict[str, Any]:
    """A file as Gradio writes it, made anew: nothing but the path of the client's own upload is taken over."""
    if isinstance(value, list):
        raise BusError("this is a list where one file is read", remedy="send the file alone, or call predict_batch")
    path = value.get("path") if isinstance(value, Mapping) else None
    if not uploads.has(path, owner):
        raise BusError(
            f"this is no upload of yours, or one that is no longer there: {ONCE}",
            remedy="upload the file and send what that answers (in gradio_client: handle_file(path))",
        )
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
