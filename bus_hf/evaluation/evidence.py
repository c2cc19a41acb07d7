"""What a reviewer asks of an ensemble: its members beside it, what each part adds, and whether thresholds transfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bus_hf.evaluation import bootstrap, calibration, metrics
from bus_hf.evaluation.bootstrap import group_bootstrap, paired_difference
from bus_hf.evaluation.delong import delong
from bus_hf.evaluation.metrics import wilson
from bus_hf.evaluation.weighting import HeldOutLogits

ENSEMBLE = "ensemble"
# Shares of malignant cases that predictive values are stated for: about that of a round of screening, and of a clinic
# to which women come with a finding.
PREVALENCES = (0.005, 0.1)
VIEW_GROUPS = {"global views": ("whole", "flip", "wider"), "lesion crops": ("lesion", "around")}
# A class with fewer images says nothing about discrimination.
MIN_IMAGES = 10
_RATES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


def evidence(
    held_out: HeldOutLogits, members: Mapping[str, float], views: Mapping[str, float], default_point: str
) -> dict[str, Any]:
    """Everything below, JSON-ready, each metric {value, low, high} with a 95 % interval by group bootstrap.

    Args:
        held_out: logits of every member and view that has weight.
        members: weight of each member.
        views: weight of each view.
        default_point: name of the operating point that ships as the default.

    Returns:
        models, comparison, leave_out, across_sources and disagreement.
    """
    ensemble = held_out.averaged(members, views)
    alone = {member: held_out.averaged({member: 1.0}, views) for member in members}
    models = {ENSEMBLE: ensemble, **(alone if len(alone) > 1 else {})}
    return {
        "models": {name: model_metrics(held_out, logits) for name, logits in models.items()},
        "comparison": comparison(held_out, ensemble, alone),
        "leave_out": leave_out(held_out, members, views),
        "across_sources": across_sources(held_out, ensemble),
        "disagreement": disagreement(held_out, ensemble, alone, default_point),
        "prevalences": list(PREVALENCES),
    }


def model_metrics(held_out: HeldOutLogits, logits: np.ndarray) -> dict[str, Any]:
    """Metrics of one model, by source and over all images; calibration and thresholds fitted on other groups.

    Fits count every source alike; metrics over all images count every image alike.

    Args:
        held_out: labels, groups and sources of the images.
        logits: float (n,), of the model.

    Returns:
        For "all" and each source: n, n_malignant, n_groups, auroc, auprc, brier, ece, and for each operating point
        sensitivity, specificity, ppv, npv, f1, accuracy, `ppv at`, `npv at` (by prevalence), missed (of n_malignant).
    """
    balance = held_out.balance
    probabilities = calibration.cross_fitted_probabilities(
        logits, held_out.y_true, held_out.groups, sample_weight=balance
    )
    predictions = {
        name: calibration.cross_fitted_predictions(
            held_out.y_true, logits, held_out.groups, target, sample_weight=balance
        )
        for name, target in calibration.supported(held_out.y_true, held_out.groups).items()
    }
    by_part = {}
    for name, rows in _parts(held_out).items():
        y_true, groups = held_out.y_true[rows], held_out.groups[rows]
        both = _enough(y_true)
        row: dict[str, Any] = {"n": len(y_true), "n_malignant": int(y_true.sum()), "n_groups": len(np.unique(groups))}
        for key, metric, y_score in (
            # Logits, not probabilities: each part has a calibration of its own, which would mix their order.
            ("auroc", metrics.auroc, logits[rows]),
            ("auprc", metrics.auprc, logits[rows]),
            ("brier", metrics.brier, probabilities[rows]),
            ("ece", metrics.ece, probabilities[rows]),
        ):
            row[key] = group_bootstrap(metric, y_true, y_score, groups).to_dict() if both else None
        row["operating_points"] = {
            point: rates(y_true, y_pred[rows], groups) if both else None for point, y_pred in predictions.items()
        }
        by_part[name] = row
    return by_part


def rates(y_true: np.ndarray, y_pred: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Rates of predictions, JSON-ready, with intervals by bootstrap of groups; `missed` counts the false negatives.

    `wilson` holds the same rates with Wilson's intervals (E. B. Wilson, JASA 1927), which take images as independent.
    """
    measured: dict[str, Any] = {
        name: rate.to_dict() for name, rate in bootstrap.rates(y_true, y_pred, groups, _RATES).items()
    }
    measured["f1"] = group_bootstrap(metrics.f1, y_true, y_pred, groups).to_dict()
    for place, name in enumerate(("ppv", "npv")):
        measured[f"{name} at"] = {
            f"{prevalence:g}": group_bootstrap(
                metrics.predictive_value(prevalence, place), y_true, y_pred, groups
            ).to_dict()
            for prevalence in PREVALENCES
        }
    # Beside the intervals by group: those that count each image as one of its own.
    right = y_pred == (y_true == 1)
    among = {name: bootstrap.counted(name, y_true, y_pred) for name in _RATES}
    measured["wilson"] = {
        name: wilson(int(right[rows].sum()), int(rows.sum())).to_dict() for name, rows in among.items() if rows.any()
    }
    return measured | {"missed": int((y_true[~y_pred] == 1).sum())}


def comparison(held_out: HeldOutLogits, ensemble: np.ndarray, alone: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Ensemble against its best single member, on the same images; None with one member.

    The best one is chosen by AUROC on these very images, which favours it.
    """
    if len(alone) < 2:
        return None
    best = max(alone, key=lambda member: float(metrics.auroc(held_out.y_true, alone[member])))
    compared: dict[str, Any] = {"best": best}
    for name, rows in _parts(held_out).items():
        y_true, one, other = held_out.y_true[rows], ensemble[rows], alone[best][rows]
        if not _enough(y_true):
            continue
        difference, p = paired_difference(metrics.auroc, y_true, one, other, held_out.groups[rows])
        compared[name] = {
            "ensemble": round(float(metrics.auroc(y_true, one)), 6),
            "single": round(float(metrics.auroc(y_true, other)), 6),
            "difference": difference.to_dict(),
            "p_bootstrap": round(p, 6),
            "p_delong": round(delong(y_true, one, other)[1], 6),
        }
    return compared


def leave_out(held_out: HeldOutLogits, members: Mapping[str, float], views: Mapping[str, float]) -> dict[str, Any]:
    """What each member, group of views and view adds: AUROC of all minus AUROC without it, other weights scaled up.

    Returns:
        By what is left out ("member X", "global views", "view Y"), then by "all" and source: without (AUROC) and adds
        ({value, low, high}, paired). What has no weight, or is all there is, is not listed.
    """
    subsets: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {}
    for member in members:
        subsets[f"member {member}"] = ({name: w for name, w in members.items() if name != member}, views)
    for group, names in VIEW_GROUPS.items():
        subsets[group] = (members, {name: w for name, w in views.items() if name not in names})
    for view in views:
        subsets[f"view {view}"] = (members, {name: w for name, w in views.items() if name != view})
    ensemble = held_out.averaged(members, views)
    added: dict[str, Any] = {}
    for name, (kept_members, kept_views) in subsets.items():
        share = sum(kept_members.values()) * sum(kept_views.values())
        if not share or share > sum(members.values()) * sum(views.values()) - 1e-9:
            continue
        less = held_out.averaged(kept_members, kept_views)
        added[name] = {}
        for part, rows in _parts(held_out).items():
            y_true = held_out.y_true[rows]
            if not _enough(y_true):
                continue
            adds, p = paired_difference(metrics.auroc, y_true, ensemble[rows], less[rows], held_out.groups[rows])
            without = round(float(metrics.auroc(y_true, less[rows])), 6)
            added[name][part] = {"without": without, "adds": adds.to_dict(), "p": round(p, 6)}
    return added


def across_sources(held_out: HeldOutLogits, logits: np.ndarray) -> dict[str, Any]:
    """Do thresholds transfer? Each source at thresholds that were fitted on the other sources alone.

    Returns:
        By source, by operating point: sensitivity and specificity, {value, low, high} over the groups of the source
        that is measured, the threshold held as fitted. Sources with fewer than ten images of a class are not listed.
    """
    by_source: dict[str, Any] = {}
    for source, rows in _parts(held_out).items():
        other = ~np.isin(held_out.sources, [source])
        if source == "all" or not (_enough(held_out.y_true[rows]) and _enough(held_out.y_true[other])):
            continue
        y_true, groups = held_out.y_true[rows], held_out.groups[rows]
        by_source[source] = {}
        for point, target in calibration.supported(held_out.y_true, held_out.groups).items():
            fitted_on = held_out.rows(other)
            threshold = calibration.threshold_for_sensitivity(
                fitted_on.y_true, logits[other], target, fitted_on.balance
            )
            measured = bootstrap.rates(y_true, logits[rows] >= threshold, groups)
            by_source[source][point] = {"target": target} | {name: rate.to_dict() for name, rate in measured.items()}
    return by_source


def disagreement(
    held_out: HeldOutLogits, ensemble: np.ndarray, alone: Mapping[str, np.ndarray], default_point: str
) -> dict[str, Any] | None:
    """Does disagreement of the members tell wrong predictions at the default operating point? None with one member.

    Returns:
        n_wrong; by_disagreement and by_closeness, the AUROC of telling wrong predictions from right ones by the
        standard deviation of the members' probabilities and by how close the logit lies to the threshold; and the
        difference, paired.
    """
    if len(alone) < 2:
        return None
    target = calibration.POINTS[default_point]
    threshold = calibration.cross_fitted_thresholds(
        held_out.y_true, ensemble, held_out.groups, target, sample_weight=held_out.balance
    )
    wrong = ((ensemble >= threshold) != (held_out.y_true == 1)).astype(int)
    scale = calibration.fit_scale(ensemble, held_out.y_true, sample_weight=held_out.balance) or calibration.PLAIN
    spread = scale.probabilities(np.stack(list(alone.values()))).std(axis=0)
    close = -np.abs(ensemble - threshold)
    difference, p = paired_difference(metrics.auroc, wrong, spread, close, held_out.groups)
    return {
        "n": len(wrong),
        "n_wrong": int(wrong.sum()),
        "by_disagreement": group_bootstrap(metrics.auroc, wrong, spread, held_out.groups).to_dict(),
        "by_closeness": group_bootstrap(metrics.auroc, wrong, close, held_out.groups).to_dict(),
        "difference": difference.to_dict(),
        "p": round(p, 6),
    }


def _parts(held_out: HeldOutLogits) -> dict[str, np.ndarray]:
    """Row masks of all images and, where there are several sources, of each."""
    everything = {"all": np.ones(len(held_out.y_true), bool)}
    names: Sequence[str] = sorted(set(held_out.sources.tolist()))
    return everything | ({name: held_out.sources == name for name in names} if len(names) > 1 else {})


def _enough(y_true: np.ndarray) -> bool:
    return bool(min(y_true.sum(), len(y_true) - y_true.sum()) >= MIN_IMAGES)
