"""Metrics of a report as Markdown tables and sentences; every number in them comes from the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bus_hf.config import EACH_SOURCE
from bus_hf.evaluation import no_lesion
from bus_hf.evaluation.evidence import ENSEMBLE, MIN_IMAGES
from bus_hf.evaluation.report import WITHOUT_NORMALS
from bus_hf.reporting.markdown import counts, estimate, estimates, markdown_table, signed

# Metrics of probabilities, and rates of predictions, with their titles.
_SCORES = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier", "ece": "calibration error"}
_RATES = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "f1": "F1",
    "accuracy": "accuracy",
}
_COUNTS = "n (malignant, groups)"

# Of the table of the points that ship.
POINTS_NOTE = (
    "The operating points that ship, with cross-fitted rates. Their intervals of specificity cover the choice of the "
    "threshold too, which is fitted anew in each resample; the other tables hold the thresholds."
)


def scores_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown table of discrimination and calibration, a row for each set of images by name."""
    return markdown_table(
        ("images", _COUNTS, *_SCORES.values()),
        [(name, counts(row), *estimates(row, _SCORES)) for name, row in rows.items()],
    )


def metrics_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the metrics over all images and by source."""
    return scores_table({"all": report["overall"], **report["by_source"]})


def summary_table(report: Mapping[str, Any], light: str | None = None) -> str:
    """Markdown table of at most six rows: the ensemble over all images and by source, and its light member `light`.

    Rates are those of the default operating point, its threshold cross-fitted over groups.
    """
    parts = report["models"][ENSEMBLE]
    rows = {"all": parts["all"], **{name: row for name, row in list(parts.items())[:5] if name != "all"}}
    if light in report["models"]:
        rows[f"all, `{light}` alone"] = report["models"][light]["all"]
    point = report["default_operating_point"]
    return markdown_table(
        ("images", _COUNTS, "AUROC", "sensitivity", "specificity"),
        [
            (
                name,
                counts(row),
                estimate(row["auroc"]),
                *estimates((row["operating_points"] or {}).get(point) or {}, ("sensitivity", "specificity")),
            )
            for name, row in rows.items()
        ],
    )


def points_table(report: Mapping[str, Any], member: str | None = None) -> str:
    """Markdown table of the operating points with the rates to expect, or those of a member that is used alone."""
    rows = []
    for point in report["operating_points"]:
        row = point if member is None else report["as_used"][member][point["name"]]
        rows.append((point["name"], f"{point['threshold']:.3f}", *estimates(row, ("sensitivity", "specificity"))))
    return markdown_table(("operating point", "threshold", "sensitivity", "specificity"), rows)


def views_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the AUROC of each view and group of views, by source."""
    sources = list(report["views"])
    names = [name for name in report["views"][sources[0]] if not name.startswith("member ")]
    return markdown_table(
        ("view", *sources),
        [(name, *(estimate(report["views"][source][name]) for source in sources)) for name in names],
    )


def heat_table(report: Mapping[str, Any], members: Sequence[str] | None = None) -> str:
    """Markdown table of how predicted boxes, and the heat maps of each member, lie on the drawn lesions, by source.

    A sentence in its place where no image has a drawn lesion.
    """
    rows = [
        (
            *(member, source, row["n"]),
            *estimates(row["all"], ("box_iou", "box_hit_rate")),
            *estimates(row.get("malignant"), ("pointing_game", "energy_inside")),
        )
        for member in members or report["heat_maps"]
        for source, row in report["heat_maps"][member].items()
        # A normal breast has no lesion to lie on: leaving normals out changes nothing here.
        if "all" in row and not source.endswith(WITHOUT_NORMALS)
    ]
    if not rows:
        return "No lesion is drawn on these images, so that boxes and heat maps cannot be measured."
    titles = ("heat map of", "images with a drawn lesion", "n", "box IoU", "boxes with IoU ≥ 0.5")
    return markdown_table((*titles, "heat-map peak inside, malignant", "evidence inside, malignant"), rows)


def models_table(report: Mapping[str, Any], part: str = "all") -> str:
    """Markdown table of the ensemble and each member: discrimination, calibration, rates at the default point."""
    point = report["default_operating_point"]
    return markdown_table(
        ("model", *_SCORES.values(), *_RATES.values()),
        [
            (name, *estimates(parts[part], _SCORES), *estimates(parts[part]["operating_points"][point], _RATES))
            for name, parts in report["models"].items()
        ],
    )


def rates_table(report: Mapping[str, Any], name: str = ENSEMBLE) -> str:
    """Markdown table of one model's rates at every operating point, over all images."""
    shares = [f"{prevalence:g}" for prevalence in report["prevalences"]]
    values = [f"{key} at {100 * float(share):g} %" for share in shares for key in ("PPV", "NPV")]
    row = report["models"][name]["all"]
    rows = [
        (
            *(point, f"{rates['missed']} of {row['n_malignant']}"),
            *estimates(rates, _RATES),
            *(estimate(rates[f"{key} at"][share]) for share in shares for key in ("ppv", "npv")),
            *estimates(rates["wilson"], ("sensitivity", "specificity")),
        )
        for point, rates in row["operating_points"].items()
        if rates is not None
    ]
    titles = ("operating point", "missed", *_RATES.values(), *values)
    return markdown_table((*titles, "sensitivity (Wilson)", "specificity (Wilson)"), rows)


def models_title(report: Mapping[str, Any]) -> str:
    """What is cross-fitted in the table of models, and what is not."""
    return (
        f"Members and ensemble at `{report['default_operating_point']}`. Calibration and thresholds are cross-fitted "
        "(fitted on other groups than they are measured on); the weights of the members are those that ship, fitted on "
        'these images (what they give cross-fitted stands under "Weights" in the card of the ensemble):'
    )


def comparison_text(report: Mapping[str, Any]) -> str:
    """Table of the ensemble against its best single member, or the sentence that there is one member."""
    comparison = report["comparison"]
    if comparison is None:
        return "The ensemble has one member, so there is nothing to compare it with."
    rows = [
        (
            *(name, f"{row['ensemble']:.3f}", f"{row['single']:.3f}", signed(row["difference"])),
            *(f"{row['p_bootstrap']:.3f}", f"{row['p_delong']:.3f}"),
        )
        for name, row in comparison.items()
        if name != "best"
    ]
    table = markdown_table(
        ("images", "ensemble", "best single", "difference", "p (groups, bootstrap)", "p (images, DeLong)"), rows
    )
    best = f"The best single member by AUROC on these images is `{comparison['best']}`"
    return f"{best}; that it was chosen on them favours it.\n\n{table}"


def leave_out_text(report: Mapping[str, Any]) -> str:
    """Weights of the members, and whose absence is shown to cost or to win anything, over all images."""
    weights = ", ".join(f"`{name}` {weight:.3f}" for name, weight in report["member_weights"].items())
    text = f"Weights: {weights}."
    adds = _member_adds(report)
    if not adds:
        return text
    helps = [f"`{name}` ({signed(entry)})" for name, entry in adds.items() if (entry["low"] or 0) > 0]
    harms = [f"`{name}` ({signed(entry)})" for name, entry in adds.items() if (entry["high"] or 0) < 0]
    least = min(adds, key=lambda name: report["member_weights"][name])
    text += " AUROC that a member adds to the others, on these images: "
    text += f"shown for {', '.join(helps)}. " if helps else "shown for none of them. "
    if harms:
        text += f"Without {', '.join(harms)} the AUROC is higher, by one of {len(adds)} such intervals. "
    return text + f"The smallest weight is that of `{least}`, which adds {signed(adds[least])}."


def adds_text(report: Mapping[str, Any], member: str) -> str:
    """Sentence on what a member adds to the AUROC of the others, over all images; empty where that was not measured."""
    adds = _member_adds(report)
    if member not in adds:
        return ""
    gain = adds[member]
    text = f"It adds {signed(gain)} to the AUROC of the others."
    if (gain["low"] or 0) > 0:
        return text
    text += " **No gain from this member is shown on these images.**"
    if (gain["high"] or 0) < 0:
        text += f" Without it the AUROC is higher, by one of {len(adds)} such intervals."
    return text


def _member_adds(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """AUROC that each member adds to the others over all images, {value, low, high}, where that was measured."""
    return {
        name.removeprefix("member "): row["all"]["adds"]
        for name, row in report["leave_out"].items()
        if name.startswith("member ") and "all" in row
    }


def light_text(report: Mapping[str, Any]) -> str:
    """Table of the light member as it is used; empty for a report that does not measure members so."""
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
    by_pathology = "; ".join(
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
        f"predicted malignant {only} is never answered as surely benign: {by_pathology}. With this rule the default "
        f"operating point has {rates}; {origin}."
    )


def leave_out_table(report: Mapping[str, Any]) -> str:
    """Markdown table of what each member, group of views and view adds to the AUROC."""
    parts = list(report["models"][ENSEMBLE])
    rows = [
        (name, *(signed(row[part]["adds"]) if part in row else "–" for part in parts))
        for name, row in report["leave_out"].items()
    ]
    return markdown_table(("without", *(f"{part}: adds" for part in parts)), rows)


def across_text(report: Mapping[str, Any]) -> str:
    """Table of each source at thresholds fitted on the others, or the sentence that there is one source."""
    if not report["across_sources"]:
        return "There is one source, so whether a threshold transfers cannot be said."
    rows = [
        (source, name, f"{row['target']:g}", *estimates(row, ("sensitivity", "specificity")))
        for source, points in report["across_sources"].items()
        for name, row in points.items()
    ]
    return markdown_table(("measured on", "operating point", "wanted", "sensitivity", "specificity"), rows)


def out_of_hospital(report: Mapping[str, Any]) -> bool:
    """Whether each source's images were read by networks that were trained without that source."""
    return report.get("hold_out") == EACH_SOURCE


def held_out_text(report: Mapping[str, Any]) -> str:
    """Sentence on which networks read the images that the metrics are of."""
    if out_of_hospital(report):
        return (
            "All metrics are out-of-hospital: the images of each source were read by networks of the same recipe that "
            "were trained without that source. The members that ship were trained on all of them."
        )
    return "All metrics are out-of-fold: of images whose groups no member saw."


def across_verdict(report: Mapping[str, Any]) -> str:
    """Sentence on whether thresholds that were fitted on one source hold their sensitivity on another."""
    across = report["across_sources"]
    if not across:
        return across_text(report)
    default = {source: points[report["default_operating_point"]] for source, points in across.items()}
    target = next(iter(default.values()))["target"]
    measured = " and ".join(f"{estimate(row['sensitivity'])} on {source}" for source, row in default.items())
    short = [
        f"wanted {row['target']:g}, measured {estimate(row['sensitivity'])} on {source}"
        for source, points in across.items()
        for row in points.values()
        if row["sensitivity"]["high"] is not None and row["sensitivity"]["high"] < row["target"]
    ]
    networks = "networks that saw no image of theirs" if out_of_hospital(report) else "networks that learned from all"
    text = (
        f"A threshold that is fitted on the held-out images of the other sources alone (of {networks}) for a "
        f"sensitivity of {target:g} reaches {measured}"
    )
    if any((row["sensitivity"]["low"] or 0) < target for row in default.values()):
        text += f", so that it holds {target:g} on a source it was not fitted on is not shown"
    text += f"; thresholds shown to find fewer cancers than they are meant to: {'; '.join(short)}" if short else ""
    return f"{text}. On images of your own, fit thresholds of your own: `bus-hf calibrate`."


def abstention_text(report: Mapping[str, Any]) -> str:
    """The abstention interval: its ends, how many images are answered, and how often wrongly, by class."""
    interval = report.get("abstain")
    if not interval:
        return "There is no abstention interval."
    text = (
        f'Abstention interval: probabilities from {interval["low"]:.3f} to {interval["high"]:.3f} are answered "not '
        f'sure, refer". {100 * interval["coverage"]:.1f} % of the held-out images lie outside, and '
        f"{100 * interval['error']:.1f} % of those are answered wrongly ({interval['method']})."
    )
    for name, row in interval.get("answered", {}).items():
        text += (
            f" Of {row['n']} {name} images {row['n_answered']} are answered, {row['n_wrong']} of them wrongly "
            f"(right: {estimate(row['right'])})."
        )
    return text


def disagreement_text(report: Mapping[str, Any]) -> str:
    """One sentence on whether disagreement of the members tells wrong predictions."""
    measured = report["disagreement"]
    if measured is None:
        return "With one member there is no disagreement to measure."
    difference = measured["difference"]
    if difference["low"] is not None and difference["low"] > 0:
        verdict = "it tells more than closeness does"
    elif difference["high"] is not None and difference["high"] < 0:
        verdict = "closeness tells more, so disagreement is no measure of doubt of its own"
    else:
        verdict = "no difference from closeness is shown"
    return (
        f"Of {measured['n']} predictions at the default operating point {measured['n_wrong']} were wrong. Disagreement "
        "of the members tells wrong predictions from right ones with an AUROC of "
        f"{estimate(measured['by_disagreement'])}, closeness of the logit to the threshold with "
        f"{estimate(measured['by_closeness'])}: {verdict}."
    )


def strata_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the ensemble by source, BI-RADS, device, lesion size and histology."""
    point = report["default_operating_point"]
    strata = {
        "source": "by_source",
        "BI-RADS": "by_birads",
        "device": "by_device",
        "lesion's longer side": "by_size",
        "histology": "by_histology",
    }
    rows = [
        (
            *(f"{title}: {name}", counts(row), estimate(row["auroc"])),
            *estimates(row["operating_points"][point], ("sensitivity", "specificity")),
        )
        for title, key in strata.items()
        for name, row in report[key].items()
        if row["n"] >= MIN_IMAGES
    ]
    note = (
        f"A dash: fewer than {MIN_IMAGES} images of the class; strata of fewer than {MIN_IMAGES} images are in "
        "report.json only. The threshold is the shipped one, fitted on all of these images."
    )
    return f"{markdown_table(('stratum', _COUNTS, 'AUROC', 'sensitivity', 'specificity'), rows)}\n\n{note}"


def weights_text(report: Mapping[str, Any]) -> str:
    """How the weights of members and views came about, and what fitting them gained."""
    members = ", ".join(f"`{name}` {weight:.3f}" for name, weight in report["member_weights"].items())
    views = ", ".join(f"{name} {weight:.3f}" for name, weight in report["view_weights"].items())
    fit = report["weights"]
    text = f"Weights of the members: {members}. Weights of the views: {views}. "
    if fit["how"] == "given":
        return text + "Both were given, not fitted."
    area, loss = fit["auroc"], fit["log_loss"]
    gained = (
        f"fitted on nine tenths of the groups and measured on the rest, they give an AUROC of "
        f"{area['fitted']:.3f} against {area['equal']:.3f} of equal weights (difference "
        f"{signed(fit['auroc_difference'])}), and a log loss of {loss['fitted']:.4f} against {loss['equal']:.4f}"
    )
    kept = "The weights of the members follow the d′ of each member alone on the held-out images"
    if not fit["pays"]:
        kept = "Weights by the d′ of each member alone did not pay, so that they are equal"
    return f"{text}{kept}: {gained}."
