"""Page, tables and card of a classifier of several classes, from `evaluation.multiclass`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bus_hf.reporting.markdown import estimates, markdown_table, spread

# E. Aumente-Maestro et al., 2024: five-fold accuracy on a curated BUSI, mean and standard deviation over folds.
CURATED_BUSI = (0.802, 0.018)
_PARTS = {"all": "all", "one_a_group": "one a group", "at_shares": "one a group, at the classes' shares"}
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
}


def markdown(report: Mapping[str, Any], title: str, records: Sequence[Mapping[str, Any]]) -> str:
    """Page of a report: data, metrics, and where they stand beside what was published."""
    record = records[0]
    sources = sorted({source for one in records for source in one["sources"]})
    folds = ", ".join(str(one["fold"]) for one in records)
    parts = [
        f"# {title}: {', '.join(report['classes'])}",
        f"`{record['architecture']}` at {record['input_size']} pixels, {record['epochs']} epochs from "
        f"{record['start']['source']}, trained on {', '.join(sources)}; fold {folds} of {record['folds']} held out, "
        f"each by a network that saw no image of its groups (patients, near-duplicates; {record['n_left_out']} images "
        f"of conflicting groups excluded). {report['interval'][0].upper()}{report['interval'][1:]}.",
        _whole_table(report),
    ]
    if "at_shares" in report:
        parts.append(
            "Training draws every class equally often. At the classes' shares: the logarithm of the share that a class "
            "has in the folds that were trained on is added to its logit before the likeliest class is taken."
        )
    parts += ["All images:", class_table(report), "One image a group:", class_table(report, "one_a_group")]
    if "at_shares" in report:
        parts += ["One image a group, at the classes' shares:", class_table(report, "at_shares")]
    if record["label_set"] == "busi3" and set(record["sources"]) == {"busi"}:
        mean, sd = CURATED_BUSI
        parts.append(
            f"Published beside it: accuracy {mean} ± {sd} over five folds of a curated BUSI (E. Aumente-Maestro "
            "et al., 2024); other images and folds, so the two are neighbours, not rivals."
        )
    return "\n\n".join(parts) + "\n"


def _whole_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the metrics over all classes."""
    rows = [
        (
            *(name, f"{report[part]['n']} ({report[part]['n_groups']})"),
            *estimates(report[part], _METRICS),
            *(spread(report[part]["folds"][metric]) for metric in ("accuracy", "macro_f1")),
        )
        for part, name in _PARTS.items()
        if part in report
    ]
    titles = ("images", "n (groups)", *_METRICS.values(), "folds: accuracy", "folds: F1")
    return markdown_table(titles, rows)


def class_table(report: Mapping[str, Any], part: str = "all") -> str:
    """Markdown table of a report's metrics by class."""
    rows = [
        (name, row["n"], *estimates(row, ("auroc", "f1", "precision", "recall")))
        for name, row in report[part]["by_class"].items()
    ]
    return markdown_table(("class", "n", "AUROC, one against the rest", "F1", "precision", "recall"), rows)


def lesion_type_text(report: Mapping[str, Any]) -> str:
    """What an ensemble's README and page say of its lesion-type classifier."""
    whole = report["all"]
    accuracy, macro_f1 = estimates(whole, ("accuracy", "macro_f1"))
    return (
        f"The lesion-type classifier tells apart {', '.join(report['classes'])}; it runs on request and has no say "
        f"in the answer above. Measured on {whole['n']} images in {whole['n_groups']} groups, each by a network that "
        f"saw no image of its group: accuracy {accuracy}, macro F1 {macro_f1}.\n\n{class_table(report)}"
    )


def card(page: str, records: Sequence[Mapping[str, Any]], lone: bool = False) -> str:
    """README of a member folder that holds such a classifier: front matter, the page of its report, its use and limits.

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
ensemble's answer. Its temperature was fitted on the fold that it held out. In use the lesion crops take the box
that the ensemble's lesion map finds; here each network took its own.
"""
    )
    start = first["start"]
    return f"""---
{front.to_yaml()}
---

{page}
## Use and limits

The network here held out fold {first["fold"]}; the metrics are {siblings} on the fold that it held out.
{offered}
Pretrained weights: {start["source"]}; licence: {start["licence"]}. For research and teaching. This is not a medical
device: it has seen images of {" and ".join(first["sources"])} alone, and the likeliest class is often wrong.
"""


def draw_confusion(path: Path, report: Mapping[str, Any]) -> None:
    """Confusion matrix of all images as a picture."""
    from bus_hf.reporting.plots import draw_counts

    draw_counts(path, np.array(report["all"]["confusion"]), report["classes"])
