"""The page: Gradio Blocks with a tab to read, one for many files, one about the reader, and named endpoints."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from bus_hf.data.images import LIMITS, SUFFIXES, read_image
from bus_hf.data.phantoms import phantom
from bus_hf.detector import Failure, Prediction
from bus_hf.ensemble import Ensemble
from bus_hf.errors import BusError
from bus_hf.space import html, words
from bus_hf.space.about import about, pictures
from bus_hf.space.reader import Reader, decoded, delete

MAX_BATCH = 200
# One reading at a time uses every core; the queue holds this many more.
_READERS, _QUEUE = 1, 32
_EXAMPLES = {"Benign look": ("benign", 3), "Malignant look": ("malignant", 3), "Without a lesion": ("normal", 5)}
_SECONDS_KEPT = 900

Shown = tuple[Any, ...]


def build(ensemble: str | None = None, reader: Reader | None = None) -> gr.Blocks:
    """Build the page; weights load on the first reading.

    Args:
        ensemble: folder or Hub id; None takes `$BUS_HF_ENSEMBLE`, else `checkpoints`.
        reader: the reader to use instead, for tests.
    """
    reader = reader or Reader(ensemble)
    points, default, several, kinds = _choices(reader)

    def read_upload(upload: tuple[str, str] | None, point: str, light: bool, second: bool) -> Shown:
        if upload is None:
            return tuple(gr.skip() for _ in range(5))
        path, name = upload
        try:
            grey = decoded(path, name)
        except BusError as error:
            return None, html.alert(str(error)), "", None, ""
        return None, *read_grey(grey, point, "", light, second), ""

    def read_grey(grey: np.ndarray | None, point: str, roi: str, light: bool, second: bool) -> Shown:
        if grey is None:
            return html.alert("There is no image yet; drop one above."), "", None
        try:
            result = reader.read(grey, point, roi, light, second)
        except BusError as error:
            return html.alert(str(error)), gr.skip(), grey
        return html.reading(result), html.picture(grey, result), grey

    def read_again(grey: np.ndarray | None, point: str, roi: str, light: bool, second: bool) -> Shown:
        return (gr.skip(), gr.skip(), gr.skip()) if grey is None else read_grey(grey, point, roi, light, second)

    def read_batch(paths: list[str] | None, point: str, light: bool, progress: gr.Progress = gr.Progress()) -> Shown:  # noqa: B008
        if not paths:
            return html.alert("There are no files yet; drop some above."), None
        return html.table(_read_all(reader, paths, point, light, progress)), None

    def predict(image: str | None, operating_point: str, roi: str) -> dict[str, Any]:
        try:
            if image is None:
                raise BusError("no image was given", remedy="send a file")
            grey = decoded(image, Path(image).name)
            return reader.read(grey, operating_point or None, roi, name=Path(image).name).to_dict()
        except BusError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def predict_batch(images: list[str] | None, operating_point: str) -> list[dict[str, Any]]:
        try:
            found = _read_all(reader, images or [], operating_point or None, False, None)
        except BusError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return [
            {"name": result.name, "error": result.error} if isinstance(result, Failure) else result.to_dict()
            for result in found
        ]

    with gr.Blocks(title="Breast ultrasound reader", delete_cache=(60, _SECONDS_KEPT), analytics_enabled=False) as page:
        gr.HTML(f"<h1>Breast ultrasound reader</h1><p class='disclaimer'>{words.DISCLAIMER}</p>")
        with gr.Row(elem_id="choices"):
            point = gr.Dropdown(points, value=default, label="How careful", elem_id="point", scale=3)
            light = gr.Checkbox(label="Light: one network, quicker", visible=several, scale=1)
            second = gr.Checkbox(label="Second reading: what kind of lesion", visible=kinds, elem_id="second", scale=1)
        with gr.Tab("Read"):
            kept = gr.State(None, time_to_live=_SECONDS_KEPT)
            with gr.Row(equal_height=False):
                with gr.Column(scale=5):
                    upload = gr.Image(
                        label="Drop, choose or paste an image",
                        sources=["upload", "clipboard"],
                        image_mode=None,
                        height=190,
                        elem_id="upload",
                    )
                    # Every check of ours must see the original bytes, not what Gradio makes of them.
                    upload.preprocess = _as_uploaded  # type: ignore[method-assign,assignment]
                    answer = gr.HTML(html.waiting(), elem_id="answer")
                    gr.Markdown("**Examples**, made by a program, of no patient:")
                    examples = gr.Row()
                with gr.Column(scale=5):
                    scan = gr.HTML("", elem_id="scan")
                    with gr.Group(elem_id="tools"):
                        gr.Checkbox(label="Draw the lesion box on the image (mouse or finger)", elem_id="draw")
                        roi = gr.Textbox(
                            label="Lesion box: left, top, width, height in pixels",
                            placeholder="empty: the reader finds it",
                            elem_id="roi",
                            max_lines=1,
                        )
                        again = gr.Button("Read with this box", elem_id="again")
            with examples:
                for name, (kind, seed) in _EXAMPLES.items():
                    gr.Button(name, size="sm", min_width=90).click(
                        _example(kind, seed, read_grey),
                        [point, light, second],
                        [answer, scan, kept, roi],
                        api_visibility="private",
                        concurrency_id="read",
                    )
        with gr.Tab("Many files"):
            many = gr.File(
                label=f"Drop up to {MAX_BATCH} images", file_count="multiple", file_types=list(SUFFIXES), elem_id="many"
            )
            many.preprocess = _paths  # type: ignore[method-assign]
            go = gr.Button("Read them", variant="primary", elem_id="go")
            rows = gr.HTML("", elem_id="rows")
        with gr.Tab("About"):
            told = _folder(reader)
            gr.Markdown(about(told), elem_id="about")
            gr.HTML(pictures(told), elem_id="plots")
        asked: dict[str, Any] = {"concurrency_id": "read", "concurrency_limit": _READERS, "api_visibility": "private"}
        shown = [answer, scan, kept]
        upload.change(read_upload, [upload, point, light, second], [upload, *shown, roi], **asked)
        again.click(read_grey, [kept, point, roi, light, second], shown, **asked)
        roi.submit(read_grey, [kept, point, roi, light, second], shown, **asked)
        changed = [point.change, light.change, second.change]
        gr.on(changed, read_again, [kept, point, roi, light, second], shown, **asked)
        go.click(read_batch, [many, point, light], [rows, many], **asked)
        with gr.Column(visible=False):
            _endpoints(predict, predict_batch)
    return page.queue(max_size=_QUEUE)


def launch(host: str = "127.0.0.1", port: int = 7860, ensemble: str | None = None, **more: Any) -> Any:
    """Serve the page; uploads are bounded in bytes, and only sentences of ours are shown as errors."""
    return build(ensemble).launch(server_name=host, server_port=port, **settings(), **more)


def settings() -> dict[str, Any]:
    """What `Blocks.launch` needs for this page, here and in a Space."""
    ours = files("bus_hf.space")
    script = (ours / "draw.js").read_text(encoding="utf-8")
    return {
        "css": (ours / "style.css").read_text(encoding="utf-8"),
        "head": f"<script>{script}</script>",
        # System fonts: the page asks no other server for anything.
        "theme": gr.themes.Default(
            primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        "max_file_size": LIMITS.max_bytes,
        "footer_links": ["api"],
        "share": False,
        "quiet": True,
        "ssr_mode": False,
    }


def _choices(reader: Reader) -> tuple[list[tuple[str, str]], str | None, bool, bool]:
    """Operating points in words, the default one, and whether there are a light choice and a second reading."""
    try:
        manifest = _manifest(reader)
    except BusError:
        # The page still opens: a reading then says what is wrong and what to do.
        return [("as the ensemble says", "")], "", False, False
    names = [(words.point_words(one.name).capitalize(), one.name) for one in manifest.operating_points]
    return names, manifest.default_operating_point, len(manifest.members) > 1, manifest.second_reading is not None


def _folder(reader: Reader) -> str:
    """The folder of the ensemble: of this machine, or a Hub id's in the cache; its name where it cannot be had."""
    from bus_hf import hub

    try:
        return str(hub.pull(reader.ensemble, reader.revision, ["light"]))
    except BusError:
        return reader.ensemble


def _manifest(reader: Reader) -> Ensemble:
    from bus_hf import ensemble

    # A folder's manifest is read without its weights; that of a Hub id comes with them.
    return ensemble.read(reader.ensemble) if Path(reader.ensemble).is_dir() else reader.detector().manifest


def _as_uploaded(payload: Any) -> tuple[str, str] | None:
    """Path of an upload and its own name."""
    return None if payload is None or payload.path is None else (payload.path, payload.orig_name or "the image")


def _paths(payload: Any) -> Any:
    """Paths of uploaded files as they lie there; Gradio's own preprocessing leaves an empty file beside each."""
    if payload is None:
        return None
    return [one.path for one in payload.root] if hasattr(payload, "root") else payload.path


def _example(kind: Any, seed: int, read: Any) -> Any:
    def show(point: str, light: bool, second: bool) -> Shown:
        image, _ = phantom(np.random.default_rng(seed), kind)
        return *read(image, point, "", light, second), ""

    return show


def _read_all(
    reader: Reader, paths: list[str], point: str | None, light: bool, progress: gr.Progress | None
) -> list[Prediction | Failure]:
    """Read files one after another and delete them; a file that cannot be read is a `Failure`."""
    results: list[Prediction | Failure] = []
    try:
        detector = reader.detector(light)
        for number, path in enumerate(paths, start=1):
            name = Path(path).name
            try:
                if number > MAX_BATCH:
                    raise BusError(
                        f"only {MAX_BATCH} files are read at a time", where=name, remedy="send the rest later"
                    )
                results.append(detector.predict(read_image(path, name=name), operating_point=point, name=name))
            except BusError as error:
                results.append(Failure(name, str(error)))
            if progress is not None:
                progress(number / len(paths), desc=f"{number} of {len(paths)}")
    finally:
        # Only now: a file that was sent twice lies there once.
        for path in set(paths):
            delete(path)
    return results


def _endpoints(predict: Any, predict_batch: Any) -> None:
    """The named endpoints that `gradio_client` and plain HTTP call, with an invisible component for each argument."""
    image, images = gr.File(label="image"), gr.File(label="images", file_count="multiple")
    image.preprocess = images.preprocess = _paths  # type: ignore[method-assign]
    one_point, all_points = gr.Textbox(label="operating_point"), gr.Textbox(label="operating_point")
    box, single, several = gr.Textbox(label="roi"), gr.JSON(label="reading"), gr.JSON(label="readings")
    limit: dict[str, Any] = {"concurrency_id": "read", "concurrency_limit": _READERS}
    gr.Button().click(predict, [image, one_point, box], single, api_name="predict", **limit)
    gr.Button().click(predict_batch, [images, all_points], several, api_name="predict_batch", **limit)
