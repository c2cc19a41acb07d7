"""Every metric of an ensemble from its out-of-fold logits, as one JSON-ready dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics
from bus_hf.evaluation.bootstrap import RESAMPLES, group_bootstrap, rates, settled
from bus_hf.evaluation.calibration import Scale
from bus_hf.evaluation.combine import combine
from bus_hf.evaluation.evidence import MIN_IMAGES, VIEW_GROUPS
from bus_hf.probabilities import sigmoid

if TYPE_CHECKING:
    import pandas as pd

# What strata need, and what lies on lesions is measured by.
_FACTS = ("mask_w", "mask_h", "height", "width", "birads", "device", "histology")
_LESIONS = ("mask_w", "box_w", "box_iou", "pointing_hit", "energy_inside")
# Ends the name of a source whose images of normal breasts are excluded.
WITHOUT_NORMALS = " without normals"


def report(
    frame: pd.DataFrame,
    member_weights: Mapping[str, float],
    view_weights: Mapping[str, float],
    scale: Scale,
    operating_points: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Metrics over all images and by stratum, each {value, low, high} with a 95 % interval by group bootstrap.

    Args:
        frame: out-of-fold logits, one row an image, member and view, as training writes them; a fact that it has no
            column of counts as unknown: its strata are empty, and without boxes and masks so is heat_maps.
        member_weights: weight of each member.
        view_weights: weight of each view.
        scale: temperature and bias of the combined logit.
        operating_points: dicts with name and logit, the threshold after temperature and bias.

    Returns:
        overall, by_source, by_birads, by_device, by_size, by_histology (metrics by name, with n, n_malignant and
        n_groups), as_used (rates of each member by itself, at the same calibration and thresholds),
        mean_probability and share_malignant, views and members (AUROC by source), heat_maps (by member and source), and
        what they were computed with.

    Raises:
        BusError: the logits are of more than two classes.
    """
    import pandas as pd

    if "logit_1" in frame:
        raise BusError(
            "these logits are of more than two classes, and the metrics are those of malignant against benign",
            remedy="give logits of the label set 'malignancy'",
        )

    frame = _with_facts(frame)

    def calibrated(weights: Mapping[str, float]) -> pd.DataFrame:
        images = combine(frame, weights, view_weights)
        images["calibrated"] = scale.logits(images["logit_0"].to_numpy())
        images["probability"] = scale.probabilities(images["logit_0"].to_numpy())
        return images

    images = calibrated(member_weights)
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
        "as_used": {member: describe(calibrated({member: 1.0}))["operating_points"] for member in member_weights},
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
            {**point, "threshold": round(float(sigmoid(point["logit"])), 6)} for point in operating_points
        ],
        **scale._asdict(),
        "member_weights": dict(member_weights),
        "view_weights": dict(view_weights),
        "interval": f"95 % by bootstrap of groups, {RESAMPLES} resamples; rates of 0 and 1 by Wilson over groups",
    }


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
    by_source = {}
    for source, rows in images.groupby("source", sort=True):
        by_source[str(source)] = rows
        lesions = rows[rows["pathology"] != "normal"]
        if 0 < len(lesions) < len(rows):
            by_source[f"{source}{WITHOUT_NORMALS}"] = lesions
    return by_source


def _strata(images: pd.DataFrame, by: pd.Series, describe: Any) -> dict[str, Any]:
    return {str(name): describe(rows) for name, rows in images.groupby(by, sort=True, observed=True)}


def _described(rows: pd.DataFrame, thresholds: Mapping[str, float]) -> dict[str, Any]:
    y_true, logits, probabilities, groups = (
        rows[name].to_numpy() for name in ("label", "calibrated", "probability", "group")
    )
    malignant = int(y_true.sum())
    enough = {"sensitivity": malignant >= MIN_IMAGES, "specificity": len(rows) - malignant >= MIN_IMAGES}
    both = all(enough.values())
    described: dict[str, Any] = {"n": len(rows), "n_malignant": malignant, "n_groups": int(rows["group"].nunique())}
    if not both:
        described["reason"] = (
            f"fewer than {MIN_IMAGES} images of a class: no AUROC, AUPRC or calibration error, and no rate of that "
            "class"
        )
    for name, metric, y_score in (
        # Logits, not probabilities, which tie where they saturate.
        ("auroc", metrics.auroc, logits),
        ("auprc", metrics.auprc, logits),
        ("ece", metrics.ece, probabilities),
    ):
        described[name] = group_bootstrap(metric, y_true, y_score, groups).to_dict() if both else None
    described["brier"] = group_bootstrap(metrics.brier, y_true, probabilities, groups).to_dict()
    described["operating_points"] = {
        point: _at(y_true, logits >= threshold, groups, enough) for point, threshold in thresholds.items()
    }
    return described


def _at(y_true: np.ndarray, y_pred: np.ndarray, groups: np.ndarray, enough: Mapping[str, bool]) -> dict[str, Any]:
    """Rates at a threshold; None for those of a class that has too few images."""
    both = all(enough.values())
    kept = [name for name in ("sensitivity", "specificity", "accuracy") if enough.get(name, both)]
    measured = rates(y_true, y_pred, groups, kept)
    if both:
        measured["f1"] = group_bootstrap(metrics.f1, y_true, y_pred, groups)
    return {
        **{
            name: measured[name].to_dict() if name in measured else None
            for name in ("sensitivity", "specificity", "f1", "accuracy")
        },
        "missed": int((y_true[~y_pred] == 1).sum()),
    }


def _areas(
    frame: pd.DataFrame, member_weights: Mapping[str, float], view_weights: Mapping[str, float]
) -> dict[str, Any]:
    """AUROC of each view alone, of each group of views, of all, of each member alone; None for what is not there."""
    present, weighted = set(frame["view"]), {view: weight for view, weight in view_weights.items() if weight > 0}
    subsets: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {
        **{view: (member_weights, {view: 1.0}) for views in VIEW_GROUPS.values() for view in views},
        **{
            group: (member_weights, {view: weighted[view] for view in views if view in weighted})
            for group, views in VIEW_GROUPS.items()
        },
        "all views": (member_weights, weighted),
        **{f"member {member}": ({member: 1.0}, weighted) for member in member_weights},
    }
    # A manifest may give a view no weight, and the detector then does not make it.
    return {
        name: _area(combine(frame, members, views)) if views and set(views) <= present else None
        for name, (members, views) in subsets.items()
    }


def _area(images: pd.DataFrame) -> dict[str, Any] | None:
    """AUROC, JSON-ready; None where a class has too few images."""
    y_true = images["label"].to_numpy()
    if min(y_true.sum(), len(y_true) - y_true.sum()) < MIN_IMAGES:
        return None
    return group_bootstrap(metrics.auroc, y_true, images["logit_0"].to_numpy(), images["group"].to_numpy()).to_dict()


def on_lesions(rows: pd.DataFrame) -> dict[str, Any]:
    """How well boxes and heat maps lie on the drawn lesions: means over images with a mask, by class.

    Args:
        rows: one row an image, with the metrics of `lesions.on_lesion`, group, label and pathology.

    Returns:
        n; for `all`, `malignant` and `benign` lesions pointing_game, energy_inside, box_iou, box_hit_rate and
        box_found, each {value, low, high}; and the share of normals without a box.
    """
    if not set(_LESIONS) <= set(rows):
        return {"n": 0}
    drawn = rows[rows["mask_w"].notna()]
    by_class: dict[str, Any] = {"n": len(drawn)}
    for name, part in (
        ("all", drawn),
        ("malignant", drawn[drawn["label"] == 1]),
        ("benign", drawn[drawn["label"] == 0]),
    ):
        if len(part):
            columns = {
                "pointing_game": part["pointing_hit"],
                "energy_inside": part["energy_inside"],
                "box_iou": part["box_iou"],
                "box_hit_rate": (part["box_iou"] >= 0.5).astype(float),
                "box_found": part["box_w"].notna().astype(float),
            }
            by_class[name] = {metric: _mean(values, part["group"]) for metric, values in columns.items()}
    normal = rows[rows["pathology"] == "normal"]
    if len(normal):
        by_class["no_box_on_normals"] = round(float(normal["box_w"].isna().mean()), 6)
    return by_class


def _mean(values: pd.Series, groups: pd.Series) -> dict[str, Any] | None:
    """Mean of what is known, JSON-ready; None where nothing is."""
    kept = values.notna()
    if not kept.any():
        return None
    numbers, kept_groups = values[kept].to_numpy(float), groups[kept].to_numpy()
    # A mean at its end is a rate whose cases all agree.
    return settled(group_bootstrap(metrics.mean_score, numbers, numbers, kept_groups), kept_groups).to_dict()
