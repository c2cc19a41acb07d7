"""The tab that says what the ensemble was trained on, what was measured, and what it cannot do."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bus_hf.filenames import CALIBRATION, LESION_TYPE, PLOTS, REPORT, TRAINING
from bus_hf.reporting import cards, multiclass, sanitize, site, tables
from bus_hf.reporting.sentences import DISCLAIMER, point_words

# A picture that is shown: at most so large, and a PNG.
_MAX_BYTES, _PNG = 2 << 20, b"\x89PNG\r\n\x1a\n"

_LIMITS = """
### Limits

- It was trained on the collections that are named above. On other hospitals, scanners and patients the metrics may be
  worse.
- The collections hold far more cancers than screening does, so a probability here is not that of a screened woman.
- It takes single B-mode images: no Doppler, no elastography, no video, no other organ.
- BUSI is known to hold near-duplicates and burned-in marks. They are grouped, and conflicting ones excluded, but its
  metrics may still be too good.
"""


def about(ensemble: str) -> str:
    """Markdown of the tab for an ensemble folder; a part that cannot be read is omitted, whoever wrote it."""
    folder = Path(ensemble)
    parts = ["## What this is", DISCLAIMER, *_section(folder / TRAINING, _members)]
    parts += _section(folder / CALIBRATION, _site) or _metrics(folder / REPORT)
    parts += _section(folder / LESION_TYPE / REPORT, _lesion_type)
    return "\n\n".join([*parts, _LIMITS])


def _section(path: Path, words: Callable[[Any], list[str]]) -> list[str]:
    """What `words` makes of a JSON file; nothing where the file is not there, partial, or of another kind."""
    try:
        return words(sanitize.load(path))
    except Exception:
        # Whatever an odd file leads to must not stop the page.
        return []


def pictures(ensemble: str) -> str:
    """HTML of the plots that lie in an ensemble folder, each inside the page; empty where there are none."""
    shown = ""
    for name in PLOTS:
        try:
            with open(Path(ensemble) / name, "rb") as file:
                picture = file.read(_MAX_BYTES + 1)
        except OSError:
            continue
        if len(picture) > _MAX_BYTES or not picture.startswith(_PNG):
            continue
        data = base64.b64encode(picture).decode()
        text = cards.PLOTS[Path(name).stem]
        shown += (
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        )
    return f'<h2>Plots</h2><p>{cards.PLOTS_NOTE}</p><div class="plots">{shown}</div>' if shown else ""


def _members(trained: Any) -> list[str]:
    lines = [
        f"- **{name}**: {record['n_train']} images ("
        + ", ".join(f"{count} of {source}" for source, count in record["sources"].items())
        + f"), {_course(record)}"
        for name, record in trained.items()
    ]
    return ["## What it was trained on", "\n".join(lines)]


def _site(calibration: Any) -> list[str]:
    """What a site measured that calibrated this ensemble."""
    return ["## What was measured at this site", site.text(calibration)]


def _lesion_type(report: Any) -> list[str]:
    return ["## Lesion-type classifier", multiclass.lesion_type_text(report)]


def _course(record: Mapping[str, Any]) -> str:
    before = record["start"].get("earlier_run")
    now = f"{record['epochs']} epochs"
    return f"{_course(before)}, then {now}" if before else f"{now} from {record['start']['source']}"


def _metrics(path: Path) -> list[str]:
    """Every part of the report that is complete."""
    try:
        report = sanitize.load(path)
        parts = [text for part in _PARTS if (text := _part(part, report))]
    except (OSError, ValueError):
        parts = []
    if not parts:
        return ["There are no metrics beside this ensemble (report.json)."]
    return ["## What was measured", *parts]


def _part(words: Callable[[Any], str], report: Any) -> str:
    try:
        return words(report)
    except Exception:
        # A partial report loses what it lacks, not the page.
        return ""


def _points(report: Any) -> str:
    return "### Operating points\n\n" + "\n".join(
        f"- **{point_words(point['name'])}**: sensitivity {tables.estimate(point['sensitivity'])}, "
        f"specificity {tables.estimate(point['specificity'])}"
        for point in report["operating_points"]
    )


_PARTS: tuple[Callable[[Any], str], ...] = (
    lambda report: (
        f"{tables.held_out_text(report)} {report['overall']['n']} images; in brackets 95 % intervals by bootstrap of "
        f"groups.\n\n{tables.metrics_table(report)}"
    ),
    _points,
    tables.rates_table,
    tables.light_text,
    lambda report: f"### Members and ensemble\n\n{tables.models_title(report)}\n\n{tables.models_table(report)}",
    tables.abstention_text,
    tables.disagreement_text,
    lambda report: f"### Where the evidence lies\n\n{tables.heat_table(report)}",
    lambda report: cards.evidence(report, "###"),
)
