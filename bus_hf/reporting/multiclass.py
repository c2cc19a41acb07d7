"""Page, tables, card and confusion matrix of a network of several classes, from `evaluation.multiclass`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bus_hf.reporting.tables import estimate, spread

# E. Aumente-Maestro et al., 2024: five-fold accuracy on a curated BUSI, mean and standard deviation over folds.
CURATED_BUSI = (0.802, 0.018)


def markdown(found: Mapping[str, Any], title: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Page of a report: data, figures, and where they stand beside what was published."""
    record = records[0]
    sources = sorted({source for one in records for source in one["sources"]})
    folds = ", ".join(str(one["fold"]) for one in records)
    lines = [
        f"# {title}: {', '.join(found['classes'])}",
        "",
        f"`{record['architecture']}` at {record['input_size']} pixels, {record['epochs']} epochs from "
        f"{record['start']['source']}, trained on {', '.join(sources)}; fold {folds} of {record['folds']} held out, "
        f"each by a network that saw no image of its groups (patients, near-duplicates; {record['n_left_out']} images "
        f"of conflicting groups left out). {found['interval'][0].upper()}{found['interval'][1:]}.",
        "",
        "| images | n (groups) | accuracy | balanced accuracy | macro F1 | log loss | folds: accuracy | folds: F1 |",
        "|---" * 8 + "|",
    ]
    names = {"all": "all", "one_a_group": "one a group", "at_shares": "one a group, at the classes' shares"}
    for key, name in names.items():
        if key not in found:
            continue
        row = found[key]
        cells = " | ".join(estimate(row[one]) for one in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss"))
        over_folds = " | ".join(spread(row["folds"][one]) for one in ("accuracy", "macro_f1"))
        lines.append(f"| {name} | {row['n']} ({row['n_groups']}) | {cells} | {over_folds} |")
    if "at_shares" in found:
        lines += [
            "",
            "Training draws every class equally often. At the classes' shares: the logarithm of the share that a class "
            "has in the folds that were trained on is added to its logit before the likeliest class is taken.",
        ]
    lines += [
        "",
        "All images:",
        "",
        class_table(found),
        "",
        "One image a group:",
        "",
        class_table(found, "one_a_group"),
    ]
    if "at_shares" in found:
        lines += ["", "One image a group, at the classes' shares:", "", class_table(found, "at_shares")]
    if record["label_set"] == "busi3" and set(record["sources"]) == {"busi"}:
        mean, spread_of = CURATED_BUSI
        lines += [
            "",
            f"Published beside it: accuracy {mean} ± {spread_of} over five folds of a curated BUSI (E. Aumente-Maestro "
            "et al., 2024); other images and folds, so the two are neighbours, not rivals.",
        ]
    return "\n".join(lines) + "\n"


def class_table(found: Mapping[str, Any], part: str = "all") -> str:
    """Markdown table of a report's figures by class."""
    lines = ["| class | n | AUROC, one against the rest | F1 | precision | recall |", "|---" * 6 + "|"]
    for name, row in found[part]["by_class"].items():
        cells = " | ".join(estimate(row[one]) for one in ("auroc", "f1", "precision", "recall"))
        lines.append(f"| {name} | {row['n']} | {cells} |")
    return "\n".join(lines)


def lesion_type_text(found: Mapping[str, Any]) -> str:
    """What an ensemble's README and page say of its lesion-type classifier."""
    whole = found["all"]
    right, macro = estimate(whole["accuracy"]), estimate(whole["macro_f1"])
    return (
        f"The lesion-type classifier tells apart {', '.join(found['classes'])}; it runs on request and has no say "
        f"in the answer above. Measured on {whole['n']} images in {whole['n_groups']} groups, each by a network that "
        f"saw no image of its group: accuracy {right}, macro F1 {macro}.\n\n{class_table(found)}"
    )


def card(page: str, records: Sequence[Mapping[str, Any]], lone: bool = False) -> str:
    """README of a member folder that holds such a reader: front matter, the page of its report, its use and limits.

    Args:
        page: from `markdown`.
        records: of the runs, the one whose network lies in the folder first.
        lone: it is no lesion-type classifier of an ensemble.
    """
    from huggingface_hub import ModelCardData

    first = records[0]
    front = ModelCardData(
        license="mit",
        library_name="timm",
        pipeline_tag="image-classification",
        tags=["medical", "ultrasound", "breast-cancer"],
    )
    siblings = f"of it and of its {len(records) - 1} siblings, each" if len(records) > 1 else "of it,"
    offered = (
        ""
        if lone
        else """
Offered beside an ensemble as a lesion-type classifier: it runs on request, is marked as such, and has no say in the
ensemble's answer. Its temperature was fitted on the fold that it left out. In use the lesion crops take the box
that the ensemble's lesion map finds; here each network took its own.
"""
    )
    start = first["start"]
    return f"""---
{front.to_yaml()}
---

{page}
## Use and limits

The network here left out fold {first["fold"]}; the figures are {siblings} read on the fold that it left out.
{offered}
Start weights: {start["source"]}; licence: {start["licence"]}. For research and teaching. This is not a medical device:
it has seen images of {" and ".join(first["sources"])} alone, and the likeliest class is often wrong.
"""


def draw_confusion(path: Path, found: Mapping[str, Any]) -> None:
    """Confusion matrix of all images as a picture: counts, and shares of each row."""
    from bus_hf.reporting.plots import canvas

    counts = np.array(found["all"]["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    places = range(len(counts))
    with canvas(path, "Said", "Is", size=(5.6, 5)) as axes:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in places:
            for column in places:
                text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
                colour = "white" if shares[row, column] > 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", color=colour)
        axes.set_xticks(places, found["classes"])
        axes.set_yticks(places, found["classes"], rotation=90, va="center")
        axes.grid(False)
