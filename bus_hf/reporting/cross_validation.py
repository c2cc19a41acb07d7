"""Page of a network that was trained once a fold, from what `evaluation.cross_validation` measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bus_hf.reporting import tables


def first_fold_text(found: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """Sentence on how the fold that the first run left out is read, beside the mean of all folds."""
    record, fold = records[0], str(records[0]["fold"])
    parts = [
        f"{'' if name == 'all' else f'{name} '}{row['auroc'][fold]:.3f} against {tables.spread(row)}"
        for name, row in found["folds"].items()
        if fold in row["auroc"]
    ]
    return (
        f"`{record['architecture']}` at {record['input_size']} pixels and {record['epochs']} epochs, trained once a "
        f"fold ({len(records)} networks): AUROC on fold {fold} against that of all folds (mean ± sd) "
        f"{', '.join(parts)}."
    )


def markdown(found: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """Page of a report."""
    record = records[0]
    folds = ", ".join(str(one["fold"]) for one in records)
    lines = [
        f"# `{record['architecture']}`, once a fold",
        "",
        f"{len(records)} networks at {record['input_size']} pixels, {record['epochs']} epochs from "
        f"{record['start']['source']}, each read on the fold that it left out ({folds} of {record['folds']}), so that "
        f"an image is read once, by a network that saw no image of its group (patient, near-duplicates; "
        f"{record['n_left_out']} images of conflicting groups left out). {found['interval']}; rates, Brier score and "
        "calibration error with temperature and threshold fitted on other groups.",
        "",
        "| images | n (malignant, groups) | AUROC, pooled | AUROC, mean ± sd of folds | Brier | calibration error | "
        "operating point | sensitivity | specificity |",
        "|---" * 9 + "|",
    ]
    for name, row in found["pooled"].items():
        fold = tables.spread(found["folds"][name])
        counts = f"{row['n']} ({row['n_malignant']}, {row['n_groups']})"
        auroc, brier, ece = (tables.estimate(row[key]) for key in ("auroc", "brier", "ece"))
        whole = f"| {name} | {counts} | {auroc} | {fold} | {brier} | {ece} "
        for point, rates in (row["operating_points"] or {"–": None}).items():
            cells = " | ".join(tables.estimate(rates[key] if rates else None) for key in ("sensitivity", "specificity"))
            lines.append(f"{whole}| {point} | {cells} |")
            whole = "| | | | | | "
    names = list(found["folds"])
    lines += ["", f"| AUROC of fold | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for fold in found["folds"]["all"]["auroc"]:
        areas = [found["folds"][name]["auroc"].get(fold) for name in names]
        lines.append(f"| {fold} | {' | '.join('–' if area is None else f'{area:.3f}' for area in areas)} |")
    return "\n".join(lines) + "\n"
