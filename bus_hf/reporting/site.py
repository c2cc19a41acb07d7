"""A site's calibration in words: its card and what the page tells of it, from `calibration.json` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus_hf.evaluation.calibration import POINTS
from bus_hf.reporting import provenance
from bus_hf.reporting.tables import estimate


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
    default, old = found["default_operating_point"], found["before"]["default_operating_point"]
    told = f"The default operating point is {default}, as before" if default == old else changed_default(old, default)
    return "\n".join([*lines, "", f"{told[0].upper()}{told[1:]}."])


def changed_default(old: str, new: str) -> str:
    """That the default operating point is another one now, and that it is less sensitive, without its full stop."""
    text = f"the default operating point is now {new} in place of {old}"
    if old not in POINTS:
        return f"{text}, which no site fits"
    return (
        f"{text}, which takes more cancers: it is less sensitive ({POINTS[new]:g} instead of {POINTS[old]:g} is meant)"
    )


def text(found: Mapping[str, Any]) -> str:
    """`tables` with what the probabilities assume, the band of "not sure", and what the cases could not show."""
    parts = [
        "The networks are those of the ensemble that was calibrated; temperature, bias and thresholds were fitted on "
        f"{found['n']} {provenance.images(found['sources'])}, {found['n_malignant']} of them malignant, in "
        f"{found['n_groups']} groups (patients, near-duplicates). Images of one group and one label count as one. "
        f"Probabilities assume that {100 * found['prevalence']:.0f} % are malignant, as among these.",
        tables(found),
    ]
    without = found["no_lesion"]
    if without["n"]:
        parts.append(
            f"No lesion was found in {without['n']} of these images, which takes more to be predicted malignant. With "
            f"this rule {found['default_operating_point']} has a sensitivity of {estimate(without['sensitivity'])} and "
            f"a specificity of {estimate(without['specificity'])}."
        )
    band = found["abstain"]
    if band:
        parts.append(
            f'Probabilities from {band["low"]:.3f} to {band["high"]:.3f} are answered "not sure, refer", '
            f"as is what the default operating point or the lesion map contradicts: {100 * band['coverage']:.1f} % of "
            f"these cases get another answer, and {100 * band['error']:.1f} % of those a wrong one ({band['method']})."
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
            f"Calibrated by `bus-hf calibrate` on {provenance.images(found['sources'])}; "
            "nothing here names one of them.",
            text(found),
            "For research and teaching. This is not a medical device and must not decide about a patient.\n",
        )
    )
