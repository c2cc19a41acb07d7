"""Logits of members and views to one reading an image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd


def combine(
    frame: pd.DataFrame, member_weights: Mapping[str, float], view_weights: Mapping[str, float]
) -> pd.DataFrame:
    """Weighted mean of out-of-fold logits, as the detector takes it.

    Args:
        frame: one row an image, member and view, as training writes it.
        member_weights: weight of each member; others are left out.
        view_weights: weight of each view; others are left out.

    Returns:
        One row an image in the order of the frame: `logit_k`, and the image's other columns (of the member with the
        lesion map, the first one).

    Raises:
        ValueError: an image lacks a member or view that has weight.
    """
    weights = frame["member"].map(dict(member_weights)).fillna(0.0) * frame["view"].map(dict(view_weights)).fillna(0.0)
    columns = [name for name in frame.columns if name.startswith("logit_")]
    by_name = frame["name"]
    total = weights.groupby(by_name, sort=False).sum()
    expected = sum(member_weights.values()) * sum(view_weights.values())
    if not np.allclose(total, expected):
        raise ValueError("an image lacks a member or a view")
    logits = frame[columns].mul(weights, axis=0).groupby(by_name, sort=False).sum().div(total, axis=0)
    facts = frame.drop(columns=[*columns, "member", "view"]).groupby("name", sort=False).first()
    return facts.join(logits).reset_index()
