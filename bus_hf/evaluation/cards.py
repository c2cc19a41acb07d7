"""Model cards and tables: words around figures that all come from a report and a run's record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bus_hf.evaluation.report import WITHOUT_NORMALS

_DISCLAIMER = (
    "For research and teaching. This is not a medical device, has not been validated in clinical use and must not "
    "decide about a patient."
)

_HEADINGS = """
# {title}

{summary}

## Intended use

Second reading of single B-mode breast-ultrasound images in research and teaching: a calibrated probability that the
image shows a malignant lesion, with the place it rests on. Not for screening without a reader, for other organs,
Doppler, elastography or whole videos. {disclaimer}

## Data and splits

{data}

Images of one patient and near-duplicates (found on the pixels) form a group; no group stands on two sides of a split.
Groups whose labels conflict are left out.

## Start weights

{start}

## Figures

All figures are out-of-fold: of images whose groups the model never saw. Intervals: {interval}.{whose}

{table}

### Operating points

{points}

### Where the evidence lies

{heat}

## Limits

- Measured on {sources}, with {devices}: other hospitals and devices will read differently.
- The share of malignant images is that of the collections, far above that of a screening population; predictive values
  do not carry over.
- The temperature was fitted on the held-out images that the table describes, so that one number flatters Brier score
  and calibration error; AUROC and AUPRC do not depend on it, and the rates at the operating points are cross-fitted.
- The peak of the lesion map below which no lesion is reported was chosen on the same images.
- {folds}
- BUSI is known to hold near-duplicates by the hundred, lesions in two classes, axilla images and burned-in marks
  (Pawłowska et al., Data in Brief 2023). Near-duplicates are grouped, conflicting groups left out; images that pass as
  different and are of one patient cannot be found, since BUSI has no patient numbers. Its figures may flatter.

## Cite

- W. Al-Dhabyani, M. Gomaa, H. Khaled, A. Fahmy, "Dataset of breast ultrasound images", Data in Brief 28:104863, 2020.
- W. Gómez-Flores, M. J. Gregorio-Calas, W. C. de Albuquerque Pereira, "BUS-BRA: a breast ultrasound dataset for
  assessing computer-aided diagnosis systems", Medical Physics, 2023.
"""


def estimate(entry: Mapping[str, Any] | Sequence[float] | None, digits: int = 3) -> str:
    """Write {value, low, high} or [value, low, high] as `0.950 (0.930-0.970)`; a dash where there is none."""
    if entry is None:
        return "–"
    value, low, high = entry.values() if isinstance(entry, Mapping) else entry
    if value is None:
        return "–"
    bounds = f" ({low:.{digits}f}–{high:.{digits}f})" if low is not None and high is not None else ""
    return f"{value:.{digits}f}{bounds}"


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


def points_table(report: Mapping[str, Any]) -> str:
    """Markdown table of the operating points, with the rates to expect."""
    lines = ["| operating point | threshold | sensitivity | specificity |", "|---|---|---|---|"]
    for point in report["operating_points"]:
        rates = f"{estimate(point['sensitivity'])} | {estimate(point['specificity'])}"
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


def heat_table(report: Mapping[str, Any]) -> str:
    """Markdown table of how boxes and heat maps lie on the drawn lesions, by source."""
    lines = [
        "| images with a drawn lesion | n | box IoU | box hits (IoU ≥ 0.5) | heat-map peak inside, malignant | "
        "evidence inside, malignant |",
        "|---|---|---|---|---|---|",
    ]
    for source, row in report["heat_maps"].items():
        # A normal breast has no lesion to lie on: leaving normals out changes nothing here.
        if "all" not in row or source.endswith(WITHOUT_NORMALS):
            continue
        boxes = f"{estimate(row['all']['box_iou'])} | {estimate(row['all']['box_hit_rate'])}"
        malignant = row.get("malignant", {})
        maps = f"{estimate(malignant.get('pointing_game'))} | {estimate(malignant.get('energy_inside'))}"
        lines.append(f"| {source} | {row['n']} | {boxes} | {maps} |")
    return "\n".join(lines)


def member_card(report: Mapping[str, Any], record: Mapping[str, Any], name: str) -> str:
    """README of a member: front matter that the Hub reads, then the card."""
    counts = ", ".join(f"{count} of {source}" for source, count in record["sources"].items())
    start = record["start"]
    summary = (
        f"A plain timm `{record['architecture']}` checkpoint, {record['input_size']} x {record['input_size']} pixels, "
        f"grey repeated to three channels. Load it with `timm.create_model('local-dir:FOLDER', pretrained=True)`; its "
        f"one logit is that of malignancy. Images are letterboxed, never stretched."
    )
    data = (
        f"Trained on {record['n_train']} images ({counts}) for {record['epochs']} epochs, {record['kept']}; "
        f"{record['n_held_out']} images held out (fold {record['fold']} of {record['folds']}); "
        f"{record['near_duplicate_pairs']} near-duplicate pairs joined, {record['n_left_out']} images of conflicting "
        f"groups left out."
    )
    began = f"{start['source']}; licence: {start['licence']}. {start['taken']} tensors taken, {start['fresh']} fresh."
    title = f"{name}: malignancy in breast ultrasound"
    return _card(title, summary, data, began, report, record, "timm", name, member=name)


def ensemble_card(report: Mapping[str, Any], name: str, members: Mapping[str, Mapping[str, Any]]) -> str:
    """README of an ensemble folder from its report and the records of its members' training."""
    votes = ", ".join(f"`{member}` ({weight:.2f})" for member, weight in report["member_weights"].items())
    summary = (
        f"Members and their votes: {votes}. `ensemble.json` holds the weights of members and views, the "
        f'temperature, the operating points and the band of "not sure". Read it with '
        f"`bus_hf.BreastCancerDetector.from_pretrained(FOLDER)`."
    )
    record = next(iter(members.values()))
    data = (
        f"Each member left out the same {record['n_held_out']} images (fold {record['fold']} of {record['folds']}); "
        f"temperature, thresholds and the band were fitted on those alone."
    )
    start = "\n".join(
        f"- `{member}`: {one['start']['source']}; {one['start']['licence']}" for member, one in members.items()
    )
    views = f"\n\n### What each view adds (AUROC)\n\n{views_table(report)}"
    return _card(name, summary, data, start, report, record, "bus_hf", name, views)


def replace_between(text: str, marker: str, content: str) -> str:
    """Put `content` between `<!-- marker:start -->` and `<!-- marker:end -->`; ValueError where they are missing."""
    pattern = re.compile(rf"(<!-- {marker}:start -->\n).*?(<!-- {marker}:end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no <!-- {marker}:start --> ... <!-- {marker}:end -->")
    return pattern.sub(lambda found: f"{found[1]}{content.rstrip()}\n{found[2]}", text)


def _card(
    title: str,
    summary: str,
    data: str,
    start: str,
    report: Mapping[str, Any],
    record: Mapping[str, Any],
    library: str,
    name: str,
    more: str = "",
    member: str | None = None,
) -> str:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    # One voter of several has an AUROC of its own; every other figure of the report is the ensemble's.
    alone = member if len(report["member_weights"]) > 1 else None
    whose = ""
    if alone:
        lines = [f"- {source}: {estimate(row[f'member {alone}'])}" for source, row in report["views"].items()]
        whose = "\n\nAUROC of this member alone:\n\n" + "\n".join(lines)
        whose += "\n\nThe tables below are those of the ensemble that it votes in."
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=source.removesuffix(WITHOUT_NORMALS),
            # The Hub joins results of one type and configuration under the first one's name.
            dataset_config=WITHOUT_NORMALS.strip() if source.endswith(WITHOUT_NORMALS) else None,
            dataset_name=f"{source}, out-of-fold, {row['n']} images",
            metric_type=metric,
            metric_name=f"{metric.upper()} {estimate(figure)}, 95 % interval by group",
            metric_value=figure["value"],
        )
        for source, row in report["by_source"].items()
        for metric, figure in (
            {"auroc": report["views"][source][f"member {alone}"]}
            if alone
            else {"auroc": row["auroc"], "auprc": row["auprc"]}
        ).items()
        if figure is not None
    ]
    front = ModelCardData(
        model_name=name,
        license="mit",
        library_name=library,
        pipeline_tag="image-classification",
        tags=["medical", "ultrasound", "breast-cancer"],
        eval_results=results or None,
    )
    body = _HEADINGS.format(
        title=title,
        summary=summary,
        disclaimer=_DISCLAIMER,
        data=data,
        start=start,
        table=figures_table(report) + more,
        points=points_table(report),
        heat=heat_table(report),
        interval=report["interval"],
        whose=whose,
        sources=_counted(sum(not name.endswith(WITHOUT_NORMALS) for name in report["by_source"]), "source"),
        devices=_counted(len(report["by_device"]), "known scanner setting"),
        folds=_held_out(record),
    )
    return str(ModelCard(f"---\n{front.to_yaml()}\n---\n{body}"))


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _held_out(record: Mapping[str, Any]) -> str:
    return (
        f"One fold of {record['folds']} was held out ({record['n_held_out']} images), so the intervals are wide and "
        f"the other folds say nothing here."
    )
