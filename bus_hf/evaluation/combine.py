"""Weighted means of logits over members and views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def average(logits: np.ndarray, member_weights: np.ndarray, view_weights: np.ndarray) -> np.ndarray:
    """Weighted mean logits (n,) of logits (n, M, V); the weights (M,) and (V,) are scaled to sum to 1."""
    return np.einsum("nmv,m,v->n", logits, member_weights / member_weights.sum(), view_weights / view_weights.sum())


def combine(
    frame: pd.DataFrame, member_weights: Mapping[str, float], view_weights: Mapping[str, float]
) -> pd.DataFrame:
    """Weighted mean of out-of-fold logits, as the detector takes it.

    Args:
        frame: one row an image, member and view, as training writes it.
        member_weights: weight of each member, the one with the lesion map first; others do not count.
        view_weights: weight of each view; others do not count.

    Returns:
        One row an image in the order of the frame: `logit_k`, and the image's other columns as the first member has
        them, whose box the detector takes.

    Raises:
        ValueError: an image lacks a member or view that has weight, or has one twice.
    """
    if frame.duplicated(["name", "member", "view"]).any():
        raise ValueError("an image has a view of a member twice")
    weights = frame["member"].map(dict(member_weights)).fillna(0.0) * frame["view"].map(dict(view_weights)).fillna(0.0)
    columns = [name for name in frame.columns if name.startswith("logit_")]
    by_name = frame["name"]
    total = weights.groupby(by_name, sort=False).sum()
    expected = sum(member_weights.values()) * sum(view_weights.values())
    if not np.allclose(total, expected):
        raise ValueError("an image lacks a member or a view")
    logits = frame[columns].mul(weights, axis=0).groupby(by_name, sort=False).sum().div(total, axis=0)
    first = np.argsort((frame["member"] != next(iter(member_weights))).to_numpy(), kind="stable")
    # Not groupby().first(): where the first member has NaN (no box found), that takes another member's value.
    facts = frame.iloc[first].drop_duplicates("name").set_index("name").drop(columns=[*columns, "member", "view"])
    return facts.loc[logits.index].join(logits).reset_index()
