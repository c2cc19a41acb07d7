"""Markdown tables of a report."""

import pytest

from bus_hf.evaluation.evidence import ENSEMBLE
from bus_hf.reporting.tables import heat_table, summary_table


def test_images_without_a_drawn_lesion_are_said_and_no_table_without_rows():
    text = heat_table({"heat_maps": {"net": {"site": {"n": 0}}}})
    assert text == "No lesion is drawn on these images, so that boxes and heat maps cannot be measured."


def estimate(value):
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


@pytest.mark.parametrize("count", [1, 9])
def test_the_summary_has_at_most_six_rows_the_light_member_last(count):
    rates = {"miss": {"sensitivity": estimate(0.9), "specificity": estimate(0.7)}}
    row = {"n": 50, "n_malignant": 20, "n_groups": 30, "auroc": estimate(0.8), "operating_points": rates}
    sources = {f"hospital {number}": row for number in range(count)}
    report = {
        "models": {ENSEMBLE: {"all": row, **sources}, "light": {"all": row | {"auroc": estimate(0.75)}}},
        "default_operating_point": "miss",
    }
    lines = summary_table(report, "light").splitlines()[2:]
    assert len(lines) == min(count, 4) + 2
    assert lines[0].startswith("| all | 50 (20, 30) | 0.800 (0.750–0.850) | 0.900")
    assert lines[-1].startswith("| all, `light` alone | 50 (20, 30) | 0.750")
