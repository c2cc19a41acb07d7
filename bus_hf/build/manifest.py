"""The manifest of an ensemble folder, from what was fitted and the files that lie there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bus_hf.build.fit import Fit
from bus_hf.ensemble.folder import sha256
from bus_hf.ensemble.manifest import (
    SCHEMA,
    Abstain,
    Ensemble,
    FittedOn,
    LesionMap,
    LesionType,
    Member,
    OperatingPoint,
)
from bus_hf.filenames import CONFIG, GRAPH, LESION_HEAD, LOGITS, WEIGHTS
from bus_hf.labels import label_set
from bus_hf.validation import plain_errors
from bus_hf.views import MIN_PEAK


def make_manifest(
    folder: Path, fit: Fit, *, name: str, version: str, labels: str, lesion_type: LesionType | None
) -> Ensemble:
    """The manifest of the members in `folder`.

    Args:
        folder: holds a folder a member and the out-of-fold logits.
        fit: of those logits; its first member is light and owns the lesion map.
        name: of the ensemble.
        version: of the ensemble.
        labels: name of the label set.
        lesion_type: entry of the lesion-type classifier, where there is one.

    Raises:
        BusError: the parts make no manifest, such as two members of one name.
    """
    classes, light = label_set(labels), next(iter(fit.weights))
    with plain_errors(Ensemble, folder):
        return Ensemble(
            schema=SCHEMA,
            name=name,
            version=version,
            label_set=classes.name,
            labels=classes.classes,
            positive=classes.positive,
            members=tuple(member_entry(folder, member, member, weight) for member, weight in fit.weights.items()),
            views=fit.views,
            lesion_map=LesionMap(light, LESION_HEAD, sha256(folder / light / LESION_HEAD), MIN_PEAK, fit.found_peak),
            temperature=fit.scale.temperature,
            bias=fit.scale.bias,
            operating_points=operating_points(fit.points),
            default_operating_point=fit.default_point,
            abstain=None if fit.interval is None else Abstain(**fit.interval),
            light=light,
            fitted_on=FittedOn(
                sources={str(name): int(n) for name, n in sorted(fit.images["source"].value_counts().items())},
                groups=int(fit.images["group"].nunique()),
                prevalence=round(float(np.average(fit.y_true, weights=fit.balance)), 6),
                out_of_fold_sha256=sha256(folder / LOGITS),
            ),
            lesion_type=lesion_type,
        )


def member_entry(folder: Path, name: str, path: str, weight: float) -> Member:
    """Entry of a network in `folder / path`, with the hashes of its files."""
    graph = folder / path / GRAPH
    return Member(
        name=name,
        path=path,
        repo_id=None,
        revision=None,
        sha256=sha256(folder / path / WEIGHTS),
        weight=weight,
        config_sha256=sha256(folder / path / CONFIG),
        graph_sha256=sha256(graph) if graph.is_file() else None,
    )


def operating_points(points: Iterable[Mapping[str, Any]]) -> tuple[OperatingPoint, ...]:
    """Entries of what `calibration.operating_points` fitted."""
    return tuple(
        OperatingPoint(point["name"], point["logit"], tuple(point["sensitivity"]), tuple(point["specificity"]))
        for point in points
    )
