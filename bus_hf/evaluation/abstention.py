"""The abstention interval: calibrated logits that are answered "not sure, refer"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bus_hf.evaluation import bootstrap
from bus_hf.evaluation.calibration import counts, cross_fits, needed

# Share of malignant cases whose prediction set may lack "malignant", and of benign ones; a missed cancer weighs more.
MALIGNANT_ERROR, BENIGN_ERROR = 0.05, 0.10
# Groups of malignant and of benign cases that it takes for one to be answered wrongly at these rates.
NEEDED = (needed(MALIGNANT_ERROR), needed(BENIGN_ERROR))
# Among answers of 0, benign, and 1, malignant.
NOT_SURE = -1
METHOD = (
    f"class-conditional conformal prediction, error {MALIGNANT_ERROR:g} for malignant and {BENIGN_ERROR:g} for benign"
)


def fit(
    y_true: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> dict[str, Any] | None:
    """Fit the interval by class-conditional conformal prediction (V. Vovk et al., 2005, sec. 4.5).

    A logit whose prediction set holds both classes, or neither, lies in the interval. Coverage and error are those
    of intervals fitted on nine tenths of the groups and measured on the tenth held out.

    Args:
        y_true: int (n,), 1 malignant.
        logits: float (n,), calibrated, of cases that no member trained on.
        groups: group of each case.
        seed: of the split into tenths.
        sample_weight: float (n,), how many cases each one counts as; 1 where None.

    Returns:
        low_logit, high_logit (the interval, both ends in it), coverage (share of cases outside it), error (among those)
        and method; None where there are fewer groups than `NEEDED`, with which the interval has no two ends.
    """
    if not enough(y_true, groups):
        return None
    low, high = ends(y_true, logits, sample_weight)
    answers = cross_fitted(y_true, logits, groups, seed, sample_weight)
    return {
        "low_logit": low,
        "high_logit": high,
        **rates(y_true, answers),
        "method": f"{METHOD}; coverage and error cross-fitted over groups",
    }


def enough(y_true: np.ndarray, groups: Sequence[Any] | np.ndarray) -> bool:
    """Whether there are as many groups of both classes as an interval takes (`NEEDED`)."""
    return all(count >= least for count, least in zip(counts(y_true, groups), NEEDED, strict=True))


def rates(y_true: np.ndarray, answers: np.ndarray, sample_weight: np.ndarray | None = None) -> dict[str, float]:
    """Coverage, the share of answers that are not "not sure", and error, the share of wrong ones among those.

    `sample_weight` float (n,) says how many answers each one counts as; 1 where None.
    """
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    decided = weights * (answers != NOT_SURE)
    wrong = decided * (answers != y_true)
    return {
        "coverage": round(float(decided.sum() / weights.sum()), 6),
        "error": round(float(wrong.sum() / decided.sum()), 6) if decided.any() else 0.0,
    }


def answer(logits: np.ndarray, low: float, high: float) -> np.ndarray:
    """Answers under an interval with both ends in it: int (n,), 1 malignant, 0 benign, -1 not sure."""
    return np.where(logits > high, 1, np.where(logits < low, 0, NOT_SURE))


def cross_fitted(
    y_true: np.ndarray,
    logits: np.ndarray,
    groups: Sequence[Any] | np.ndarray,
    seed: int = 0,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Answers under intervals fitted on other groups, as for `fit`: int (n,), 1 malignant, 0 benign, -1 not sure."""
    answers = np.full(len(y_true), NOT_SURE)
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    for fitted_on, test in cross_fits(y_true, np.asarray(groups), seed):
        answers[test] = answer(logits[test], *ends(y_true[fitted_on], logits[fitted_on], weights[fitted_on]))
    return answers


def answered(y_true: np.ndarray, answers: np.ndarray, groups: Sequence[Any] | np.ndarray) -> dict[str, Any]:
    """How often an answer that is given is right, by class, JSON-ready.

    Args:
        y_true: int (n,), 1 malignant.
        answers: of `cross_fitted`.
        groups: group of each case.

    Returns:
        For "malignant" and "benign": n, n_answered, n_wrong, and right, the share of the answered that is right
        ({value, low, high}, by bootstrap of groups; None where none is answered).
    """
    groups = np.asarray(groups)
    by_class = {}
    for name, value, rate in (("malignant", 1, "sensitivity"), ("benign", 0, "specificity")):
        given = (y_true == value) & (answers != NOT_SURE)
        right = None
        if given.any():
            right = bootstrap.rates(y_true[given], answers[given] == 1, groups[given], [rate])[rate].to_dict()
        by_class[name] = {
            "n": int((y_true == value).sum()),
            "n_answered": int(given.sum()),
            "n_wrong": int((answers[given] != value).sum()),
            "right": right,
        }
    return by_class


def ends(y_true: np.ndarray, logits: np.ndarray, sample_weight: np.ndarray | None = None) -> tuple[float, float]:
    """Ends of the interval: where the prediction set changes, looked for on every logit that occurs.

    An end is infinite where too few cases are given for a class ever to leave the set. `sample_weight` float (n,) says
    how many cases each one counts as, 1 where None; with those of `calibration.case_weights` the sets hold for an image
    of a new group (Y. Lee, R. F. Barber, R. Willett, "Distribution-free inference with hierarchical data", 2023).
    """
    grid = np.r_[-np.inf, np.unique(logits), np.inf]
    weights = np.ones(len(y_true)) if sample_weight is None else sample_weight
    held = {}
    for value, error, sign in ((1, MALIGNANT_ERROR, 1), (0, BENIGN_ERROR, -1)):
        p = _p_values(sign * logits[y_true == value], weights[y_true == value], sign * grid)
        held[value] = grid[p > error]
    # "malignant" is in the set from the first of its logits up, "benign" up to the last of its own.
    starts, stops = float(held[1].min(initial=np.inf)), float(held[0].max(initial=-np.inf))
    return min(starts, stops), max(starts, stops)


def _p_values(scores: np.ndarray, weights: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Conformal p-values, float (m,), of new cases with the scores `at` (m,): the share of the cases, itself among
    them, that are as low or lower."""
    order = np.argsort(scores, kind="stable")
    below = np.r_[0, np.cumsum(weights[order])]
    return (below[np.searchsorted(scores[order], at, side="right")] + 1) / (below[-1] + 1)
