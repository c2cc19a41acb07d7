"""The tab that says what the reader was trained on, what was measured, and what it cannot do."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bus_hf.evaluation import cards, classes, site, tables
from bus_hf.hub import PICTURES
from bus_hf.words import DISCLAIMER, point_words

_LIMITS = """
### Limits

- It was trained on two collections. Other hospitals, scanners and patients may be read worse than these figures say.
- The collections hold far more cancers than screening does, so a probability here is not that of a screened woman.
- It reads single B-mode images: no Doppler, no elastography, no video, no other organ.
- BUSI is known to hold near-duplicates and burned-in marks. They are grouped, and conflicting ones left out, but its
  figures may still flatter.
"""


def about(ensemble: str) -> str:
    """Markdown of the tab for an ensemble folder; says so where there are no figures."""
    folder = Path(ensemble)
    parts = ["## What this is", DISCLAIMER, *_members(folder / "training.json")]
    parts += _site(folder / "calibration.json") or _figures(folder / "report.json")
    parts += _second(folder / "second_reading" / "report.json")
    return "\n\n".join([*parts, _LIMITS])


def pictures(ensemble: str) -> str:
    """HTML of the plots that lie in an ensemble folder, each inside the page; empty where there are none."""
    shown = ""
    for name in PICTURES:
        try:
            data = base64.b64encode((Path(ensemble) / name).read_bytes()).decode()
        except OSError:
            continue
        text = cards.PLOTS[Path(name).stem]
        shown += (
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        )
    return f'<h2>Plots</h2><p>{cards.PLOTS_NOTE}</p><div class="plots">{shown}</div>' if shown else ""


def _members(path: Path) -> list[str]:
    try:
        trained = json.loads(path.read_text(encoding="utf-8"))
        lines = [
            f"- **{name}**: {record['n_train']} images ("
            + ", ".join(f"{count} of {source}" for source, count in record["sources"].items())
            + f"), {_course(record)}"
            for name, record in trained.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return ["## What it was trained on", "\n".join(lines)]


def _site(path: Path) -> list[str]:
    """What a site measured that calibrated this ensemble; empty where none did."""
    try:
        return ["## What was measured at this site", site.text(json.loads(path.read_text(encoding="utf-8")))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _second(path: Path) -> list[str]:
    try:
        return ["## Lesion-type classifier", classes.second_reading_text(json.loads(path.read_text(encoding="utf-8")))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _course(record: Mapping[str, Any]) -> str:
    before = record["start"].get("earlier_run")
    now = f"{record['epochs']} epochs"
    return f"{_course(before)}, then {now}" if before else f"{now} from {record['start']['source']}"


def _figures(path: Path) -> list[str]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        trained = report["overall"]["n"]
        report["readers"]  # written since the ensemble's members are measured one by one
    except (OSError, ValueError, KeyError, TypeError):
        return ["There are no measured figures beside this ensemble (report.json)."]
    points = "\n".join(
        f"- **{point_words(point['name'])}**: sensitivity {tables.estimate(point['sensitivity'])}, "
        f"specificity {tables.estimate(point['specificity'])}"
        for point in report["operating_points"]
    )
    return [
        "## What was measured",
        f"On {trained} images whose patients and near-duplicates the networks never saw; in brackets 95 % intervals by "
        "bootstrap of groups.",
        tables.figures_table(report),
        "### Operating points",
        points,
        tables.rates_table(report),
        tables.light_text(report),
        "### Members and ensemble",
        tables.readers_title(report),
        tables.readers_table(report),
        tables.abstention_text(report),
        tables.disagreement_text(report),
        "### Where the evidence lies",
        tables.heat_table(report),
        cards.evidence(report, "###"),
    ]
