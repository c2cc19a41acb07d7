"""Page of a network that was trained once a fold, from what `evaluation.cross_validation` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bus_hf.reporting.markdown import counts, estimates, markdown_table, spread


def first_fold_text(report: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """Sentence on the AUROC of the fold that the first run held out, beside the mean of all folds."""
    record, fold = records[0], str(records[0]["fold"])
    parts = [
        f"{'' if name == 'all' else f'{name} '}{row['auroc'][fold]:.3f} against {spread(row)}"
        for name, row in report["folds"].items()
        if fold in row["auroc"]
    ]
    return (
        f"`{record['architecture']}` at {record['input_size']} pixels and {record['epochs']} epochs, trained once a "
        f"fold ({len(records)} networks): AUROC on fold {fold} against that of all folds (mean ± sd) "
        f"{', '.join(parts)}."
    )


def markdown(report: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """Page of a report."""
    record = records[0]
    folds = ", ".join(str(one["fold"]) for one in records)
    text = (
        f"{len(records)} networks at {record['input_size']} pixels, {record['epochs']} epochs from "
        f"{record['start']['source']}, each measured on the fold that it held out ({folds} of {record['folds']}), so "
        f"that an image counts once, by a network that saw no image of its group (patient, near-duplicates; "
        f"{record['n_left_out']} images of conflicting groups excluded). {report['interval']}; rates, Brier score and "
        "calibration error with temperature and threshold fitted on other groups."
    )
    title = f"# `{record['architecture']}`, once a fold"
    return "\n\n".join((title, text, _pooled_table(report), _fold_table(report))) + "\n"


def _pooled_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the pooled metrics, a row for each set of images and operating point."""
    rows = []
    for name, row in report["pooled"].items():
        auroc, brier, ece = estimates(row, ("auroc", "brier", "ece"))
        lead: Sequence[Any] = (name, counts(row), auroc, spread(report["folds"][name]), brier, ece)
        for point, rates in (row["operating_points"] or {"–": None}).items():
            rows.append((*lead, point, *estimates(rates, ("sensitivity", "specificity"))))
            lead = [""] * len(lead)
    titles = ("images", "n (malignant, groups)", "AUROC, pooled", "AUROC, mean ± sd of folds", "Brier")
    return markdown_table((*titles, "calibration error", "operating point", "sensitivity", "specificity"), rows)


def _fold_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the AUROC of each fold, by source."""
    areas = {name: row["auroc"] for name, row in report["folds"].items()}
    rows = [
        (fold, *(f"{by_fold[fold]:.3f}" if fold in by_fold else "–" for by_fold in areas.values()))
        for fold in areas["all"]
    ]
    return markdown_table(("AUROC of fold", *areas), rows)
