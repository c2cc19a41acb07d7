"""The named endpoints that `gradio_client` and plain HTTP call: every argument but the image is optional."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.components.api_component import Api

from bus_hf.space.answers import MAX_BATCH, Answers
from bus_hf.space.uploads import ONCE

_FILE = {
    "title": "FileData",
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "orig_name": {"type": "string"},
        "meta": {"type": "object", "properties": {"_type": {"const": "gradio.FileData", "type": "string"}}},
    },
    "required": ["path"],
}
_FLAG = {"type": "boolean"}
_ROI = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "number"}}]}
_POINT = "name of an operating point, such as miss_5_in_100; without it the ensemble's own"
_LIGHT = "true: the light network alone, which is quicker and less exact"
_HEATMAP = "true: the evidence for malignancy too, as a grey PNG of the image's size in a data URI"
_TYPE = "true: run the lesion-type classifier too, where the ensemble has one"


def add(answers: Answers, **limit: Any) -> None:
    """Add the endpoints `/predict` and `/predict_batch` to the page that is being built."""
    image = _argument("image", _FILE, "the ultrasound image, a file of PNG, JPEG, TIFF, BMP, WebP or GIF")
    images = _argument("images", {"type": "array", "items": _FILE}, f"up to {MAX_BATCH} such images, or a single one")
    roi = _argument(
        "roi",
        _ROI,
        "lesion box: left, top, width and height in pixels, as a list or as text; without it the lesion is located",
    )
    one, many = (
        [
            _argument("operating_point", {"type": "string"}, _POINT),
            *box,
            _argument("light", _FLAG, _LIGHT),
            _argument("heatmap", _FLAG, _HEATMAP),
            _argument("lesion_type", _FLAG, _TYPE),
        ]
        for box in ([roi], [])
    )
    prediction = _argument(
        "result", {"type": "object"}, "verdict, calibrated probability of malignancy, lesion box and more"
    )
    predictions = _argument(
        "results", {"type": "array", "items": {"type": "object"}}, "one such object a file, in order"
    )
    once = f"{ONCE[0].upper()}{ONCE[1:]}; a request with a wrong argument leaves it there."
    queued: dict[str, Any] = {"preprocess": False, "postprocess": False, **limit}
    gr.Button(visible=False).click(
        answers.predict,
        [image, *one],
        prediction,
        api_name="predict",
        api_description=f"Read one breast ultrasound image: how likely a malignant lesion is, where, how sure. {once}",
        **queued,
    )
    gr.Button(visible=False).click(
        answers.predict_batch,
        [images, *many],
        predictions,
        api_name="predict_batch",
        api_description=f"Read several images; one that cannot be read is answered with its name and an error. {once}",
        **queued,
    )


def _argument(name: str, schema: dict[str, Any], description: str) -> Api:
    return Api(None, schema | {"additional_description": description, "description": description}, name)
