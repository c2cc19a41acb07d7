"""A site's calibration in words: its card and what the page tells of it, from `calibration.json` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus_hf.evaluation.tables import estimate


def tables(found: Mapping[str, Any]) -> str:
    """Markdown: on how many cases, calibration before and after, and the rates of every operating point."""
    lines = [
        f"{found['n']} images, {found['n_malignant']} malignant, {found['n_groups']} groups; "
        f"AUROC {estimate(found['auroc'])}; in brackets {found['interval']}.",
        "",
        "| | temperature | bias | Brier | calibration error |",
        "|---|---|---|---|---|",
    ]
    for when in ("before", "after"):
        row = found[when]
        cells = f"{row['temperature']:.3f} | {row['bias']:.3f} | {estimate(row['brier'])} | {estimate(row['ece'])}"
        lines.append(f"| {when} | {cells} |")
    lines += ["", "| operating point | | threshold | sensitivity | specificity |", "|---|---|---|---|---|"]
    for when in ("before", "after"):
        for name, row in found[when]["operating_points"].items():
            rates = f"{estimate(row['sensitivity'])} | {estimate(row['specificity'])}"
            lines.append(f"| {name} | {when} | {row['threshold']:.3f} | {rates} |")
    return "\n".join(lines)


def text(found: Mapping[str, Any]) -> str:
    """`tables` with what the probabilities assume, the band of "not sure", and what the cases could not show."""
    parts = [
        "The networks are those of the ensemble that was calibrated; temperature, bias and thresholds were fitted on "
        f"{found['n']} labelled images of this site, {found['n_malignant']} of them malignant, in {found['n_groups']} "
        f"groups (patients, near-duplicates). Probabilities assume that {100 * found['prevalence']:.0f} % of the "
        "images are malignant, as among these.",
        tables(found),
    ]
    band = found["abstain"]
    if band:
        parts.append(
            f'Probabilities from {band["low"]:.3f} to {band["high"]:.3f} are answered "not sure, refer": '
            f"{100 * band['coverage']:.1f} % of these images lie outside, and {100 * band['error']:.1f} % of those are "
            f"answered wrongly ({band['method']})."
        )
    warnings = found["warnings"]
    if warnings:
        parts.append("What these cases cannot show:\n\n" + "\n".join(f"- {warning}." for warning in warnings))
    return "\n\n".join(parts)


def card(name: str, version: str, found: Mapping[str, Any]) -> str:
    """README of a calibrated ensemble folder."""
    return "\n\n".join(
        (
            f"# {name} {version}",
            "Calibrated by `bus-hf calibrate` on a site's own cases; nothing here names one of them.",
            text(found),
            "For research and teaching. This is not a medical device and must not decide about a patient.\n",
        )
    )
