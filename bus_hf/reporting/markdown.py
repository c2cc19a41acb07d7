"""Cells and tables of Markdown: how an estimate, a difference and a spread over folds are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Markdown table of rows of cells, which are written as texts."""
    head, *body = (f"| {' | '.join(map(str, cells))} |" for cells in (titles, *rows))
    return "\n".join((head, "|" + "---|" * len(titles), *body))


def estimate(entry: Mapping[str, Any] | Sequence[float] | None, digits: int = 3) -> str:
    """Write {value, low, high} or [value, low, high] as `0.950 (0.930–0.970)`; a dash where there is none."""
    if entry is None:
        return "–"
    value, low, high = entry.values() if isinstance(entry, Mapping) else entry
    if value is None:
        return "–"
    bounds = f" ({low:.{digits}f}–{high:.{digits}f})" if low is not None and high is not None else ""
    return f"{value:.{digits}f}{bounds}"


def estimates(row: Mapping[str, Any] | None, names: Iterable[str]) -> list[str]:
    """`estimate` of each named metric of a row; dashes where there is no row."""
    return [estimate(row.get(name) if row else None) for name in names]


def signed(entry: Mapping[str, Any], digits: int = 3) -> str:
    """Write a difference {value, low, high} as `+0.010 (-0.002 to +0.021)`."""
    if entry["low"] is None:
        return f"{entry['value']:+.{digits}f}"
    return f"{entry['value']:+.{digits}f} ({entry['low']:+.{digits}f} to {entry['high']:+.{digits}f})"


def spread(entry: Mapping[str, Any]) -> str:
    """Write {mean, sd} over folds as `0.950 ± 0.020`, without what is None; a dash where there is no mean."""
    if entry["mean"] is None:
        return "–"
    return f"{entry['mean']:.3f}" + (f" ± {entry['sd']:.3f}" if entry["sd"] is not None else "")


def counts(row: Mapping[str, Any]) -> str:
    """Write the numbers of images, malignant ones and groups as `422 (110, 300)`."""
    return f"{row['n']} ({row['n_malignant']}, {row['n_groups']})"
