"""What a reviewer asks of an ensemble: its members beside it, what each part adds, and whether thresholds travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bus_hf.evaluation import calibration, metrics
from bus_hf.evaluation.bootstrap import group_bootstrap, paired_difference, settled
from bus_hf.evaluation.delong import delong
from bus_hf.evaluation.metrics import wilson
from bus_hf.evaluation.weighting import Readings

ENSEMBLE = "ensemble"
# Shares of malignant cases that predictive values are stated for: about that of a round of screening, and of a clinic
# to which women come with a finding.
PREVALENCES = (0.005, 0.1)
VIEW_GROUPS = {"global views": ("whole", "flip", "wider"), "lesion crops": ("lesion", "around")}
# Fewer positives or negatives say nothing about discrimination.
_LEAST = 10


def evidence(
    read: Readings, members: Mapping[str, float], views: Mapping[str, float], default_point: str
) -> dict[str, Any]:
    """Everything below, JSON-ready, each figure {value, low, high} with a 95 % interval by group bootstrap.

    Args:
        read: out-of-fold logits of every member and view that has weight.
        members: weight of each member.
        views: weight of each view.
        default_point: name of the operating point that ships as the default.

    Returns:
        readers, comparison, leave_out, across_sources and disagreement.
    """
    whole = weighted_logits(read, members, views)
    alone = {member: weighted_logits(read, {member: 1.0}, views) for member in members}
    readers = {ENSEMBLE: whole, **(alone if len(alone) > 1 else {})}
    return {
        "readers": {name: reader(read, logits) for name, logits in readers.items()},
        "comparison": comparison(read, whole, alone),
        "leave_out": leave_out(read, members, views),
        "across_sources": across_sources(read, whole),
        "disagreement": disagreement(read, whole, alone, default_point),
        "prevalences": list(PREVALENCES),
    }


def reader(read: Readings, logits: np.ndarray) -> dict[str, Any]:
    """Figures of one reader, by source and over all images; calibration and thresholds fitted on other groups.

    Args:
        read: labels, groups and sources of the images.
        logits: float (n,).

    Returns:
        For "all" and each source: n, n_malignant, n_groups, auroc, auprc, brier, ece, and for each operating point
        sensitivity, specificity, ppv, npv, f1, accuracy, `ppv at`, `npv at` (by prevalence), missed (of n_malignant).
    """
    chances = calibration.cross_fitted_probabilities(logits, read.labels, read.groups)
    calls = {
        name: calibration.cross_fitted_calls(read.labels, logits, read.groups, target)
        for name, target in calibration.supported(read.labels, read.groups).items()
    }
    found = {}
    for name, rows in _parts(read).items():
        labels, groups = read.labels[rows], read.groups[rows]
        both = _enough(labels)
        row: dict[str, Any] = {"n": len(labels), "n_malignant": int(labels.sum()), "n_groups": len(np.unique(groups))}
        for key, statistic, scores in (
            # Logits, not probabilities: each part has a calibration of its own, which would mix their order.
            ("auroc", metrics.auroc, logits[rows]),
            ("auprc", metrics.auprc, logits[rows]),
            ("brier", metrics.brier, chances[rows]),
            ("ece", metrics.ece, chances[rows]),
        ):
            row[key] = group_bootstrap(statistic, labels, scores, groups).to_dict() if both else None
        row["operating_points"] = {
            point: rates(labels, called[rows], groups) if both else None for point, called in calls.items()
        }
        found[name] = row
    return found


def rates(labels: np.ndarray, called: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Rates of calls with intervals by bootstrap of groups; `missed` counts the malignant cases that are not called.

    `wilson` holds the same rates with Wilson's intervals (E. B. Wilson, JASA 1927), which take images as independent.
    """
    counted = {
        "sensitivity": (metrics.sensitivity, labels == 1),
        "specificity": (metrics.specificity, labels == 0),
        "ppv": (metrics.ppv, called),
        "npv": (metrics.npv, ~called),
        "accuracy": (metrics.accuracy, np.ones(len(labels), bool)),
    }
    found: dict[str, Any] = {
        name: settled(group_bootstrap(statistic, labels, called, groups), groups[among]).to_dict()
        for name, (statistic, among) in counted.items()
    }
    found["f1"] = group_bootstrap(metrics.f1, labels, called, groups).to_dict()
    for place, name in enumerate(("ppv", "npv")):
        found[f"{name} at"] = {
            f"{prevalence:g}": group_bootstrap(
                metrics.predictive_value(prevalence, place), labels, called, groups
            ).to_dict()
            for prevalence in PREVALENCES
        }
    # Beside the intervals by group: those that count each image as one of its own.
    right = called == (labels == 1)
    found["wilson"] = {
        name: wilson(int(right[among].sum()), int(among.sum())).to_dict()
        for name, (_, among) in counted.items()
        if among.any()
    }
    return found | {"missed": int((labels[~called] == 1).sum())}


def comparison(read: Readings, whole: np.ndarray, alone: Mapping[str, np.ndarray]) -> dict[str, Any] | None:
    """Ensemble against its best single member, on the same images; None with one member.

    The best one is chosen by AUROC on these very images, which favours it.
    """
    if len(alone) < 2:
        return None
    best = max(alone, key=lambda member: float(metrics.auroc(read.labels, alone[member])))
    found: dict[str, Any] = {"best": best}
    for name, rows in _parts(read).items():
        labels, one, other = read.labels[rows], whole[rows], alone[best][rows]
        if not _enough(labels):
            continue
        difference, p = paired_difference(metrics.auroc, labels, one, other, read.groups[rows])
        found[name] = {
            "ensemble": round(float(metrics.auroc(labels, one)), 6),
            "single": round(float(metrics.auroc(labels, other)), 6),
            "difference": difference.to_dict(),
            "p_bootstrap": round(p, 6),
            "p_delong": round(delong(labels, one, other)[1], 6),
        }
    return found


def leave_out(read: Readings, members: Mapping[str, float], views: Mapping[str, float]) -> dict[str, Any]:
    """What each member, look and view adds: AUROC of all minus AUROC without it, the other weights scaled up.

    Returns:
        By what is left out ("member X", "global views", "view Y"), then by "all" and source: without (AUROC) and adds
        ({value, low, high}, paired). What has no weight, or is all there is, is not listed.
    """
    subsets: dict[str, tuple[Mapping[str, float], Mapping[str, float]]] = {}
    for member in members:
        subsets[f"member {member}"] = ({name: w for name, w in members.items() if name != member}, views)
    for look, names in VIEW_GROUPS.items():
        subsets[look] = (members, {name: w for name, w in views.items() if name not in names})
    for view in views:
        subsets[f"view {view}"] = (members, {name: w for name, w in views.items() if name != view})
    whole = weighted_logits(read, members, views)
    found: dict[str, Any] = {}
    for name, (some, seen) in subsets.items():
        unchanged = sum(some.values()) * sum(seen.values()) > sum(members.values()) * sum(views.values()) - 1e-9
        if unchanged or not sum(some.values()) or not sum(seen.values()):
            continue
        less = weighted_logits(read, some, seen)
        found[name] = {}
        for part, rows in _parts(read).items():
            labels = read.labels[rows]
            if not _enough(labels):
                continue
            adds, p = paired_difference(metrics.auroc, labels, whole[rows], less[rows], read.groups[rows])
            without = round(float(metrics.auroc(labels, less[rows])), 6)
            found[name][part] = {"without": without, "adds": adds.to_dict(), "p": round(p, 6)}
    return found


def across_sources(read: Readings, logits: np.ndarray) -> dict[str, Any]:
    """Do thresholds travel? Each source read at thresholds that were fitted on the other sources alone.

    Returns:
        By source, by operating point: sensitivity and specificity, {value, low, high} over the groups of the source
        that is read, the threshold held as fitted. Sources with fewer than ten images of a class are left out.
    """
    found: dict[str, Any] = {}
    for source, rows in _parts(read).items():
        other = ~np.isin(read.sources, [source])
        if source == "all" or not (_enough(read.labels[rows]) and _enough(read.labels[other])):
            continue
        labels, groups = read.labels[rows], read.groups[rows]
        found[source] = {}
        for point, target in calibration.supported(read.labels, read.groups).items():
            threshold = calibration.threshold_for_sensitivity(read.labels[other], logits[other], target)
            called = logits[rows] >= threshold
            found[source][point] = {
                "target": target,
                "sensitivity": settled(
                    group_bootstrap(metrics.sensitivity, labels, called, groups), groups[labels == 1]
                ).to_dict(),
                "specificity": settled(
                    group_bootstrap(metrics.specificity, labels, called, groups), groups[labels == 0]
                ).to_dict(),
            }
    return found


def disagreement(
    read: Readings, whole: np.ndarray, alone: Mapping[str, np.ndarray], default_point: str
) -> dict[str, Any] | None:
    """Does disagreement of the members predict wrong calls at the default operating point? None with one member.

    Returns:
        n_wrong; by_disagreement and by_closeness, the AUROC of telling wrong calls from right ones by the standard
        deviation of the members' probabilities and by how close the logit lies to the threshold that it was called by;
        and the difference, paired.
    """
    if len(alone) < 2:
        return None
    target = calibration.POINTS[default_point]
    threshold = calibration.cross_fitted_thresholds(read.labels, whole, read.groups, target)
    called = whole >= threshold
    wrong = (called != (read.labels == 1)).astype(int)
    scale = calibration.fit_scale(whole, read.labels) or calibration.PLAIN
    chances = scale.probabilities(np.stack(list(alone.values())))
    close = -np.abs(whole - threshold)
    spread = chances.std(axis=0)
    difference, p = paired_difference(metrics.auroc, wrong, spread, close, read.groups)
    return {
        "n": len(wrong),
        "n_wrong": int(wrong.sum()),
        "by_disagreement": group_bootstrap(metrics.auroc, wrong, spread, read.groups).to_dict(),
        "by_closeness": group_bootstrap(metrics.auroc, wrong, close, read.groups).to_dict(),
        "difference": difference.to_dict(),
        "p": round(p, 6),
    }


def weighted_logits(read: Readings, members: Mapping[str, float], views: Mapping[str, float]) -> np.ndarray:
    """Weighted mean logit (n,) of `read`, the weights of members and of views scaled to sum to 1."""
    one = np.array([members.get(name, 0.0) for name in read.members])
    other = np.array([views.get(name, 0.0) for name in read.views])
    return np.einsum("nmv,m,v->n", read.logits, one / one.sum(), other / other.sum())


def _parts(read: Readings) -> dict[str, np.ndarray]:
    """Row masks of all images and, where there are several sources, of each."""
    everything = {"all": np.ones(len(read.labels), bool)}
    names: Sequence[str] = sorted(set(read.sources.tolist()))
    return everything | ({name: read.sources == name for name in names} if len(names) > 1 else {})


def _enough(labels: np.ndarray) -> bool:
    return bool(min(labels.sum(), len(labels) - labels.sum()) >= _LEAST)
