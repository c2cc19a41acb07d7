"""The parts of the page that show a reading. Pictures travel inside the page, so nothing is written to disk."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from bus_hf.detector import Failure, Prediction
from bus_hf.overlay import heat_colours
from bus_hf.space import words
from bus_hf.text import csv_cell

# Longer side of the pictures on the page, in pixels; the heat map is smooth and needs less.
_SHOWN, _HEAT = 1024, 256
_COLUMNS = ("name", "verdict", "probability", "lesion box", "note")


def alert(sentence: str) -> str:
    """An error for people who see it and people who hear it."""
    heading = '<h2><span aria-hidden="true">⚠ </span>Not read</h2>'
    return f'<div class="card alert" role="alert">{heading}<p>{escape(sentence)}</p></div>'


def waiting() -> str:
    """What stands in the place of a reading before there is one."""
    return (
        '<div class="card waiting"><p>The reading appears here: a probability, where the lesion is and what the answer '
        "rests on.</p></div>"
    )


def reading(result: Prediction) -> str:
    """Verdict, probability, members and sentences."""
    heading, sentence = words.verdict(result)
    kind = "unsure" if result.uncertain else result.prediction.lower()
    sign = {"unsure": "?", "malignant": "!", "benign": "✓"}.get(kind, "•")
    members = "".join(_bar(name, chance) for name, chance in result.members.items())
    return (
        f'<section class="card verdict {escape(kind)}" role="status" aria-live="polite">'
        f'<h2><span class="sign" aria-hidden="true">{sign}</span> {escape(heading)}</h2>'
        f'<p class="chance">{words.percent(result.probability)}<small> probability of malignancy</small></p>'
        f"{_scale(result)}"
        f"<p>{escape(sentence)}</p><p>{escape(words.lesion(result))}</p>"
        f'<h3>Each network</h3><ul class="bars">{members}</ul><p>{escape(words.agreement(result))}</p>'
        f"{_second(result)}</section>"
    )


def _second(result: Prediction) -> str:
    """The second reading, marked as such; nothing where none was asked for."""
    if result.second_reading is None:
        return ""
    bars = "".join(_bar(name, chance) for name, chance in result.second_reading.items())
    return f'<h3>Second reading: what kind of lesion</h3><ul class="bars second">{bars}</ul><p>{words.SECOND}</p>'


def picture(grey: np.ndarray, result: Prediction) -> str:
    """The image with heat map, box and a slider that fades the map in the browser."""
    height, width = grey.shape
    lines = ""
    if result.box is not None:
        x, y, w, h = result.box
        rectangle = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" vector-effect="non-scaling-stroke"'
        lines = f'<rect class="under" {rectangle}/><rect class="dash" {rectangle}/>'
    heat = ""
    if result.heatmap is not None:
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


def table(results: Sequence[Prediction | Failure]) -> str:
    """The readings of many files as a table, with the same as a CSV to download."""
    rows = [_row(result) for result in results]
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    failed = sum(isinstance(result, Failure) for result in results)
    data = base64.b64encode(csv_text(results).encode()).decode()
    return (
        f'<div class="card" role="status"><p>{len(results)} files, {failed} not read. '
        f'<a class="download" download="readings.csv" href="data:text/csv;base64,{data}">Download as CSV</a></p>'
        f'<div class="wide" tabindex="0" role="region" aria-label="Readings"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def csv_text(results: Sequence[Prediction | Failure]) -> str:
    """The table as CSV; a name that a spreadsheet would take for a formula is quoted by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for result in results:
        writer.writerow([csv_cell(cell) for cell in _row(result)])
    return out.getvalue()


def _row(result: Prediction | Failure) -> tuple[str, ...]:
    if isinstance(result, Failure):
        return result.name, "not read", "", "", result.error
    box = "" if result.box is None else " ".join(str(round(value)) for value in result.box)
    return result.name, words.verdict(result)[0], f"{result.probability:.4f}", box, result.note or ""


def _bar(name: str, chance: float) -> str:
    said = words.percent(chance)
    return (
        f'<li><span class="name">{escape(name)}</span><span class="track" aria-hidden="true">'
        f'<span style="width:{100 * chance:.1f}%"></span></span><span class="value">{said}</span></li>'
    )


def _scale(result: Prediction) -> str:
    """The probability on a line from 0 to 1 with the threshold."""
    fill = f"width:{100 * result.probability:.1f}%"
    return (
        f'<div class="scale" aria-hidden="true"><span class="fill" style="{fill}"></span>'
        f'<span class="mark" style="left:{100 * result.threshold:.1f}%"></span></div>'
        f'<p class="hint" aria-hidden="true">the line marks the threshold, {words.percent(result.threshold)}</p>'
    )


def _fit(image: np.ndarray, longest: int) -> np.ndarray:
    scale = longest / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _uri(image: np.ndarray, kind: str) -> str:
    stored = cv2.cvtColor(image, cv2.COLOR_RGBA2BGRA) if image.ndim == 3 else image
    data = cv2.imencode(kind, stored, [cv2.IMWRITE_JPEG_QUALITY, 92] if kind == ".jpg" else [])[1]
    return f"data:image/{'jpeg' if kind == '.jpg' else 'png'};base64,{base64.b64encode(data.tobytes()).decode()}"
