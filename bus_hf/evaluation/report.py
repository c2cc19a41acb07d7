"""Every figure of an ensemble from its out-of-fold logits, as one JSON-ready dict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import RESAMPLES, interval, resamples, settled
from bus_hf.evaluation.calibration import Scale
from bus_hf.evaluation.combine import combine
from bus_hf.evaluation.evidence import VIEW_GROUPS

if TYPE_CHECKING:
    import pandas as pd

# A class with fewer images says nothing about discrimination.
LEAST = 10
# What strata need, and what lies on lesions is measured by.
_FACTS = ("mask_w", "mask_h", "height", "width", "birads", "device", "histology")
_LESIONS = ("mask_w", "box_w", "box_iou", "pointing_hit", "energy_inside")
# Ends the name of a source whose images of normal breasts are left out.
WITHOUT_NORMALS = " without normals"


def report(
    frame: pd.DataFrame,
    member_weights: Mapping[str, float],
    view_weights: Mapping[str, float],
    scale: Scale,
    operating_points: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Figures over all images and by stratum, each {value, low, high} with a 95 % interval by group bootstrap.

    Args:
        frame: out-of-fold logits, one row an image, member and view, as training writes them; a fact that it has no
            column of counts as unknown: its strata are empty, and without boxes and masks so is heat_maps.
        member_weights: vote of each member.
        view_weights: weight of each view.
        scale: temperature and bias of the combined logit.
        operating_points: dicts with name and logit, the threshold after temperature and bias.

    Returns:
        overall, by_source, by_birads, by_device, by_size, by_histology (figures by name, with n, n_malignant and
        n_groups), as_used (rates of each member that answers alone, at the same calibration and thresholds),
        mean_probability and share_malignant, views and members (AUROC by source), heat_maps (by member and source), and
        what they were computed with.

    Raises:
        BusError: the logits are of more than two classes.
    """
    import pandas as pd
    from scipy.special import expit

    if "logit_1" in frame:
        raise BusError(
            "these logits are of more than two classes, and the figures are those of malignant against benign",
            remedy="give logits of the label set 'malignancy'",
        )

    frame = _with_facts(frame)

    def read(weights: Mapping[str, float]) -> pd.DataFrame:
        images = combine(frame, weights, view_weights)
        images["calibrated"] = scale.logits(images["logit_0"].to_numpy())
        images["probability"] = scale.probabilities(images["logit_0"].to_numpy())
        return images

    images = read(member_weights)
    thresholds = {str(point["name"]): float(point["logit"]) for point in operating_points}
    describe = partial(_described, thresholds=thresholds)
    side = images[["mask_w", "mask_h"]].max(axis=1) / images[["height", "width"]].max(axis=1)
    size = pd.cut(side, [0, 0.2, 0.4, np.inf], labels=["under 20 %", "20 to 40 %", "over 40 % of the image's side"])
    return {
        "overall": describe(images),
        "by_source": {name: describe(rows) for name, rows in _sources(images).items()},
        "by_birads": _strata(images, images["birads"], describe),
        "by_device": _strata(images, images["device"], describe),
        "by_size": _strata(images, size.astype(object), describe),
        "by_histology": _strata(images, images["histology"], describe),
        "as_used": {member: describe(read({member: 1.0}))["operating_points"] for member in member_weights},
        "mean_probability": round(float(images["probability"].mean()), 6),
        "share_malignant": round(float(images["label"].mean()), 6),
        "views": {
            name: _areas(frame[frame["name"].isin(rows["name"])], member_weights, view_weights)
            for name, rows in _sources(images).items()
        },
        "heat_maps": {
            member: {
                name: on_lesions(rows)
                for name, rows in _sources(frame[frame["member"] == member].drop_duplicates("name")).items()
            }
            for member in member_weights
        },
        "operating_points": [
            {**point, "threshold": round(float(expit(point["logit"])), 6)} for point in operating_points
        ],
        **scale._asdict(),
        "member_weights": dict(member_weights),
        "view_weights": dict(view_weights),
        "interval": f"95 % by bootstrap of groups, {RESAMPLES} resamples; rates of 0 and 1 by Wilson over groups",
    }


def write_report(found: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _with_facts(frame: pd.DataFrame) -> pd.DataFrame:
    """Logits with a column for each fact that strata are made of, NaN where it is not known."""
    known = frame.assign(**{name: np.nan for name in _FACTS if name not in frame})
    if "source" not in known:
        known["source"] = "unknown"
    if "pathology" not in known:
        known["pathology"] = np.where(known["label"] == 1, "malignant", "benign")
    return known


def _sources(images: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Images of each source, and those of a source with normal breasts once more without them."""
    found = {}
    for source, rows in images.groupby("source", sort=True):
        found[str(source)] = rows
        lesions = rows[rows["pathology"] != "normal"]
        if 0 < len(lesions) < len(rows):
            found[f"{source}{WITHOUT_NORMALS}"] = lesions
    return found


def _strata(images: pd.DataFrame, by: pd.Series, describe: Any) -> dict[str, Any]:
    return {str(name): describe(rows) for name, rows in images.groupby(by, sort=True, observed=True)}


def _described(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[str, Any]:
    labels, logits, chances, groups = (
        rows[name].to_numpy() for name in ("label", "calibrated", "probability", "group")
    )
    weights = resamples(groups)
    malignant = int(labels.sum())
    enough = {"sensitivity": malignant >= LEAST, "specificity": len(rows) - malignant >= LEAST}
    both = all(enough.values())
    found: dict[str, Any] = {"n": len(rows), "n_malignant": malignant, "n_groups": int(rows["group"].nunique())}
    if not both:
        found["reason"] = (
            f"fewer than {LEAST} images of a class: no AUROC, AUPRC or calibration error, and no rate of that class"
        )
    for name, statistic, scores in (
        # Logits, not probabilities, which tie where they saturate.
        ("auroc", metrics.auroc, logits),
        ("auprc", metrics.auprc, logits),
        ("ece", metrics.ece, chances),
    ):
        found[name] = _estimate(statistic, labels, scores, weights) if both else None
    found["brier"] = _estimate(metrics.brier, labels, chances, weights)
    found["operating_points"] = {
        point: {
            name: _estimate(statistic, labels, logits >= threshold, weights, counted)
            if enough.get(name, both)
            else None
            for name, statistic, counted in (
                ("sensitivity", metrics.sensitivity, groups[labels == 1]),
                ("specificity", metrics.specificity, groups[labels == 0]),
                ("f1", metrics.f1, None),
                ("accuracy", metrics.accuracy, groups),
            )
        }
        | {"missed": int((labels[logits < threshold] == 1).sum())}
        for point, threshold in thresholds.items()
    }
    return found


def _areas(
    frame: pd.DataFrame, member_weights: Mapping[str, float], view_weights: Mapping[str, float]
) -> dict[str, Any]:
    """AUROC of each view alone, of each look, of both, and of each member alone; None for what was not read."""
    read, weighted = set(frame["view"]), {view: weight for view, weight in view_weights.items() if weight > 0}
    subsets: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
        **{view: (member_weights, {view: 1.0}) for looked in VIEW_GROUPS.values() for view in looked},
        **{
            look: (member_weights, {view: weighted[view] for view in looked if view in weighted})
            for look, looked in VIEW_GROUPS.items()
        },
        "all views": (member_weights, weighted),
        **{f"member {member}": ({member: 1.0}, weighted) for member in member_weights},
    }
    found: dict[str, Any] = {}
    for name, (members, views) in subsets.items():
        # A manifest may give a view no weight, and the detector then does not read it.
        if not views or not set(views) <= read:
            found[name] = None
            continue
        rows = combine(frame, members, views)
        labels = rows["label"].to_numpy()
        if min(labels.sum(), len(labels) - labels.sum()) < LEAST:
            found[name] = None
            continue
        weights = resamples(rows["group"].to_numpy())
        found[name] = _estimate(metrics.auroc, labels, rows["logit_0"].to_numpy(), weights)
    return found


def on_lesions(rows: pd.DataFrame) -> dict[str, Any]:
    """How well boxes and heat maps lie on the drawn lesions: means over images with a mask, by class.

    Args:
        rows: one row an image, with the figures of `lesions.on_lesion`, group, label and pathology.

    Returns:
        n; for `all`, `malignant` and `benign` lesions pointing_game, energy_inside, box_iou, box_hit_rate and
        box_found, each {value, low, high}; and the share of normals without a box.
    """
    if not set(_LESIONS) <= set(rows):
        return {"n": 0}
    drawn = rows[rows["mask_w"].notna()]
    found: dict[str, Any] = {"n": len(drawn)}
    for name, part in (
        ("all", drawn),
        ("malignant", drawn[drawn["label"] == 1]),
        ("benign", drawn[drawn["label"] == 0]),
    ):
        if part.empty:
            continue
        columns = {
            "pointing_game": part["pointing_hit"],
            "energy_inside": part["energy_inside"],
            "box_iou": part["box_iou"],
            "box_hit_rate": (part["box_iou"] >= 0.5).astype(float),
            "box_found": part["box_w"].notna().astype(float),
        }
        found[name] = {}
        for figure, values in columns.items():
            kept = values.notna()
            if not kept.any():
                found[name][figure] = None
                continue
            numbers = values[kept].to_numpy(float)
            groups = part.loc[kept, "group"].to_numpy()
            # A mean at its end is a rate whose cases all agree.
            found[name][figure] = _estimate(_mean, numbers, numbers, resamples(groups), groups)
    empty = rows[rows["pathology"] == "normal"]
    if len(empty):
        found["no_box_on_normals"] = round(float(empty["box_w"].isna().mean()), 6)
    return found


def _mean(values: np.ndarray, _: np.ndarray, weights: np.ndarray | None = None) -> Any:
    return float(values.mean()) if weights is None else (weights * values).sum(-1) / weights.sum(-1)


def _estimate(
    statistic: Any,
    labels: np.ndarray,
    scores: np.ndarray,
    weights: list[np.ndarray],
    counted: np.ndarray | None = None,
) -> dict[str, Any]:
    """JSON-ready estimate; `counted` holds the groups of the cases that a rate counts."""
    value = float(statistic(labels, scores, None))
    draws = np.concatenate([statistic(labels, scores, chunk) for chunk in weights])
    found = metrics.Estimate(value, *interval(draws))
    return (found if counted is None else settled(found, counted)).to_dict()
