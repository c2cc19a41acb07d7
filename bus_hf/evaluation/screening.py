"""The metric "bus_screening" in the form of Hugging Face's `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import datasets
import evaluate
import numpy as np

from bus_hf.errors import BusError
from bus_hf.evaluation import calibration, metrics
from bus_hf.evaluation.bootstrap import RESAMPLES, counted, group_bootstrap, interval, numbered, rates, settled

_DESCRIPTION = """\
Discrimination, calibration and operating points of a model that gives each case a probability of disease, every metric
with its 95 % interval by bootstrap of groups (patients, near-duplicates)."""

_INPUTS = """\
Args:
    predictions: probability of disease of each case, 0 to 1.
    references: 1 for diseased, 0 for healthy.
    groups: group of each case (a patient, say), resampled as a whole, by texts or numbers (1, 1.0 and "1" are one); a
        case whose group is not known (None, NaN, "", "nan") is its own, as every case is where no groups are given.
    threshold: probability from which a case is predicted positive (0.5).
    sensitivities: for each, the specificity at the highest threshold that reaches it (0.9, 0.95, 0.975).
    prevalence: share of diseased that PPV and NPV are stated for; that of the references where it is not given.
    resamples: of the bootstrap (2000).
    seed: of the bootstrap (0).

Returns:
    A flat dict of floats: auroc, auprc, brier, ece, sensitivity, specificity, ppv, npv, f1, accuracy and
    specificity_at_0.95 (and so on), each with _low and _high; and n, n_positive, n_groups, threshold, prevalence. A
    metric that is not defined is NaN.

Examples:
    >>> metric = evaluate.load("metrics/bus_screening")
    >>> result = metric.compute(predictions=[0.9, 0.2, 0.7, 0.1], references=[1, 0, 1, 0], groups=["a", "b", "c", "c"])
    >>> result["auroc"]
    1.0"""


class BusScreening(evaluate.Metric):
    """Metrics of a binary classifier with intervals by group bootstrap; `inputs_description` describes `compute`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self,
        predictions: Sequence[float],
        references: Sequence[int],
        groups: Sequence[Any] | None = None,
        threshold: float = 0.5,
        sensitivities: Sequence[float] = (0.9, 0.95, 0.975),
        prevalence: float | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> dict[str, float]:
        return screening(predictions, references, groups, threshold, sensitivities, prevalence, resamples, seed)


def screening(
    predictions: Sequence[float],
    references: Sequence[int],
    groups: Sequence[Any] | None = None,
    threshold: float = 0.5,
    sensitivities: Sequence[float] = (0.9, 0.95, 0.975),
    prevalence: float | None = None,
    n: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, float]:
    """Metrics of a binary classifier; arguments and result as `BusScreening` describes them.

    Raises:
        BusError: lengths differ, a class is missing, a value lies outside its bounds or is of another kind.
    """
    y_true, y_score = _numbers("reference", references), _numbers("prediction", predictions)
    place = np.arange(len(y_true)) if groups is None else numbered(_listed("groups", groups))
    for what, value in (("threshold", threshold), ("prevalence", prevalence if prevalence is not None else 0.5)):
        _number(what, value)
    sensitivities = _listed("sensitivities", sensitivities)
    for target in sensitivities:
        _number("wanted sensitivity", target)
    for what, count in (("number of resamples", n), ("seed", seed)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise BusError(f"the {what} is {count!r}", where="bus_screening", remedy="give a whole number of 0 or more")
    _check(y_true, y_score, place, threshold, sensitivities, prevalence, n)
    y_true = y_true.astype(int)
    estimates = _estimates(y_true, y_score, place, threshold, prevalence, n, seed)
    for target in sensitivities:
        at = calibration.threshold_for_sensitivity(y_true, y_score, target)
        draws = calibration.refitted_specificities(y_true, y_score, place, target, n, seed)
        specificity = metrics.Estimate(float(metrics.specificity(y_true, y_score >= at)), *interval(draws))
        estimates[f"specificity_at_{target:g}"] = settled(specificity, place[y_true == 0])
    flat = {
        f"{name}{end}": float(number)
        for name, estimate in estimates.items()
        for end, number in zip(("", "_low", "_high"), estimate, strict=True)
    }
    return flat | {
        "n": len(y_true),
        "n_positive": int(y_true.sum()),
        "n_groups": len(np.unique(place)),
        "threshold": float(threshold),
        "prevalence": float(y_true.mean() if prevalence is None else prevalence),
    }


def _estimates(
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    prevalence: float | None,
    n: int,
    seed: int,
) -> dict[str, metrics.Estimate]:
    """Scores of the probabilities, then rates of the predictions at the threshold."""
    y_pred = y_score >= threshold
    estimates = {
        name: group_bootstrap(metric, y_true, y_score, groups, n, seed)
        for name, metric in (
            ("auroc", metrics.auroc),
            ("auprc", metrics.auprc),
            ("brier", metrics.brier),
            ("ece", metrics.ece),
        )
    }
    estimates |= rates(y_true, y_pred, groups, ("sensitivity", "specificity", "accuracy"), n, seed)
    estimates["f1"] = group_bootstrap(metrics.f1, y_true, y_pred, groups, n, seed)
    share = float(y_true.mean()) if prevalence is None else prevalence
    for place, name in enumerate(("ppv", "npv")):
        stated = group_bootstrap(metrics.predictive_value(share, place), y_true, y_pred, groups, n, seed)
        # At another share than the references' own it is no rate of these cases, which Wilson could speak of.
        among = counted(name, y_true, y_pred)
        estimates[name] = stated if prevalence is not None else settled(stated, groups[among])
    return estimates


def _listed(what: str, values: Any) -> list[Any]:
    """The values as a list; BusError where they are not several."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise BusError(f"{what} is {values!r}", where="bus_screening", remedy=f"give a list, as {what}=[...]")
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _number(what: str, value: Any) -> None:
    """BusError for what is no number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise BusError(f"the {what} is {value!r}", where="bus_screening", remedy="give a number, as 0.9")


def _numbers(what: str, values: Sequence[Any]) -> np.ndarray:
    """Values as float (n,): numbers, bools, numbers written as text; BusError for anything else."""
    try:
        numbers = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        raise BusError(f"a {what} is no number", where="bus_screening", remedy=f"give one number a {what}") from None
    if not np.isfinite(numbers).all():
        raise BusError(
            f"a {what} is not finite (NaN or infinite)",
            where="bus_screening",
            remedy="leave the case out, or find out why it has no value",
        )
    return numbers


def _check(
    y_true: np.ndarray,
    y_score: np.ndarray,
    groups: np.ndarray,
    threshold: float,
    sensitivities: Sequence[float],
    prevalence: float | None,
    n: int,
) -> None:
    wrong = None
    if not len(y_true) == len(y_score) == len(groups):
        wrong = f"there are {len(y_score)} predictions, {len(y_true)} references and {len(groups)} groups"
    elif not np.isin(y_true, (0, 1)).all():
        wrong = "a reference is neither 0 nor 1"
    elif len(np.unique(y_true)) < 2:
        wrong = "the references hold one class only"
    elif not ((y_score >= 0) & (y_score <= 1)).all():
        wrong = "a prediction is no probability from 0 to 1"
    elif not 0 <= threshold <= 1:
        wrong = f"the threshold is {threshold:g}"
    elif not all(0 < target <= 1 for target in sensitivities):
        wrong = "a wanted sensitivity is not above 0 and up to 1"
    elif prevalence is not None and not 0 < prevalence < 1:
        wrong = f"the prevalence is {prevalence:g}"
    elif n < 1:
        wrong = f"{n} resamples are asked for"
    if wrong:
        raise BusError(
            wrong,
            where="bus_screening",
            remedy="give as many probabilities as references (0 or 1, both) and groups, and shares from 0 to 1",
        )
