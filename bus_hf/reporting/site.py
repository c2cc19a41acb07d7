"""A site's calibration in words: its card and what the page says of it, from `calibration.json` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus_hf.evaluation.calibration import POINTS
from bus_hf.reporting import provenance
from bus_hf.reporting.markdown import estimate, estimates, markdown_table


def tables(calibration: Mapping[str, Any]) -> str:
    """Markdown: on how many cases, calibration before and after, and the rates of every operating point."""
    fits = [(when, calibration[when]) for when in ("before", "after")]
    summary = (
        f"{calibration['n']} images, {calibration['n_malignant']} malignant, {calibration['n_groups']} groups; "
        f"AUROC {estimate(calibration['auroc'])}; in brackets {calibration['interval']}."
    )
    scales = markdown_table(
        ("", "temperature", "bias", "Brier", "calibration error"),
        [
            (when, f"{row['temperature']:.3f}", f"{row['bias']:.3f}", *estimates(row, ("brier", "ece")))
            for when, row in fits
        ],
    )
    points = markdown_table(
        ("operating point", "", "threshold", "sensitivity", "specificity"),
        [
            (name, when, f"{rates['threshold']:.3f}", *estimates(rates, ("sensitivity", "specificity")))
            for when, row in fits
            for name, rates in row["operating_points"].items()
        ],
    )
    default, old = calibration["default_operating_point"], calibration["before"]["default_operating_point"]
    change = f"The default operating point is {default}, as before" if default == old else changed_default(old, default)
    return "\n\n".join((summary, scales, points, f"{change[0].upper()}{change[1:]}."))


def changed_default(old: str, new: str) -> str:
    """That the default operating point is another one now, and that it is less sensitive, without its full stop."""
    text = f"the default operating point is now {new} in place of {old}"
    if old not in POINTS:
        return f"{text}, which no site fits"
    return (
        f"{text}, which takes more cancers: it is less sensitive ({POINTS[new]:g} instead of {POINTS[old]:g} is meant)"
    )


def text(calibration: Mapping[str, Any]) -> str:
    """`tables` with what the probabilities assume, the abstention interval, and what the cases could not show."""
    parts = [
        "The networks are those of the ensemble that was calibrated; temperature, bias and thresholds were fitted on "
        f"{calibration['n']} {provenance.images(calibration['sources'])}, {calibration['n_malignant']} of them "
        f"malignant, in {calibration['n_groups']} groups (patients, near-duplicates). Images of one group and one "
        f"label count as one. Probabilities assume that {100 * calibration['prevalence']:.0f} % are malignant, as "
        "among these.",
        tables(calibration),
    ]
    without = calibration["no_lesion"]
    if without["n"]:
        parts.append(
            f"No lesion was found in {without['n']} of these images, which takes more to be predicted malignant. With "
            f"this rule {calibration['default_operating_point']} has a sensitivity of "
            f"{estimate(without['sensitivity'])} and a specificity of {estimate(without['specificity'])}."
        )
    interval = calibration["abstain"]
    if interval:
        parts.append(
            f"Abstention interval: probabilities from {interval['low']:.3f} to {interval['high']:.3f} are answered "
            '"not sure, refer", as is what the default operating point or the lesion map contradicts: '
            f"{100 * interval['coverage']:.1f} % of these cases get another answer, and "
            f"{100 * interval['error']:.1f} % of those a wrong one ({interval['method']})."
        )
    warnings = calibration["warnings"]
    if warnings:
        parts.append("What these cases cannot show:\n\n" + "\n".join(f"- {warning}." for warning in warnings))
    return "\n\n".join(parts)


def card(name: str, version: str, calibration: Mapping[str, Any]) -> str:
    """README of a calibrated ensemble folder."""
    return "\n\n".join(
        (
            f"# {name} {version}",
            f"Calibrated by `bus-hf calibrate` on {provenance.images(calibration['sources'])}; "
            "nothing here names one of them.",
            text(calibration),
            "For research and teaching. This is not a medical device and must not decide about a patient.\n",
        )
    )
