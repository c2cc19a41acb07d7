"""A site's own temperature, thresholds and band of "not sure", fitted on its own labelled cases."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bus_hf import ensemble
from bus_hf.errors import BusError
from bus_hf.evaluation import abstention, calibration, figures
from bus_hf.evaluation.bootstrap import group_bootstrap, settled

FILE = "calibration.json"
# With fewer groups of a class nothing is fitted; with fewer than the second number a warning is due.
_LEAST, _FEW = 10, 50


@dataclasses.dataclass(frozen=True)
class SiteCases:
    """What is known of a site's cases: nothing that names one of them is kept.

    `logits` float (n,) are the ensemble's before its temperature, `labels` int (n,) 1 malignant, `groups` and `sources`
    (n,) of any kind.
    """

    logits: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    sources: np.ndarray


def fit(manifest: ensemble.Ensemble, cases: SiteCases) -> tuple[ensemble.Ensemble, dict[str, Any], list[str]]:
    """Fit an ensemble's calibration anew.

    An operating point is left out where fewer cancers are given than it takes to miss one of them (40 for a sensitivity
    of 0.975). The default point stays, or becomes the most sensitive one that is left.

    Args:
        manifest: of the ensemble that read the cases.
        cases: labelled cases that no member trained on.

    Returns:
        The new manifest, JSON-ready figures of before and after, and warnings, a sentence each.

    Raises:
        BusError: fewer than ten groups of a class.
    """
    labels, groups = cases.labels, cases.groups
    counts = {name: len(np.unique(groups[labels == value])) for value, name in ((1, "malignant"), (0, "benign"))}
    for name, count in counts.items():
        if count < _LEAST:
            raise BusError(
                f"there are {count} {name} patients or lesions, and a calibration needs {_LEAST} at the least",
                where="the labelled cases",
                remedy=f"give more {name} cases, or keep the ensemble as it is",
            )
    warnings = [
        f"only {count} {name} patients or lesions: the new thresholds are uncertain (see their intervals); "
        f"{_FEW} or more are wanted"
        for name, count in counts.items()
        if count < _FEW
    ]
    scale = calibration.fit_scale(cases.logits, labels, calibration.Scale(manifest.temperature, manifest.bias))
    if scale is None:
        scale = calibration.Scale(manifest.temperature, manifest.bias)
    logits = scale.logits(cases.logits)
    points = calibration.operating_points(labels, logits, groups)
    band = abstention.band(labels, logits, groups)
    enough = {name for name, target in calibration.POINTS.items() if counts["malignant"] * (1 - target) >= 1 - 1e-9}
    for name in calibration.POINTS:
        if name not in enough:
            warnings.append(f"{name} is left out: {counts['malignant']} cancers cannot show so high a sensitivity")
    kept = tuple(ensemble.OperatingPoint(**_triples(point)) for point in points if point["name"] in enough)
    default = manifest.default_operating_point
    after = dataclasses.replace(
        manifest,
        version=f"{manifest.version.partition('+')[0]}+site",
        temperature=scale.temperature,
        bias=scale.bias,
        operating_points=kept,
        default_operating_point=default if default in enough else kept[-1].name,
        abstain=None if band is None else ensemble.Abstain(**band),
        fitted_on=ensemble.FittedOn(
            sources={
                str(name): int(count) for name, count in zip(*np.unique(cases.sources, return_counts=True), strict=True)
            },
            groups=len(np.unique(groups)),
            prevalence=round(float(labels.mean()), 6),
            out_of_fold_sha256=None,
        ),
    )
    return after, _compared(manifest, after, cases), warnings


def write(
    before: Path, after: ensemble.Ensemble, found: dict[str, Any], folder: Path, members: Sequence[ensemble.Member]
) -> None:
    """Write the new ensemble folder, whole or not at all: members copied, manifest and `calibration.json` anew.

    Args:
        before: folder of the ensemble that was calibrated.
        after: its new manifest.
        found: figures of before and after.
        folder: to write; an earlier calibration in it is replaced.
        members: those of the manifest.

    Raises:
        BusError: the folder holds something else, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FILE).is_file())):
        raise BusError("something else is here already", where=folder, remedy="name another folder with --to")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".calibration-") as scratch:
            part = Path(scratch) / "ensemble"
            part.mkdir()
            for member in members:
                if member.path is not None:
                    shutil.copytree(before / member.path, part / member.path)
            ensemble.write(after, part)
            (part / FILE).write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            if folder.exists():
                shutil.rmtree(folder)
            part.rename(folder)
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="name another folder with --to"
        ) from None


def _compared(before: ensemble.Ensemble, after: ensemble.Ensemble, cases: SiteCases) -> dict[str, Any]:
    """Rates on the site's cases at the old points as they are, and at the new ones cross-fitted."""
    labels, groups = cases.labels, cases.groups
    scale = calibration.Scale(before.temperature, before.bias)
    old, chances = scale.logits(cases.logits), scale.probabilities(cases.logits)
    new = calibration.cross_fitted_probabilities(cases.logits, labels, groups, start=scale)
    rates = {
        point.name: {
            name: settled(
                group_bootstrap(statistic, labels, old >= point.logit, groups), groups[labels == value]
            ).to_dict()
            for name, statistic, value in (
                ("sensitivity", figures.sensitivity, 1),
                ("specificity", figures.specificity, 0),
            )
        }
        | {"threshold": point.threshold}
        for point in before.operating_points
    }
    return {
        "n": len(labels),
        "n_malignant": int(labels.sum()),
        "n_groups": len(np.unique(groups)),
        "auroc": group_bootstrap(figures.auroc, labels, cases.logits, groups).to_dict(),
        "before": {"temperature": before.temperature, "operating_points": rates} | _calibrated(labels, chances, groups),
        "after": {
            "temperature": after.temperature,
            "operating_points": {
                point.name: {
                    "threshold": point.threshold,
                    **{
                        name: dict(zip(("value", "low", "high"), getattr(point, name), strict=True))
                        for name in ("sensitivity", "specificity")
                    },
                }
                for point in after.operating_points
            },
        }
        | _calibrated(labels, new, groups),
        "interval": "95 % by bootstrap of groups; after: fitted on other groups than it is read on",
    }


def _calibrated(labels: np.ndarray, chances: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    return {
        name: group_bootstrap(statistic, labels, chances, groups).to_dict()
        for name, statistic in (("brier", figures.brier), ("ece", figures.ece))
    }


def _triples(point: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in point.items()}
