"""A site's own temperature, bias, thresholds and abstention interval, fitted on its own labelled cases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bus_hf.build.manifest import operating_points
from bus_hf.ensemble.folder import copy_parts, read_manifest, verify, write_manifest
from bus_hf.ensemble.manifest import LARGEST_LOGIT, Abstain, Ensemble, FittedOn
from bus_hf.errors import BusError
from bus_hf.evaluation import abstention, calibration, metrics
from bus_hf.evaluation.bootstrap import group_bootstrap, rates
from bus_hf.filenames import CALIBRATION
from bus_hf.files import replace_folder
from bus_hf.reporting import sanitize, site

CARD = "README.md"
# With fewer groups of a class a warning is due.
_FEW = 50


@dataclasses.dataclass(frozen=True)
class SiteCases:
    """What is known of a site's cases: nothing that names one of them is kept.

    `logits` float (n,) are the ensemble's before temperature and bias, `y_true` int (n,) 1 malignant, `groups` and
    `sources` (n,) of any kind. `lesion_confidence` float (n,) is the peak of the lesion map, 0..1; NaN where it is not
    known, and None where none is: a lesion then counts as found.
    """

    logits: np.ndarray
    y_true: np.ndarray
    groups: np.ndarray
    sources: np.ndarray
    lesion_confidence: np.ndarray | None = None

    @property
    def sample_weight(self) -> np.ndarray:
        """How much each image counts, float (n,): images of one group and one label count as one together."""
        return calibration.case_weights(self.y_true, self.groups)

    def lesion_found(self, peak: float) -> np.ndarray:
        """Whether the lesion map found a lesion, bool (n,): its peak is not below `peak`."""
        known = np.full(len(self.y_true), np.nan) if self.lesion_confidence is None else self.lesion_confidence
        return ~(known < peak)


def fit(manifest: Ensemble, cases: SiteCases) -> tuple[Ensemble, dict[str, Any], list[str]]:
    """Fit an ensemble's calibration anew.

    Images of one group and one label count as one together: no patient outweighs another by many frames.

    What the cases cannot show keeps its old value: temperature and bias where a fit lies at a bound, the temperature
    where a threshold separates the classes, the abstention interval where there are fewer than 20 cancers or 10 benign
    cases. An operating point is left out where there are fewer cancers than it takes to miss one of them (10, 20 and
    40). The default point stays, or becomes the most sensitive one that is left.

    Args:
        manifest: of the ensemble that gave the logits.
        cases: labelled cases that no member trained on.

    Returns:
        The new manifest, JSON-ready metrics of before and after, and warnings, a sentence each without its full stop.

    Raises:
        BusError: fewer than ten groups of a class, a logit that is not finite, or an ensemble that does not tell these
            cases apart, or the wrong way round.
    """
    y_true, groups, sample_weight = cases.y_true, cases.groups, cases.sample_weight
    malignant, benign = calibration.counts(y_true, groups)
    _check(cases)
    old = calibration.Scale(manifest.temperature, manifest.bias)
    fitted = calibration.fit_scale(cases.logits, y_true, old, sample_weight)
    scale = fitted or old
    logits = scale.logits(cases.logits)
    points = calibration.operating_points(y_true, logits, groups, sample_weight=sample_weight)
    names = [point["name"] for point in points]
    default = manifest.default_operating_point
    kept = not abstention.enough(y_true, groups)
    interval = manifest.abstain if kept else _interval(y_true, logits, sample_weight)
    after = dataclasses.replace(
        manifest,
        version=f"{manifest.version.partition('+')[0]}+site",
        temperature=scale.temperature,
        bias=scale.bias,
        operating_points=operating_points(points),
        default_operating_point=default if default in names else names[-1],
        abstain=interval,
        fitted_on=FittedOn(
            sources={
                str(name): int(count) for name, count in zip(*np.unique(cases.sources, return_counts=True), strict=True)
            },
            groups=len(np.unique(groups)),
            prevalence=round(float(np.average(y_true, weights=sample_weight)), 6),
            out_of_fold_sha256=None,
        ),
    )
    answers = _answers(after, cases, logits, kept)
    after = _measured(after, cases, answers, kept)
    measured = _compared(manifest, after, cases) | {"no_lesion": _without_lesion(after, cases, answers)}
    warnings = _warnings(names, (malignant, benign), measured["auroc"], (old, fitted), kept and interval is not None)
    if after.default_operating_point != default:
        warnings.insert(0, site.changed_default(default, after.default_operating_point))
    return after, measured | {"warnings": warnings}, warnings


def _warnings(
    names: Sequence[str],
    counts: tuple[int, int],
    auroc: Mapping[str, Any],
    scales: tuple[calibration.Scale, calibration.Scale | None],
    kept: bool,
) -> list[str]:
    """What the cases cannot show: points left out, values kept, an ensemble that may not tell them apart."""
    kinds, (old, fitted) = ("malignant", "benign"), scales
    warnings = [
        f"only {count} {kind} patients or lesions: the new thresholds are uncertain (see their intervals); {_FEW} or "
        "more are wanted"
        for count, kind in zip(counts, kinds, strict=True)
        if count < _FEW
    ]
    warnings += [
        f"{name} is left out: to show so high a sensitivity takes {calibration.needed(1 - target)} cancers, and there "
        f"are {counts[0]}"
        for name, target in calibration.POINTS.items()
        if name not in names
    ]
    if (auroc["low"] or 0) <= 0.5:
        warnings.append("that the ensemble tells these cases apart is not shown: the interval of its AUROC holds 0.5")
    if fitted is None:
        warnings.append(
            f"temperature and bias are kept ({old.temperature:g} and {old.bias:g}): the fit lies at a bound of what is "
            "sensible"
        )
    elif fitted.temperature == old.temperature:
        warnings.append(
            f"the temperature is kept ({old.temperature:g}) and the bias alone is fitted: a threshold separates all "
            "malignant cases from all benign ones, which says nothing of how sure to be"
        )
    if kept:
        needs = " and ".join(f"{count} {kind}" for count, kind in zip(abstention.NEEDED, kinds, strict=True))
        warnings.append(
            f'the abstention interval ("not sure") is kept: to fit one takes {needs} patients or lesions, and there '
            f"are {counts[0]} and {counts[1]}"
        )
    return warnings


def _check(cases: SiteCases) -> None:
    if not np.isfinite(cases.logits).all():
        raise BusError("a logit is not finite", where="the labelled cases", remedy="check the ensemble that reads them")
    calibration.check_counts(cases.y_true, cases.groups)
    area = float(metrics.auroc(cases.y_true, cases.logits, cases.sample_weight))
    if np.isclose(area, 0.5, rtol=0, atol=1e-9):
        raise BusError(
            "the ensemble does not tell the malignant cases from the benign ones (AUROC 0.50)",
            where="the labelled cases",
            remedy="give B-mode images of breast lesions, or another ensemble",
        )
    if area < 0.5:
        raise BusError(
            f"the ensemble finds the benign cases more suspicious than the malignant ones (AUROC {area:.2f})",
            where="the labelled cases",
            remedy="are the labels exchanged? Malignant or 1 is a cancer, benign or 0 the rest; nothing was written",
        )


def _interval(y_true: np.ndarray, logits: np.ndarray, sample_weight: np.ndarray) -> Abstain:
    """The site's abstention interval, its rates not yet measured."""
    # Of a part with few cases an end may be infinite.
    low, high = np.clip(abstention.ends(y_true, logits, sample_weight), -LARGEST_LOGIT, LARGEST_LOGIT)
    return Abstain(low_logit=float(low), high_logit=float(high), coverage=0.0, error=0.0, method=abstention.METHOD)


def _answers(after: Ensemble, cases: SiteCases, logits: np.ndarray, kept: bool) -> np.ndarray:
    """What the ensemble answers at its default point: int (n, 2), whether malignant, and that or `NOT_SURE`.

    Threshold and interval (unless it is a `kept` one) are those of other groups; the rule is the manifest's own.
    """
    y_true, sample_weight = cases.y_true, cases.sample_weight
    lesion_found = cases.lesion_found(after.lesion_map.found_peak)
    default = next(point for point in after.operating_points if point.name == after.default_operating_point)
    target = calibration.POINTS[default.name]
    answers = np.empty((len(y_true), 2), int)
    for fit, test in calibration.cross_fits(y_true, cases.groups):
        others = y_true[fit], logits[fit]
        point = dataclasses.replace(
            default, logit=calibration.threshold_for_sensitivity(*others, target, sample_weight[fit])
        )
        fold = after if kept else dataclasses.replace(after, abstain=_interval(*others, sample_weight[fit]))
        for row in test:
            logit, with_lesion = float(logits[row]), bool(lesion_found[row])
            positive = logit >= fold.threshold_logit(point, with_lesion)
            answers[row] = positive, abstention.NOT_SURE if fold.unsure(logit, positive, with_lesion) else positive
    return answers


def _measured(after: Ensemble, cases: SiteCases, answers: np.ndarray, kept: bool) -> Ensemble:
    """The manifest with coverage and error of its interval as its answers have them on the site's cases."""
    interval = after.abstain
    if interval is None:
        return after
    fitted = f"{interval.method.partition(';')[0]}; {'kept by a site, ' if kept else ''}"
    method = f"{fitted}coverage and error of the answers at {after.default_operating_point}, cross-fitted over groups"
    coverage = abstention.rates(cases.y_true, answers[:, 1], cases.sample_weight)
    return dataclasses.replace(after, abstain=dataclasses.replace(interval, **coverage, method=method))


def _without_lesion(after: Ensemble, cases: SiteCases, answers: np.ndarray) -> dict[str, Any]:
    """In how many images no lesion was found, and the rates of the default point with what those are answered."""
    y_true, groups = cases.y_true, cases.groups
    measured = rates(y_true, answers[:, 0] == 1, groups, sample_weight=cases.sample_weight)
    return {
        "n": int((~cases.lesion_found(after.lesion_map.found_peak)).sum()),
        **{name: rate.to_dict() for name, rate in measured.items()},
    }


def write(before: Path, after: Ensemble, measured: dict[str, Any], folder: Path) -> None:
    """Write the new ensemble folder, whole or not at all, and open it before it takes its place.

    Args:
        before: folder of the ensemble that was calibrated. What its manifest names is copied, and nothing else.
        after: its new manifest.
        measured: metrics of before and after.
        folder: to write; an earlier calibration in it is replaced.

    Raises:
        BusError: the folder holds something else, cannot be written, or what was written cannot be opened.
    """
    from bus_hf.inference.runtime import open_runtime

    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / CALIBRATION).is_file())):
        raise BusError("something else is here already", where=folder, remedy="name another folder with --to")
    try:
        with replace_folder(folder) as part:
            copy_parts(before, after, part)
            write_manifest(after, part)
            (part / CALIBRATION).write_text(json.dumps(measured, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            (part / CARD).write_text(site.card(after.name, after.version, sanitize.plain(measured)), encoding="utf-8")
            written = read_manifest(part)
            verify(part, written)
            open_runtime(part, written, "cpu")
    except OSError as error:
        raise BusError(
            f"it cannot be written ({error.strerror})", where=folder, remedy="name another folder with --to"
        ) from None


def _compared(before: Ensemble, after: Ensemble, cases: SiteCases) -> dict[str, Any]:
    """Rates on the site's cases at the old points as they are, and at the new ones cross-fitted."""
    y_true, groups, sample_weight = cases.y_true, cases.groups, cases.sample_weight
    scale = calibration.Scale(before.temperature, before.bias)
    old, probabilities = scale.logits(cases.logits), scale.probabilities(cases.logits)
    new = calibration.cross_fitted_probabilities(cases.logits, y_true, groups, start=scale, sample_weight=sample_weight)
    rates_before = {
        point.name: {
            name: rate.to_dict()
            for name, rate in rates(y_true, old >= point.logit, groups, sample_weight=sample_weight).items()
        }
        | {"threshold": point.threshold}
        for point in before.operating_points
    }
    return {
        "n": len(y_true),
        "n_malignant": int(y_true.sum()),
        "n_groups": len(np.unique(groups)),
        "auroc": group_bootstrap(metrics.auroc, y_true, cases.logits, groups, sample_weight=sample_weight).to_dict(),
        "prevalence": after.fitted_on.prevalence,
        "sources": after.fitted_on.sources,
        "before": {
            "temperature": before.temperature,
            "bias": before.bias,
            "operating_points": rates_before,
            "default_operating_point": before.default_operating_point,
        }
        | _calibrated(y_true, probabilities, groups, sample_weight),
        "after": {
            "temperature": after.temperature,
            "bias": after.bias,
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
        | _calibrated(y_true, new, groups, sample_weight),
        "default_operating_point": after.default_operating_point,
        "abstain": None
        if after.abstain is None
        else {
            "low": after.abstain.low,
            "high": after.abstain.high,
            "coverage": after.abstain.coverage,
            "error": after.abstain.error,
            "method": after.abstain.method,
        },
        "interval": "95 % by bootstrap of groups, each counted as one; after: fitted on other groups than measured on",
    }


def _calibrated(
    y_true: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, sample_weight: np.ndarray
) -> dict[str, Any]:
    return {
        name: group_bootstrap(statistic, y_true, probabilities, groups, sample_weight=sample_weight).to_dict()
        for name, statistic in (("brier", metrics.brier), ("ece", metrics.ece))
    }
