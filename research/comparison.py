"""What trials give in-source and cross-source: numbers from the logits that they left.

`Logits` of a trial: for each source that a network was trained on, its held-out logits, of its own held-out fold and of
all images of the other sources. A key "busi > busbra" says trained on BUSI, measured on BUS-BRA, and
"without_busi > busi" trained on all but BUSI.

A row of a comparison has `name`, `auroc` by key, their `mean`, and the differences from the first row: of that mean
(`gain`), of the mean of what is measured on the own source (`gain_in_source`) and on the others (`gain_cross_source`);
each {value, low, high}, 95 % by bootstrap of groups, the same resamples for every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics, weighting
from bus_hf.evaluation.bootstrap import RESAMPLES, interval, rates, resamples
from bus_hf.evaluation.calibration import threshold_for_sensitivity
from bus_hf.evaluation.combine import combine
from bus_hf.evaluation.evidence import VIEW_GROUPS
from bus_hf.evaluation.report import on_lesions
from research import weight_rules

Logits = Mapping[str, pd.DataFrame]
Row = dict[str, Any]


def compare(trials: Mapping[str, Sequence[Logits]], view_weights: Mapping[str, float], n: int = RESAMPLES) -> list[Row]:
    """Mean metrics of trials that differ in nothing but their seed, against those of the first set of them.

    The intervals cover the choice of images, not that of the seeds. Of a pair of sources the trials are averaged that
    have it; `networks` counts the networks of a set.

    Args:
        trials: name of each set, with the logits of its trials. The first trial of the first set has every pair.
        view_weights: weight of each view.
        n: resamples.

    Raises:
        BusError: a trial predicted other images than the first one, or a set lacks a pair of sources.
    """
    averaged = {name: [_images(logits, view_weights) for logits in some] for name, some in trials.items()}
    first = next(iter(averaged))
    wanted = _names(averaged[first][0])
    for name, some in averaged.items():
        held = [_names(images) for images in some]
        if any(names != {key: wanted.get(key) for key in names} for names in held) or set().union(*held) != set(wanted):
            raise BusError(
                f"trial '{name}' did not predict the images of trial '{first}'",
                remedy="train both on the same data, with the same folds, fold and set_apart",
            )
    return _rows(averaged, n)


def pooled(trials: Mapping[str, Logits]) -> dict[str, pd.DataFrame]:
    """Trials as one: the logits of a source's networks as members of one ensemble, of equal weight.

    Raises:
        BusError: as for `compare`.
    """
    sources = list(next(iter(trials.values())))
    if any(list(logits) != sources for logits in trials.values()):
        raise BusError(
            f"the trials {', '.join(trials)} did not train on the same sources", remedy="choose trials that did"
        )
    joined = {
        source: pd.concat([logits[source].assign(member=name) for name, logits in trials.items()]) for source in sources
    }
    for source, frame in joined.items():
        if frame.groupby("name")["member"].nunique().min() < len(trials):
            raise BusError(
                f"the trials {', '.join(trials)} that trained on {source} did not predict the same images",
                remedy="train all on the same data, with the same folds, fold and set_apart",
            )
    return joined


def compare_rules(logits: Logits, view_weights: Mapping[str, float], n: int = RESAMPLES) -> list[Row]:
    """What weights of members give that are fitted on one source and measured on the others; equal weights first.

    On a network's own source they are cross-fitted; for the other sources, they are fitted on all its held-out images.

    Args:
        logits: of several networks a source, as `pooled` joins them.
        view_weights: weight of each view by default.
        n: resamples.
    """
    rules = weight_rules.rules(view_weights)
    averaged: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in rules}
    for trained, frame in sorted(logits.items()):
        members = [str(member) for member in frame["member"].unique()]
        parts = {
            str(source): weighting.held_out_logits(part.sort_values("name"), members, list(view_weights))
            for source, part in frame.groupby("source")
        }
        for name, rule in rules.items():
            weights = rule(parts[trained])
            for source, part in parts.items():
                mean = weighting.cross_fitted(part, rule)[0] if source == trained else part.averaged(*weights)
                averaged[name][f"{trained} > {source}"] = pd.DataFrame(
                    {"label": part.y_true, "group": part.groups, "logit_0": mean}
                )
    return _rows({name: [images] for name, images in averaged.items()}, n)


def compare_views(logits: Logits, view_weights: Mapping[str, float], n: int = RESAMPLES) -> list[Row]:
    """What all views, the global views, the lesion crops and each view give of one trial; all views first."""
    subsets = {"all views": tuple(view_weights)}
    for group, views in VIEW_GROUPS.items():
        subsets[group] = tuple(view for view in views if view in view_weights)
    subsets |= {f"view {view}": (view,) for view in view_weights}
    return _rows(
        {name: [_images(logits, {view: view_weights[view] for view in views})] for name, views in subsets.items()}, n
    )


def thresholds(logits: Logits, view_weights: Mapping[str, float], target: float = 0.95) -> list[Row]:
    """What thresholds give on a source that neither they nor the network ever saw.

    Args:
        logits: of one trial.
        view_weights: weight of each view.
        target: sensitivity that a threshold is fitted for, on the held-out fold of the network's own source.

    Returns:
        One dict a pair of sources: trained, measured, target, n_fit (malignant cases fitted on), n, n_malignant, and
        sensitivity and specificity, each {value, low, high} with the threshold held as fitted.
    """
    rows = []
    for trained in sorted(logits):
        parts = {key: part for key, part in _images(logits, view_weights).items() if key.startswith(f"{trained} > ")}
        home = parts.pop(f"{trained} > {trained}")
        threshold = threshold_for_sensitivity(home["label"].to_numpy(), home["logit_0"].to_numpy(), target)
        for key, part in parts.items():
            y_true, groups = part["label"].to_numpy(), part["group"].to_numpy()
            counts = {"n_fit": int(home["label"].sum()), "n": len(y_true), "n_malignant": int(y_true.sum())}
            estimates = rates(y_true, part["logit_0"].to_numpy() >= threshold, groups)
            rows.append(
                {"trained": trained, "measured": key.split(" > ")[1], "target": target}
                | counts
                | {name: estimate.to_dict() for name, estimate in estimates.items()}
            )
    return rows


def heat_maps(logits: Logits, view_weights: Mapping[str, float]) -> dict[str, Row]:
    """Metrics of `report.on_lesions` of one trial, by pair of sources."""
    return {key: on_lesions(images) for key, images in _images(logits, view_weights).items()}


def _images(logits: Logits, view_weights: Mapping[str, float]) -> dict[str, pd.DataFrame]:
    """One row an image of each pair of sources, members of equal weight, in the order of names."""
    images = {}
    for trained, frame in sorted(logits.items()):
        members = dict.fromkeys(map(str, frame["member"].unique()), 1.0)
        averaged = combine(frame, members, view_weights).sort_values("name", ignore_index=True)
        for source, part in averaged.groupby("source"):
            images[f"{trained} > {source}"] = part
    return images


def _names(images: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    return {key: part["name"].tolist() for key, part in images.items()}


def _rows(averaged: Mapping[str, Sequence[Mapping[str, pd.DataFrame]]], n: int) -> list[Row]:
    """A row a set of trials, the first one to compare with, all on the same resamples."""
    first = next(iter(averaged.values()))[0]
    keys = list(first)
    groups = np.unique(np.concatenate([images["group"] for images in first.values()]))
    drawn = resamples(groups, n)
    in_source = np.array([len(set(key.split(" > "))) == 1 for key in keys])
    parts = {"gain": np.ones(len(keys), bool), "gain_in_source": in_source, "gain_cross_source": ~in_source}
    rows: list[Row] = []
    base: tuple[np.ndarray, np.ndarray] | None = None
    for name, some in averaged.items():
        areas = [[_area(images[key], groups, drawn) for images in some if key in images] for key in keys]
        values = np.array([np.mean([value for value, _ in each]) for each in areas])
        draws = np.array([np.mean([draw for _, draw in each], axis=0) for each in areas])
        base = base or (values, draws)
        gains = {part: (values - base[0])[rows].mean() for part, rows in parts.items() if rows.any()}
        gain_draws = {part: (draws - base[1])[parts[part]].mean(axis=0) for part in gains}
        rows.append(
            {
                "name": name,
                "networks": sum(map(len, areas)),
                "auroc": {
                    key: _estimate(*pair) for key, pair in zip(keys, zip(values, draws, strict=True), strict=True)
                },
                "mean": _estimate(values.mean(), draws.mean(axis=0)),
                **{part: _estimate(value, gain_draws[part]) for part, value in gains.items()},
            }
        )
    return rows


def _estimate(value: float, draws: np.ndarray) -> dict[str, float | None]:
    return metrics.Estimate(float(value), *interval(draws)).to_dict()


def _area(images: pd.DataFrame, groups: np.ndarray, drawn: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    """AUROC and its resamples, float (n,)."""
    y_true, y_score = images["label"].to_numpy(), images["logit_0"].to_numpy()
    place = np.searchsorted(groups, images["group"].to_numpy())
    draws = [metrics.auroc(y_true, y_score, weights[:, place]) for weights in drawn]
    return float(metrics.auroc(y_true, y_score)), np.concatenate(draws)
