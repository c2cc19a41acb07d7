"""The metrics of an ensemble folder in one small table, for a README; its card has the rest."""

from __future__ import annotations

from pathlib import Path

from bus_hf.build.describe import read_report
from bus_hf.ensemble.folder import read_manifest
from bus_hf.reporting import sanitize, tables


def readme_metrics(folder: Path) -> str:
    """A table of at most six rows, and a sentence on what its rates are.

    Raises:
        BusError: the folder holds no ensemble or no report.
    """
    metrics = sanitize.plain(read_report(folder))
    table = tables.summary_table(metrics, sanitize.plain(read_manifest(folder).light))
    return (
        f"{table}\n\nSensitivity and specificity at the operating point `{metrics['default_operating_point']}`, whose "
        "threshold was fitted on other groups.\n"
    )
