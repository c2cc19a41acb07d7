"""Stored out-of-fold logits, read strictly: what is not finite is an error and no metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bus_hf.errors import BusError

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("name", "group", "label", "member", "view", "logit_0")


def read(path: str | Path, remedy: str = "give the out_of_fold.parquet of a finished run") -> pd.DataFrame:
    """Read logits that training wrote, one row an image, member and view.

    Args:
        path: Parquet file.
        remedy: what to do where it is none.

    Raises:
        BusError: it cannot be read, lacks a column, or has a logit that is not finite or a row without a name, group or
            label.
    """
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError):
        raise BusError("no Parquet file of logits can be read here", where=path, remedy=remedy) from None
    lacking = [column for column in _COLUMNS if column not in frame]
    if lacking:
        raise BusError(f"the logits have no column {', '.join(lacking)}", where=path, remedy=remedy)
    empty = [column for column in _COLUMNS[:-1] if frame[column].isna().any()]
    if empty:
        raise BusError(f"there are rows without {', '.join(empty)}", where=path, remedy=remedy)
    require_finite(frame, path)
    return frame


def require_finite(frame: pd.DataFrame, where: object) -> None:
    """BusError where a logit (columns `logit_k`) is no number or not finite; an image of those is named."""
    import numpy as np
    import pandas as pd

    columns = [column for column in frame if str(column).startswith("logit_")]
    values = frame[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    odd = ~np.isfinite(values).all(axis=1)
    if odd.any():
        raise BusError(
            f"{int(odd.sum())} of {len(frame)} rows hold a logit that is not finite ({frame['name'][odd].iloc[0]}, "
            "for one)",
            where=where,
            remedy="train the run again, or read its images again with train_accelerate.py --reread",
        )
