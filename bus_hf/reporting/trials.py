"""Trials of one change at a time: in-source and cross-source AUROC, and the difference from the first trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bus_hf.errors import BusError
from bus_hf.evaluation import metrics, weighting
from bus_hf.evaluation.bootstrap import RESAMPLES, group_bootstrap, interval, resamples, settled
from bus_hf.evaluation.calibration import threshold_for_sensitivity
from bus_hf.evaluation.combine import combine
from bus_hf.evaluation.evidence import VIEW_GROUPS
from bus_hf.evaluation.report import on_lesions
from bus_hf.reporting.tables import estimate, signed

# Powers of each member's separation that are tried as its vote (`votes.by_separation`).
POWERS = (1.0, 2.0, 4.0, 8.0)
# Pulls of jointly fitted votes towards equal ones that are tried (`votes.joint`).
SHRINKAGES = (2.0, 0.5, 0.1, 0.02, 0.0)

_GAINS = {"gain": "gain", "gain_in_source": "gain in-source", "gain_cross_source": "gain cross-source"}


def table(
    trials: Mapping[str, Mapping[str, pd.DataFrame]], view_weights: Mapping[str, float], n: int = RESAMPLES
) -> list[dict[str, Any]]:
    """Figures of trials, each of which trained one network a source and let it read every source.

    Args:
        trials: name of each trial, the one to compare with first; for each source that was trained on, the
            out-of-fold logits that its network left, of its own held-out fold and of all images of the other sources.
        view_weights: weight of each view.
        n: resamples.

    Returns:
        One dict a trial: name, `auroc` (`"busi > busbra"` is trained on BUSI and read on BUS-BRA), their `mean`, and
        the differences from the first trial, of that mean (`gain`), of the mean of what is read on its own source
        (`gain_in_source`) and of the others (`gain_cross_source`); each {value, low, high}, 95 % by bootstrap of
        groups, the same resamples for every trial and figure.

    Raises:
        BusError: two trials did not train on the same sources or read the same images.
    """
    return repeats({name: [runs] for name, runs in trials.items()}, view_weights, n)


def together(trials: Mapping[str, Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Trials as one: the logits of a source's networks, which vote alike when `table` reads them.

    Raises:
        BusError: as for `table`.
    """
    sources = list(next(iter(trials.values())))
    if any(list(runs) != sources for runs in trials.values()):
        raise BusError(
            f"the trials {', '.join(trials)} did not train on the same sources", remedy="choose trials that did"
        )
    joined = {
        source: pd.concat([runs[source].assign(member=name) for name, runs in trials.items()]) for source in sources
    }
    for source, frame in joined.items():
        if frame.groupby("name")["member"].nunique().min() < len(trials):
            raise BusError(
                f"the trials {', '.join(trials)} that trained on {source} did not read the same images",
                remedy="train all on the same data, with the same folds, fold and set_apart",
            )
    return joined


def vote_rules(
    runs: Mapping[str, pd.DataFrame], view_weights: Mapping[str, float], n: int = RESAMPLES
) -> list[dict[str, Any]]:
    """What weights of members and views give that are fitted on one source and read on the others.

    Args:
        runs: logits of several networks a source, as `together` joins them.
        view_weights: weight of each view by default.
        n: resamples.

    Returns:
        Rows as of `table`, equal votes first. Those on a network's own source are cross-fitted; for the other sources,
        weights are fitted on all held-out images of its own.
    """
    rules: dict[str, Callable[[weighting.Readings], weighting.Weights]] = {
        "equal votes": partial(weighting.equal, default_views=view_weights)
    }
    for power in POWERS:
        rules[f"by separation, power {power:g}"] = partial(
            weighting.by_separation, default_views=view_weights, power=power
        )
    for pull in SHRINKAGES:
        rules[f"fitted together, pull {pull:g}"] = partial(weighting.joint, default_views=view_weights, shrinkage=pull)
    read: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in rules}
    for trained, frame in sorted(runs.items()):
        members = [str(member) for member in frame["member"].unique()]
        parts = {
            str(source): weighting.readings(part.sort_values("name"), members, list(view_weights))
            for source, part in frame.groupby("source")
        }
        for name, rule in rules.items():
            weights = rule(parts[trained])
            for source, part in parts.items():
                own = source == trained
                logits = weighting.cross_fitted(part, rule)[0] if own else weighting.combined(part, weights)
                read[name][f"{trained} > {source}"] = pd.DataFrame(
                    {"label": part.labels, "group": part.groups, "logit_0": logits}
                )
    return _rows({name: [found] for name, found in read.items()}, n)


def looks(
    runs: Mapping[str, pd.DataFrame], view_weights: Mapping[str, float], n: int = RESAMPLES
) -> list[dict[str, Any]]:
    """What all views, each look and each view give of one trial: rows as of `table`, all views first."""
    kinds = {"all views": tuple(view_weights)}
    for look, views in VIEW_GROUPS.items():
        kinds[look] = tuple(view for view in views if view in view_weights)
    kinds |= {f"view {view}": (view,) for view in view_weights}
    return _rows(
        {name: [_read(runs, {view: view_weights[view] for view in views})] for name, views in kinds.items()}, n
    )


def heat_maps(trials: Mapping[str, Mapping[str, pd.DataFrame]], view_weights: Mapping[str, float]) -> dict[str, Any]:
    """Figures of `report.on_lesions` for each trial and pair of sources."""
    return {
        name: {key: on_lesions(images) for key, images in _read(runs, view_weights).items()}
        for name, runs in trials.items()
    }


def repeats(
    trials: Mapping[str, Sequence[Mapping[str, pd.DataFrame]]], view_weights: Mapping[str, float], n: int = RESAMPLES
) -> list[dict[str, Any]]:
    """The mean figures of trials that differ in nothing but their seed, against those of the first set of them.

    Args:
        trials: name of each set, with the logits of its trials (as for `table`).
        view_weights: weight of each view.
        n: resamples.

    Returns:
        Rows as of `table`. Unlike those of trials that vote together (`together`), the figures are means of figures.
        The intervals cover the choice of images, not that of the seeds.

    Raises:
        BusError: as for `table`.
    """
    read = {name: [_read(runs, view_weights) for runs in some] for name, some in trials.items()}
    first = next(iter(read))
    for name, some in read.items():
        if any(_images(found) != _images(read[first][0]) for found in some):
            raise BusError(
                f"trial '{name}' did not read the images of trial '{first}'",
                remedy="train both on the same data, with the same folds, fold and set_apart",
            )
    return _rows(read, n)


def _images(found: Mapping[str, pd.DataFrame]) -> dict[str, list[str]]:
    """Names of the images of each pair of sources."""
    return {key: images["name"].tolist() for key, images in found.items()}


def _rows(read: Mapping[str, Sequence[Mapping[str, pd.DataFrame]]], n: int) -> list[dict[str, Any]]:
    """A row a set of readings, the first one to compare with, all on the same resamples."""
    first = next(iter(read.values()))[0]
    groups = np.unique(np.concatenate([images["group"] for images in first.values()]))
    drawn = resamples(groups, n)
    rows: list[dict[str, Any]] = []
    own = np.array([len(set(key.split(" > "))) == 1 for key in first])
    parts = {"gain": np.ones(len(own), bool), "gain_in_source": own, "gain_cross_source": ~own}
    base: np.ndarray | None = None
    for name, some in read.items():
        values, draws = [], []
        for key in first:
            each = [_area(found[key], groups, drawn) for found in some]
            values.append(float(np.mean([value for value, _ in each])))
            draws.append(np.mean([draw for _, draw in each], axis=0))
        areas, spread = np.array(values), np.array(draws)
        if base is None:
            base, at = spread, areas
        gains = {
            part: metrics.Estimate(
                float((areas - at)[of].mean()), *interval((spread - base)[of].mean(axis=0))
            ).to_dict()
            for part, of in parts.items()
            if of.any()
        }
        rows.append(
            {
                "name": name,
                "auroc": {
                    key: metrics.Estimate(value, *interval(draw)).to_dict()
                    for key, value, draw in zip(first, values, draws, strict=True)
                },
                "mean": metrics.Estimate(float(areas.mean()), *interval(spread.mean(axis=0))).to_dict(),
                **gains,
            }
        )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]], changes: Mapping[str, str] | None = None) -> str:
    """Table of trials with what each changed, or of the looks and views of one."""
    keys = list(rows[0]["auroc"])
    head = ["read"] if changes is None else ["trial", "change"]
    gains = [key for key in _GAINS if key in rows[0]]
    titles = [*head, *keys, "mean", *(_GAINS[key] for key in gains)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        cells = [f"{row['auroc'][key]['value']:.3f}" for key in keys]
        cells.append(estimate(row["mean"]))
        cells += ["–" if row is rows[0] else signed(row[gain]) for gain in gains]
        name = [row["name"]] if changes is None else [row["name"], changes[row["name"]]]
        lines.append(f"| {' | '.join([*name, *cells])} |")
    return "\n".join(lines)


def thresholds(
    runs: Mapping[str, pd.DataFrame], view_weights: Mapping[str, float], target: float = 0.95
) -> list[dict[str, Any]]:
    """What thresholds give on a source that neither they nor the network ever saw.

    Args:
        runs: logits of one trial, as for `table`.
        view_weights: weight of each view.
        target: sensitivity that a threshold is fitted for, on the held-out fold of the network's own source.

    Returns:
        One dict a pair of sources: trained, read, n_fit (malignant cases fitted on), n, and sensitivity and
        specificity, each {value, low, high} by bootstrap of groups with the threshold held as fitted.
    """
    rows = []
    for trained in sorted(runs):
        parts = {key: part for key, part in _read(runs, view_weights).items() if key.startswith(f"{trained} > ")}
        own = parts.pop(f"{trained} > {trained}")
        threshold = threshold_for_sensitivity(own["label"].to_numpy(), own["logit_0"].to_numpy(), target)
        for key, part in parts.items():
            labels, groups = part["label"].to_numpy(), part["group"].to_numpy()
            called = part["logit_0"].to_numpy() >= threshold
            rates = {
                name: settled(group_bootstrap(statistic, labels, called, groups), groups[labels == of]).to_dict()
                for name, statistic, of in (
                    ("sensitivity", metrics.sensitivity, 1),
                    ("specificity", metrics.specificity, 0),
                )
            }
            counts = {"n_fit": int(own["label"].sum()), "n": len(labels), "n_malignant": int(labels.sum())}
            rows.append({"trained": trained, "read": key.split(" > ")[1], "target": target} | counts | rates)
    return rows


def thresholds_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Table of what thresholds give on sources that were never seen."""
    lines = [
        "| trained and fitted on | malignant cases fitted on | for sensitivity | read on | n (malignant) | "
        "sensitivity | specificity |",
        "|---" * 7 + "|",
    ]
    for row in rows:
        rates = " | ".join(estimate(row[name]) for name in ("sensitivity", "specificity"))
        fitted = f"{row['trained']} | {row['n_fit']} | {row['target']:g}"
        lines.append(f"| {fitted} | {row['read']} | {row['n']} ({row['n_malignant']}) | {rates} |")
    return "\n".join(lines)


def _read(runs: Mapping[str, pd.DataFrame], view_weights: Mapping[str, float]) -> dict[str, pd.DataFrame]:
    """One row an image of each pair of sources, in the order of names."""
    found = {}
    for trained, frame in sorted(runs.items()):
        members = dict.fromkeys(map(str, frame["member"].unique()), 1.0)
        images = combine(frame, members, view_weights).sort_values("name", ignore_index=True)
        for source, part in images.groupby("source"):
            found[f"{trained} > {source}"] = part
    return found


def _area(images: pd.DataFrame, groups: np.ndarray, drawn: Sequence[np.ndarray]) -> tuple[float, np.ndarray]:
    labels, scores = images["label"].to_numpy(), images["logit_0"].to_numpy()
    place = np.searchsorted(groups, images["group"].to_numpy())
    draws = [metrics.auroc(labels, scores, weights[:, place]) for weights in drawn]
    return float(metrics.auroc(labels, scores)), np.concatenate(draws)
