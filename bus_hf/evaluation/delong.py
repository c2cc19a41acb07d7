"""DeLong's test of two correlated AUROCs."""

from __future__ import annotations

import numpy as np


def delong(y_true: np.ndarray, y_score: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Compare two models on the same cases (E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 1988).

    The cases count as independent of one another: where groups hold several images, the p-value is a little small, and
    the group bootstrap is the one to trust.

    Args:
        y_true: int (n,), 1 positive.
        y_score: float (n,), of the one model.
        others: float (n,), of the other.

    Returns:
        Difference of the AUROCs and the two-sided p-value; p is 1 where the two order all pairs alike.
    """
    from scipy.stats import norm

    positive, negative = y_true == 1, y_true == 0
    m, n = int(positive.sum()), int(negative.sum())
    areas, v10, v01 = [], [], []
    for values in (np.asarray(y_score, float), np.asarray(others, float)):
        # 1 where the positive scores higher, 1/2 in a tie: the kernel of the Mann-Whitney statistic.
        ahead = values[positive][:, None] - values[negative][None, :]
        psi = (ahead > 0) + 0.5 * (ahead == 0)
        areas.append(psi.mean())
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    spread = np.cov(v10) / m + np.cov(v01) / n
    variance = spread[0, 0] + spread[1, 1] - 2 * spread[0, 1]
    difference = float(areas[0] - areas[1])
    if variance <= 1e-15:
        return difference, 1.0
    return difference, float(2 * norm.sf(abs(difference) / np.sqrt(variance)))
