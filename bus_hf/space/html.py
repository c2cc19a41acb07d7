"""The parts of the page that show a prediction. Pictures travel inside the page, so nothing is written to disk."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import cv2
import numpy as np

from bus_hf.ensemble.manifest import OperatingPoint
from bus_hf.inference.overlay import heat_colours
from bus_hf.inference.prediction import Failure, Prediction
from bus_hf.reporting import sentences
from bus_hf.text import csv_cell

# Longer side of the pictures on the page, in pixels; the heat map is smooth and needs less.
_SHOWN, _HEAT, _SMALL = 1024, 256, 200
# Verdict -> its style and its sign, so that nothing is shown by colour alone.
_KINDS = {sentences.UNSURE: ("unsure", "?"), sentences.SUSPICIOUS: ("malignant", "!"), sentences.CLEAR: ("benign", "✓")}
_NUMBERS = ("name", "verdict", "probability", "confidence", "assumed share of cancers", "lesion box")


def alert(sentence: str) -> str:
    """An error for people who see it and people who hear it."""
    heading = '<h2><span aria-hidden="true">⚠ </span>Not read</h2>'
    return f'<div class="card alert" role="alert">{heading}<p>{escape(sentence)}</p></div>'


def waiting() -> str:
    """What stands in the place of a prediction before there is one."""
    return (
        '<div class="card waiting"><p>The prediction appears here: a probability, where the lesion is and what it '
        "rests on.</p></div>"
    )


def working() -> str:
    """What stands there while an image is read."""
    return '<div class="card waiting" role="status"><p>Reading the new image …</p></div>'


def verdict(result: Prediction, point: OperatingPoint, part: bool = False) -> str:
    """Verdict, probability, members and sentences; `part` says that not all members were averaged."""
    heading = sentences.verdict(result)
    kind, sign = _KINDS[heading]
    members = "".join(_bar(name, probability) for name, probability in result.members.items())
    parts = (sentences.explanation(result, point, part), sentences.assumption(result), sentences.lesion(result))
    return (
        f'<section class="card verdict {kind}" role="status" aria-live="polite">'
        f'<h2><span class="sign" aria-hidden="true">{sign}</span> {escape(heading)}</h2>'
        f'<p class="probability">{sentences.percent(result.probability)}'
        "<small> calibrated probability of malignancy</small></p>"
        f"{_scale(result)}{_note(result)}"
        + "".join(f"<p>{escape(sentence)}</p>" for sentence in parts if sentence)
        + f'<h3>Each network</h3><ul class="bars">{members}</ul><p>{escape(sentences.agreement(result))}</p>'
        f"{_lesion_type(result)}</section>"
    )


def _note(result: Prediction) -> str:
    text = sentences.note(result)
    return f'<p class="note"><strong>Note.</strong> {escape(text)}</p>' if text else ""


def _lesion_type(result: Prediction) -> str:
    """Probabilities of the lesion-type classifier, under its name; nothing where it was not run."""
    if result.lesion_type is None:
        return ""
    bars = "".join(_bar(name, probability) for name, probability in result.lesion_type.items())
    return f'<h3>Lesion-type classifier</h3><ul class="bars lesion-type">{bars}</ul><p>{sentences.LESION_TYPE}</p>'


def picture(grey: np.ndarray, result: Prediction | None) -> str:
    """The image with heat map, box and a slider that fades the map; the image alone where there is no result."""
    height, width = grey.shape
    lines = ""
    if result is not None and result.box is not None:
        x, y, w, h = result.box
        rectangle = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" vector-effect="non-scaling-stroke"'
        lines = f'<rect class="under" {rectangle}/><rect class="dash" {rectangle}/>'
    heat = ""
    if result is not None and result.heatmap is not None:
        heat = f'<img class="heat" alt="" src="{_uri(heat_colours(_fit(result.heatmap, _HEAT)), ".png")}">'
    return (
        f'<figure class="scan" data-width="{width}" data-height="{height}">'
        f'<div class="stage"><img alt="The image that was read" src="{_uri(_fit(grey, _SHOWN), ".jpg")}">{heat}'
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">{lines}'
        f'<rect class="under drawn" width="0" height="0" vector-effect="non-scaling-stroke"/>'
        f'<rect class="dash drawn" width="0" height="0" vector-effect="non-scaling-stroke"/></svg></div>'
        f'<label class="fade">Heat map <input type="range" min="0" max="100" value="45" '
        f'aria-label="Strength of the heat map" '
        f"oninput=\"this.closest('.scan').style.setProperty('--heat', this.value / 100)\"></label>"
        f"<figcaption>Bright: evidence for malignancy. Dashed: the lesion box.</figcaption></figure>"
    )


def thumbnail(result: Prediction | Failure) -> str | None:
    """A small picture of the image with heat map and box, as a data URI; None without a heat map."""
    if isinstance(result, Failure) or result.heatmap is None:
        return None
    return _uri(_fit(np.asarray(result.plot(0.45)), _SMALL), ".jpg")


def plain(result: Prediction | Failure) -> dict[str, Any]:
    """A result as JSON-ready values, with the verdict in words and the heat map, where there is one, as a data URI."""
    if isinstance(result, Failure):
        return {"name": result.name, "error": result.error}
    values = sentences.plain(result)
    if result.heatmap is not None:
        grey = np.round(np.clip(result.heatmap, 0, 1) * 255).astype(np.uint8)
        values |= {"heatmap": _uri(grey, ".png"), "heatmap_scale": result.heatmap_scale}
    return values


def table(results: Sequence[Prediction | Failure], pictures: Sequence[str | None] = ()) -> str:
    """The predictions of many files as a table, with the same as a CSV to download; `pictures` are data URIs."""
    columns = _columns(results)
    shown = any(pictures)
    head = "".join(f'<th scope="col">{name}</th>' for name in (*columns, *(["heat map"] if shown else [])))
    body = ""
    for number, result in enumerate(results):
        cells = "".join(f"<td>{escape(text)}</td>" for text in _row(result, columns, sentences.percent))
        drawn = pictures[number] if shown else None
        picture = f'<img alt="Heat map and lesion box" src="{drawn}">' if drawn else ""
        body += f"<tr>{cells}{f'<td>{picture}</td>' if shown else ''}</tr>"
    failed = sum(isinstance(result, Failure) for result in results)
    data = base64.b64encode(csv_text(results).encode()).decode()
    return (
        f'<div class="card" role="status"><p>{len(results)} files, {failed} not read. '
        f'<a class="download" download="predictions.csv" href="data:text/csv;base64,{data}">Download as CSV</a></p>'
        f'<div class="wide" tabindex="0" role="region" aria-label="Predictions"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def csv_text(results: Sequence[Prediction | Failure]) -> str:
    """The table as CSV, its shares as numbers 0..1; a name that a spreadsheet would take for a formula is quoted."""
    columns = _columns(results)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for result in results:
        writer.writerow([csv_cell(text) for text in _row(result, columns, repr)])
    return out.getvalue()


def _columns(results: Sequence[Prediction | Failure]) -> tuple[str, ...]:
    typed = any(isinstance(result, Prediction) and result.lesion_type is not None for result in results)
    return (*_NUMBERS, *(["lesion type"] if typed else []), "note")


def _row(result: Prediction | Failure, columns: Sequence[str], share: Callable[[float], str]) -> tuple[str, ...]:
    """A result's cells, shares written by `share`."""
    if isinstance(result, Failure):
        return result.name, "not read", *[""] * (len(columns) - 3), result.error
    box = "" if result.box is None else " ".join(str(round(value)) for value in result.box)
    types = ", ".join(f"{name} {share(probability)}" for name, probability in (result.lesion_type or {}).items())
    return (
        result.name,
        sentences.verdict(result),
        share(result.probability),
        *("" if number is None else share(number) for number in (sentences.confidence(result), result.prevalence)),
        box,
        *([types] if "lesion type" in columns else []),
        sentences.note(result),
    )


def _bar(name: str, probability: float) -> str:
    text = sentences.percent(probability)
    return (
        f'<li><span class="name">{escape(name)}</span><span class="track" aria-hidden="true">'
        f'<span style="width:{100 * probability:.0f}%"></span></span><span class="value">{text}</span></li>'
    )


def _scale(result: Prediction) -> str:
    """The probability on a line from 0 to 1 with the threshold."""
    where = " for an image without a lesion" if result.box is None else ""
    fill = f"width:{100 * result.probability:.0f}%"
    return (
        f'<div class="scale" aria-hidden="true"><span class="fill" style="{fill}"></span>'
        f'<span class="mark" style="left:{100 * result.threshold:.0f}%"></span></div>'
        f'<p class="hint" aria-hidden="true">the line marks the threshold{where}, '
        f"{sentences.percent(result.threshold)}</p>"
    )


def _fit(image: np.ndarray, longest: int) -> np.ndarray:
    scale = longest / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _uri(image: np.ndarray, kind: str) -> str:
    turned = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    stored = cv2.cvtColor(image, turned[image.shape[2]]) if image.ndim == 3 else image
    data = cv2.imencode(kind, stored, [cv2.IMWRITE_JPEG_QUALITY, 92] if kind == ".jpg" else [])[1]
    return f"data:image/{'jpeg' if kind == '.jpg' else 'png'};base64,{base64.b64encode(data.tobytes()).decode()}"
