"""The metrics of an ensemble folder as Markdown, for a README."""

from __future__ import annotations

import os
from pathlib import Path

from bus_hf.build.describe import read_report
from bus_hf.filenames import LESION_TYPE, REPORT
from bus_hf.reporting import cards, multiclass, provenance, sanitize, tables


def readme_metrics(folder: Path, home: Path | None = None) -> str:
    """Tables and sentences of an ensemble's metrics, with two plots where the README's folder `home` is known.

    Raises:
        BusError: the folder holds no report.
    """
    metrics = sanitize.plain(read_report(folder))
    parts = [
        tables.metrics_table(metrics),
        tables.models_title(metrics),
        tables.models_table(metrics),
        tables.comparison_text(metrics),
        tables.leave_out_text(metrics),
        tables.POINTS_NOTE,
        tables.points_table(metrics),
        "Every rate of the ensemble, predictive values at other shares of cancers too, and Wilson's intervals:",
        tables.rates_table(metrics),
        tables.light_text(metrics),
        tables.across_verdict(metrics),
        tables.abstention_text(metrics),
        tables.no_lesion_text(metrics),
        tables.disagreement_text(metrics),
        tables.heat_table(metrics),
    ]
    if provenance.own(metrics):
        parts.append(f"Beside what the predecessor of this project stated:\n\n{tables.predecessor_table(metrics)}")
    classifier = folder / LESION_TYPE
    if (classifier / REPORT).is_file():
        parts.append(multiclass.lesion_type_text(read_report(classifier)))
    if home is not None:
        plots = Path(os.path.relpath(folder, home), "plots").as_posix()
        parts += [f"![{cards.PLOTS[name]}]({plots}/{name}.png)" for name in ("roc_curve", "reliability")]
    return "\n\n".join(parts) + "\n"
