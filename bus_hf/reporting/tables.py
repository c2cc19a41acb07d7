"""Figures of a report as Markdown tables and sentences; every number in them comes from the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bus_hf.evaluation import no_lesion
from bus_hf.evaluation.evidence import ENSEMBLE
from bus_hf.evaluation.report import LEAST, WITHOUT_NORMALS

# What the project's predecessor stated for its one test set of 113 images: no intervals, no word on patients.
_PREDECESSOR = {
    "predecessor, ensemble": ("31 of 32", "0.9688", "0.9518", "0.7778"),
    "predecessor, best single": ("28 of 32", "0.8750", "0.9704", "0.8970"),
}

# Of the table of the points that ship.
POINTS_NOTE = (
    "The operating points that ship, with cross-fitted rates. Their intervals of specificity cover the choice of the "
    "threshold too, which is fitted anew in each resample; the other tables hold the thresholds."
)


def estimate(entry: Mapping[str, Any] | Sequence[float] | None, digits: int = 3) -> str:
    """Write {value, low, high} or [value, low, high] as `0.950 (0.930-0.970)`; a dash where there is none."""
    if entry is None:
        return "–"
    value, low, high = entry.values() if isinstance(entry, Mapping) else entry
    if value is None:
        return "–"
    bounds = f" ({low:.{digits}f}–{high:.{digits}f})" if low is not None and high is not None else ""
    return f"{value:.{digits}f}{bounds}"


def spread(entry: Mapping[str, Any]) -> str:
    """Write {mean, sd} over folds as `0.950 ± 0.020`, without what is None; a dash where there is no mean."""
    if entry["mean"] is None:
        return "–"
    return f"{entry['mean']:.3f}" + (f" ± {entry['sd']:.3f}" if entry["sd"] is not None else "")


def figures_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the figures over all images and by source."""
    lines = [
        "| images | n (malignant, groups) | AUROC | AUPRC | Brier | calibration error |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in {"all": report["overall"], **report["by_source"]}.items():
        counts = f"{row['n']} ({row['n_malignant']}, {row['n_groups']})"
        figures = " | ".join(estimate(row[key]) for key in ("auroc", "auprc", "brier", "ece"))
        lines.append(f"| {name} | {counts} | {figures} |")
    return "\n".join(lines)


def points_table(report: Mapping[str, Any], member: str | None = None) -> str:
    """Markdown table of the operating points with the rates to expect, or those of a member that answers alone."""
    lines = ["| operating point | threshold | sensitivity | specificity |", "|---|---|---|---|"]
    for point in report["operating_points"]:
        row = point if member is None else report["as_used"][member][point["name"]]
        rates = f"{estimate(row['sensitivity'])} | {estimate(row['specificity'])}"
        lines.append(f"| {point['name']} | {point['threshold']:.3f} | {rates} |")
    return "\n".join(lines)


def views_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the AUROC of each view and look, by source."""
    sources = list(report["views"])
    lines = [f"| view | {' | '.join(sources)} |", "|---" * (len(sources) + 1) + "|"]
    for name in report["views"][sources[0]]:
        if not name.startswith("member "):
            cells = " | ".join(estimate(report["views"][source][name]) for source in sources)
            lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)


def heat_table(report: Mapping[str, Any], members: Sequence[str] | None = None) -> str:
    """Markdown table of how the found boxes, and the heat maps of each member, lie on the drawn lesions, by source."""
    lines = [
        "| heat map of | images with a drawn lesion | n | box IoU | box hits (IoU ≥ 0.5) | "
        "heat-map peak inside, malignant | evidence inside, malignant |",
        "|---" * 7 + "|",
    ]
    for member in members or report["heat_maps"]:
        for source, row in report["heat_maps"][member].items():
            # A normal breast has no lesion to lie on: leaving normals out changes nothing here.
            if "all" not in row or source.endswith(WITHOUT_NORMALS):
                continue
            boxes = f"{estimate(row['all']['box_iou'])} | {estimate(row['all']['box_hit_rate'])}"
            malignant = row.get("malignant", {})
            maps = f"{estimate(malignant.get('pointing_game'))} | {estimate(malignant.get('energy_inside'))}"
            lines.append(f"| {member} | {source} | {row['n']} | {boxes} | {maps} |")
    return "\n".join(lines)


def readers_table(report: Mapping[str, Any], part: str = "all") -> str:
    """Markdown table of the ensemble and each member: discrimination, calibration, rates at the default point."""
    point = report["default_operating_point"]
    names = ("sensitivity", "specificity", "ppv", "npv", "f1", "accuracy")
    titles = ("reader", "AUROC", "AUPRC", "Brier", "calibration error", "sensitivity", "specificity", "PPV", "NPV")
    lines = [f"| {' | '.join((*titles, 'F1', 'accuracy'))} |", "|---" * 11 + "|"]
    for name, parts in report["readers"].items():
        row = parts[part]
        rates = row["operating_points"][point] or {}
        cells = [row[key] for key in ("auroc", "auprc", "brier", "ece")] + [rates.get(key) for key in names]
        lines.append(f"| {name} | {' | '.join(estimate(cell) for cell in cells)} |")
    return "\n".join(lines)


def rates_table(report: Mapping[str, Any], name: str = ENSEMBLE) -> str:
    """Markdown table of one reader's rates at every operating point, over all images."""
    shares = [f"{prevalence:g}" for prevalence in report["prevalences"]]
    values = [f"{key} at {100 * float(share):g} %" for share in shares for key in ("PPV", "NPV")]
    values += ["sensitivity (Wilson)", "specificity (Wilson)"]
    lines = [
        f"| operating point | missed | sensitivity | specificity | PPV | NPV | F1 | accuracy | {' | '.join(values)} |",
        "|---" * (8 + len(values)) + "|",
    ]
    row = report["readers"][name]["all"]
    for point, rates in row["operating_points"].items():
        if rates is None:
            continue
        keys = ("sensitivity", "specificity", "ppv", "npv", "f1", "accuracy")
        cells = [f"{rates['missed']} of {row['n_malignant']}", *(estimate(rates[key]) for key in keys)]
        cells += [estimate(rates[f"{key} at"][share]) for share in shares for key in ("ppv", "npv")]
        cells += [estimate(rates["wilson"].get(key)) for key in ("sensitivity", "specificity")]
        lines.append(f"| {point} | {' | '.join(cells)} |")
    return "\n".join(lines)


def readers_title(report: Mapping[str, Any]) -> str:
    """What is cross-fitted in the table of readers, and what is not."""
    return (
        f"Members and ensemble at `{report['default_operating_point']}`. Calibration and thresholds are cross-fitted "
        "(fitted on other groups than they are read on); the votes of the ensemble are those that ship, fitted on "
        'these images (what they give cross-fitted stands under "Votes" in the card of the ensemble):'
    )


def comparison_text(report: Mapping[str, Any]) -> str:
    """Table of the ensemble against its best single member, or the sentence that there is one member."""
    found = report["comparison"]
    if found is None:
        return "The ensemble has one member, so there is nothing to compare it with."
    lines = [
        f"The best single member by AUROC on these images is `{found['best']}`; that it was chosen on them favours it.",
        "",
        "| images | ensemble | best single | difference | p (groups, bootstrap) | p (images, DeLong) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        if name != "best":
            cells = f"{row['ensemble']:.3f} | {row['single']:.3f} | {signed(row['difference'])}"
            lines.append(f"| {name} | {cells} | {row['p_bootstrap']:.3f} | {row['p_delong']:.3f} |")
    return "\n".join(lines)


def leave_out_text(report: Mapping[str, Any]) -> str:
    """Votes of the members, and whose absence is shown to cost or to win anything, over all images."""
    votes = ", ".join(f"`{name}` {weight:.3f}" for name, weight in report["member_weights"].items())
    text = f"Votes: {votes}."
    adds = _member_adds(report)
    if not adds:
        return text
    helps = [f"`{name}` ({signed(entry)})" for name, entry in adds.items() if (entry["low"] or 0) > 0]
    harms = [f"`{name}` ({signed(entry)})" for name, entry in adds.items() if (entry["high"] or 0) < 0]
    least = min(adds, key=lambda name: report["member_weights"][name])
    text += " AUROC that a member adds to the others, on these images: "
    text += f"shown for {', '.join(helps)}. " if helps else "shown for none of them. "
    if harms:
        text += f"Without {', '.join(harms)} they are read better, by one of {len(adds)} such intervals. "
    return text + f"The smallest vote is that of `{least}`, which adds {signed(adds[least])}."


def adds_text(report: Mapping[str, Any], member: str) -> str:
    """Sentence on what a member adds to the AUROC of the others, over all images; empty where that was not read."""
    adds = _member_adds(report)
    if member not in adds:
        return ""
    own = adds[member]
    text = f"It adds {signed(own)} to the AUROC of the others."
    if (own["low"] or 0) > 0:
        return text
    text += " **No gain from this member is shown on these images.**"
    if (own["high"] or 0) < 0:
        text += f" Without it they are read better, by one of {len(adds)} such intervals."
    return text


def _member_adds(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """AUROC that each member adds to the others over all images, {value, low, high}, where that was read."""
    return {
        name.removeprefix("member "): row["all"]["adds"]
        for name, row in report["leave_out"].items()
        if name.startswith("member ") and "all" in row
    }


def light_text(report: Mapping[str, Any]) -> str:
    """Table of the light choice as it is used; empty for a report from before members were read so."""
    if not report.get("as_used"):
        return ""
    light = next(iter(report["as_used"]))
    title = f"The light choice, `{light}` alone, at the calibration and the thresholds that ship:"
    return f"{title}\n\n{points_table(report, light)}"


def no_lesion_text(report: Mapping[str, Any]) -> str:
    """What images get in which no lesion was found, in sentences; empty for a report without that measure."""
    measured = report.get("no_lesion")
    if not measured:
        return ""
    counts = "; ".join(
        f"{name}: {row['no_lesion_found']} of {row['n']}, {row['predicted_malignant']} of them predicted malignant "
        f"({row['predicted_malignant_without_the_rule']} without the rule)"
        for name, row in measured["pathologies"].items()
    )
    rates = " and ".join(f"a {name} of {estimate(measured[name])}" for name in ("sensitivity", "specificity"))
    only = (
        "only above the abstention interval, and"
        if report.get("abstain")
        else "at the operating points like others, but"
    )
    origin = (
        "peak and threshold were fitted on these images"
        if no_lesion.fitted(measured)
        else "the threshold was fitted on these images, which are too few to fit the peak on"
    )
    return (
        f"No lesion counts as found where the lesion map peaks below {measured['found_peak']:g}. Such an image is "
        f"predicted malignant {only} is never answered as surely benign: {counts}. With this rule the default "
        f"operating point has {rates}; {origin}."
    )


def leave_out_table(report: Mapping[str, Any]) -> str:
    """Markdown table of what each member, look and view adds to the AUROC."""
    parts = list(report["readers"][ENSEMBLE])
    lines = [f"| left out | {' | '.join(f'{part}: adds' for part in parts)} |", "|---" * (len(parts) + 1) + "|"]
    for name, row in report["leave_out"].items():
        cells = [signed(row[part]["adds"]) if part in row else "–" for part in parts]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def across_text(report: Mapping[str, Any]) -> str:
    """Table of each source at thresholds fitted on the others, or the sentence that there is one source."""
    if not report["across_sources"]:
        return "There is one source, so whether a threshold travels cannot be said."
    lines = ["| read on | operating point | wanted | sensitivity | specificity |", "|---|---|---|---|---|"]
    for source, points in report["across_sources"].items():
        for name, row in points.items():
            cells = f"{row['target']:g} | {estimate(row['sensitivity'])} | {estimate(row['specificity'])}"
            lines.append(f"| {source} | {name} | {cells} |")
    return "\n".join(lines)


def across_verdict(report: Mapping[str, Any]) -> str:
    """Sentence on whether thresholds that were fitted on one source hold their sensitivity on another."""
    across = report["across_sources"]
    if not across:
        return across_text(report)
    default = {source: points[report["default_operating_point"]] for source, points in across.items()}
    target = next(iter(default.values()))["target"]
    found = " and ".join(f"{estimate(row['sensitivity'])} on {source}" for source, row in default.items())
    short = [
        f"wanted {row['target']:g}, found {estimate(row['sensitivity'])} on {source}"
        for source, points in across.items()
        for row in points.values()
        if row["sensitivity"]["high"] is not None and row["sensitivity"]["high"] < row["target"]
    ]
    text = (
        f"A threshold that is fitted on the other source's held-out images alone (by networks that learned from "
        f"both) for a sensitivity of {target:g} finds {found}"
    )
    if any((row["sensitivity"]["low"] or 0) < target for row in default.values()):
        text += f", so that it holds {target:g} on a source it was not fitted on is not shown"
    text += f"; thresholds shown to find fewer cancers than they are meant to: {'; '.join(short)}" if short else ""
    return f"{text}. On images of your own, fit thresholds of your own: `bus-hf calibrate`."


def abstention_text(report: Mapping[str, Any]) -> str:
    """The band of "not sure": its ends, how many images it answers, and how often wrongly, by class."""
    band = report.get("abstain")
    if not band:
        return 'There is no band of probabilities that is answered "not sure".'
    text = (
        f'Probabilities from {band["low"]:.3f} to {band["high"]:.3f} are answered "not sure, refer": '
        f"{100 * band['coverage']:.1f} % of the held-out images lie outside, and {100 * band['error']:.1f} % of "
        f"those are answered wrongly ({band['method']})."
    )
    for name, row in band.get("answered", {}).items():
        text += (
            f" Of {row['n']} {name} images {row['n_answered']} are answered, {row['n_wrong']} of them wrongly "
            f"(right: {estimate(row['right'])})."
        )
    return text


def disagreement_text(report: Mapping[str, Any]) -> str:
    """One sentence on whether disagreement of the members predicts wrong calls."""
    found = report["disagreement"]
    if found is None:
        return "With one member there is no disagreement to read anything from."
    difference = found["difference"]
    if difference["low"] is not None and difference["low"] > 0:
        verdict = "it tells more than closeness does"
    elif difference["high"] is not None and difference["high"] < 0:
        verdict = "closeness tells more, so disagreement is no measure of doubt of its own"
    else:
        verdict = "no difference from closeness is shown"
    return (
        f"Of {found['n']} calls at the default operating point {found['n_wrong']} were wrong. Disagreement of the "
        f"members tells wrong calls from right ones with an AUROC of {estimate(found['by_disagreement'])}, closeness "
        f"of the logit to the threshold with {estimate(found['by_closeness'])}: {verdict}."
    )


def strata_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the ensemble by source, BI-RADS, device, lesion size and histology."""
    point = report["default_operating_point"]
    lines = ["| stratum | n (malignant, groups) | AUROC | sensitivity | specificity |", "|---|---|---|---|---|"]
    for title, key in (
        ("source", "by_source"),
        ("BI-RADS", "by_birads"),
        ("device", "by_device"),
        ("lesion's longer side", "by_size"),
        ("histology", "by_histology"),
    ):
        for name, row in report[key].items():
            if row["n"] < LEAST:
                continue
            rates = row["operating_points"][point]
            cells = " | ".join(estimate(cell) for cell in (row["auroc"], rates["sensitivity"], rates["specificity"]))
            counts = f"{row['n']} ({row['n_malignant']}, {row['n_groups']})"
            lines.append(f"| {title}: {name} | {counts} | {cells} |")
    note = (
        f"A dash: fewer than {LEAST} images of the class; strata of fewer than {LEAST} images are in report.json only. "
        "The threshold is the shipped one, fitted on all of these images."
    )
    return "\n".join([*lines, "", note])


def predecessor_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the figures that the project's predecessor stated, beside ours."""
    lines = [
        "| reader | images | cancers found | sensitivity | AUROC | specificity |",
        "|---|---|---|---|---|---|",
    ]
    for name, (found, sensitivity, area, specificity) in _PREDECESSOR.items():
        lines.append(f"| {name} | 113 | {found} | {sensitivity} | {area} | {specificity} |")
    best = (report["comparison"] or {}).get("best")
    for name in (ENSEMBLE, *([best] if best else [])):
        row = report["readers"][name]["all"]
        for point, rates in row["operating_points"].items():
            if rates is not None:
                hits = f"{row['n_malignant'] - rates['missed']} of {row['n_malignant']}"
                cells = (estimate(rates["sensitivity"]), estimate(row["auroc"]), estimate(rates["specificity"]))
                lines.append(
                    f"| ours, {name}, {point} | {row['n']} in {row['n_groups']} groups | {hits} | {' | '.join(cells)} |"
                )
    return "\n".join(lines)


def weights_text(report: Mapping[str, Any]) -> str:
    """How the weights of members and views came about, and what fitting them gained."""
    members = ", ".join(f"`{name}` {weight:.3f}" for name, weight in report["member_weights"].items())
    views = ", ".join(f"{name} {weight:.3f}" for name, weight in report["view_weights"].items())
    found = report["weights"]
    text = f"Votes of the members: {members}. Weights of the views: {views}. "
    if found["how"] == "given":
        return text + "Both were given, not fitted."
    area, loss = found["auroc"], found["log_loss"]
    gained = (
        f"fitted on nine tenths of the groups and read on the rest, they give an AUROC of "
        f"{area['fitted']:.3f} against {area['equal']:.3f} of equal votes (difference "
        f"{signed(found['auroc_difference'])}), and a log loss of {loss['fitted']:.4f} against {loss['equal']:.4f}"
    )
    kept = "The votes follow the separation (d' of signal detection) of each member alone on the held-out images"
    if not found["pays"]:
        kept = "Votes by the separation of each member alone did not pay, so that they are equal"
    return f"{text}{kept}: {gained}."


def signed(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Write a difference {value, low, high} as `+0.010 (-0.002 to +0.021)`."""
    if entry["low"] is None:
        return f"{entry['value']:+.{digits}f}"
    return f"{entry['value']:+.{digits}f} ({entry['low']:+.{digits}f} to {entry['high']:+.{digits}f})"
