"""The page: Gradio Blocks with a tab for one image, one for many files, one about the ensemble, and named endpoints."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from bus_hf.data.images import LIMITS, SUFFIXES
from bus_hf.data.phantoms import Kind
from bus_hf.ensemble.manifest import Ensemble
from bus_hf.errors import BusError
from bus_hf.reporting import sentences
from bus_hf.space import endpoints, html
from bus_hf.space.about import about, pictures
from bus_hf.space.answers import MAX_BATCH, Answers
from bus_hf.space.door import LOOPBACK, Door, lifespan
from bus_hf.space.shared_detector import SharedDetector
from bus_hf.space.state import State, state_of_process

# One prediction at a time uses every core; the queue holds this many more.
_AT_ONCE, _QUEUE = 1, 32
EXAMPLES: dict[str, tuple[Kind, int]] = {
    "Benign look": ("benign", 3),
    "Malignant look": ("malignant", 3),
    # One in which the embedded ensemble finds no lesion, as its name says; in others it sees one.
    "Without a lesion": ("normal", 4),
}


def build(
    ensemble: str | None = None, *, detector: SharedDetector | None = None, state: State | None = None
) -> gr.Blocks:
    """Build the page; weights load with the first prediction.

    Args:
        ensemble: folder or Hub id; None takes `$BUS_HF_ENSEMBLE`, else `checkpoints`.
        detector: the detector to use instead.
        state: what the page keeps; None: that of this process. `settings` takes the same.
    """
    detector = detector or SharedDetector(ensemble)
    points, default, several, lesion_types = _choices(detector)
    answers = Answers(detector, state or state_of_process())
    limit: dict[str, Any] = {"concurrency_id": "read", "concurrency_limit": _AT_ONCE}
    # Uploads come to us as they were sent, and not as what Gradio makes of them.
    queued: dict[str, Any] = {"preprocess": False, "api_visibility": "private", **limit}
    at_once: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}

    members = ", with all members" if several else ""
    measured = f"The share of cancers it catches and of others it clears, {sentences.MEASURED_ON}{members}."

    with gr.Blocks(title="Breast ultrasound reader", analytics_enabled=False) as page:
        gr.HTML(f"<h1>Breast ultrasound reader</h1><p class='disclaimer'>{sentences.DISCLAIMER}</p>")
        with gr.Row(elem_id="choices"):
            point = gr.Dropdown(points, value=default, label="Operating point", info=measured, elem_id="point", scale=3)
            light = gr.Checkbox(label="Light: one network, quicker", visible=several, scale=1)
            lesion_type = gr.Checkbox(
                label="Lesion-type classifier too", visible=lesion_types, elem_id="lesion-type", scale=1
            )
        with gr.Tab("Read"):
            with gr.Row(equal_height=False):
                with gr.Column(scale=5):
                    upload = gr.Image(
                        label="Drop, choose or paste an image",
                        sources=["upload", "clipboard"],
                        type="filepath",
                        height=190,
                        elem_id="upload",
                    )
                    answer = gr.HTML(html.waiting(), elem_id="answer")
                    gr.Markdown("**Examples**, made by a program, of no patient:")
                    examples = gr.Row()
                with gr.Column(scale=5):
                    scan = gr.HTML("", elem_id="scan")
                    with gr.Group(elem_id="tools"):
                        gr.Checkbox(label="Draw the lesion box on the image (mouse or finger)", elem_id="draw")
                        roi = gr.Textbox(
                            label="Lesion box: left, top, width, height in pixels",
                            placeholder="empty: the lesion is located",
                            elem_id="roi",
                            max_lines=1,
                        )
                        again = gr.Button("Read with this box", elem_id="again")
            with examples:
                buttons = {name: gr.Button(name, size="sm", min_width=90) for name in EXAMPLES}
        with gr.Tab("Many files"):
            many = gr.File(
                label=f"Drop up to {MAX_BATCH} images", file_count="multiple", file_types=list(SUFFIXES), elem_id="many"
            )
            heatmap = gr.Checkbox(label="Heat maps in the table", elem_id="heatmaps")
            go = gr.Button("Read them", variant="primary", elem_id="go")
            rows = gr.HTML("", elem_id="rows")
        with gr.Tab("About"):
            folder = _folder(detector)
            gr.Markdown(about(folder), elem_id="about")
            gr.HTML(pictures(folder), elem_id="plots")

        cleared, shown, chosen = [answer, scan, roi], [answer, scan], [point, light, lesion_type]
        new = upload.upload(answers.begin(), upload, cleared, preprocess=False, **at_once)
        _read(new, answers.upload, [upload, *chosen], [upload, *cleared], cleared, at_once, queued)
        for name, button in buttons.items():
            new = button.click(answers.begin(name), upload, cleared, preprocess=False, **at_once)
            _read(new, answers.example(name, *EXAMPLES[name]), chosen, cleared, cleared, at_once, queued)
        settings = [point, roi, light, lesion_type]
        again.click(answers.again, settings, shown, **queued)
        roi.submit(answers.again, settings, shown, **queued)
        gr.on([point.input, light.input, lesion_type.input], answers.changed, settings, shown, **queued)
        go.click(answers.batch, [many, *chosen, heatmap], [rows, many], **queued)
        # Gradio lets a tab say that it is still open only where something waits for its end.
        page.unload(answers.closed)
        endpoints.add(answers, **limit)
    # Nothing goes round the queue.
    return page.queue(max_size=_QUEUE, api_open=False)


def _read(
    after: Any, fn: Any, inputs: list[Any], outputs: list[Any], cleared: list[Any], at_once: Any, queued: Any
) -> None:
    """Let `fn` read a new image once the last one's verdict is gone; say so where that did not come about."""
    after.then(fn, inputs, outputs, **queued).failure(_not_read, None, cleared, **at_once)


def _not_read() -> tuple[str, str, str]:
    return html.alert("The page could not read this image now; try again in a minute."), "", ""


def launch(host: str | None = None, port: int | None = None, ensemble: str | None = None, **more: Any) -> Any:
    """Serve the page; `host` and `port` are Gradio's own where they are None."""
    return build(ensemble).launch(server_name=host, server_port=port, **settings(host), **more)


def settings(host: str | None = None, state: State | None = None) -> dict[str, Any]:
    """What `Blocks.launch` needs for this page, here and in a Space, where it listens on `host`."""
    state, host = state or state_of_process(), host or os.environ.get("GRADIO_SERVER_NAME") or LOOPBACK[0]
    door = Middleware(Door, uploads=state.uploads, hosts=LOOPBACK if host in LOOPBACK else None)
    assets = files("bus_hf.space")
    script = (assets / "draw.js").read_text(encoding="utf-8")
    return {
        "css": (assets / "style.css").read_text(encoding="utf-8"),
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
        "show_error": False,
        "enable_monitoring": False,
        "app_kwargs": {"middleware": [door], "lifespan": lifespan(state.sweep)},
    }


def _choices(detector: SharedDetector) -> tuple[list[tuple[str, str]], str | None, bool, bool]:
    """Operating points in words, the default one, and whether there are a light choice and a lesion-type classifier."""
    try:
        manifest = _manifest(detector)
    except BusError:
        # The page still opens: a prediction then says what is wrong and what to do.
        return [("as the ensemble says", "")], "", False, False
    names = [(sentences.choice(one), one.name) for one in manifest.operating_points]
    return names, manifest.default_operating_point, len(manifest.members) > 1, manifest.lesion_type is not None


def _folder(detector: SharedDetector) -> str:
    """The folder of the ensemble: of this machine, or a Hub id's in the cache; its name where it cannot be had."""
    from bus_hf.ensemble import download

    try:
        return str(download.pull(detector.ensemble, detector.revision, ["light"]))
    except BusError:
        return detector.ensemble


def _manifest(detector: SharedDetector) -> Ensemble:
    from bus_hf.ensemble.folder import read_manifest

    # A folder's manifest is read without its weights; that of a Hub id comes with them.
    return read_manifest(detector.ensemble) if Path(detector.ensemble).is_dir() else detector.detector().manifest
