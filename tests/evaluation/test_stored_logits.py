"""Stored logits that are not finite end in a sentence wherever they are read, and in no figure."""

import json
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from bus_hf.build import fold_report
from bus_hf.cli import main
from bus_hf.errors import BusError
from bus_hf.evaluation import stored_logits
from bus_hf.training.held_out import read_boxes
from bus_hf.training.lineage import history_of
from bus_hf.views import VIEWS
from tests.records import run_record

ODD = (np.nan, np.inf, -np.inf)


def logits(fold=0, member="net", **changes):
    """Rows of six images in five views, a group each."""
    rows = [
        {
            "name": f"s/{fold}-{n}",
            "source": "s",
            "group": f"g{fold}-{n}",
            "label": n % 2,
            "fold": fold,
            "member": member,
            "view": view,
            "logit_0": float(n % 2),
            "box_x": 1.0,
            "box_y": 2.0,
            "box_w": 3.0,
            "box_h": 4.0,
        }
        for n in range(6)
        for view in VIEWS
    ]
    frame = pd.DataFrame(rows)
    for column, value in changes.items():
        frame.loc[7, column] = value
    return frame


@pytest.mark.parametrize("value", ODD)
def test_a_logit_that_is_not_finite_is_named(tmp_path, value):
    logits(logit_0=value).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(BusError, match=r"a\.parquet: 1 of 30 rows hold a logit that is not finite \(s/0-1, for one\)"):
        stored_logits.read(tmp_path / "a.parquet")


def test_every_logit_column_is_looked_at(tmp_path):
    logits().assign(logit_1=1.0, logit_2=[np.nan, *[0.0] * 29]).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(BusError, match="not finite"):
        stored_logits.read(tmp_path / "a.parquet")
    logits().assign(logit_1=["x", *["0.5"] * 29]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(BusError, match="not finite"):
        stored_logits.read(tmp_path / "b.parquet")


@pytest.mark.parametrize("column", ["name", "group", "label", "member", "view"])
def test_a_row_without_what_figures_need_is_said(tmp_path, column):
    logits().assign(**{column: lambda frame: frame[column].where(frame.index != 3)}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(BusError, match=f"rows without {column}"):
        stored_logits.read(tmp_path / "a.parquet")
    logits().drop(columns=column).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(BusError, match=f"no column {column}"):
        stored_logits.read(tmp_path / "b.parquet")


def test_whole_logits_come_back_as_they_are(tmp_path):
    frame = logits()
    frame.loc[:, ["box_x", "box_y", "box_w", "box_h"]] = np.nan
    frame.to_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(stored_logits.read(tmp_path / "a.parquet"), frame)
    (tmp_path / "b.parquet").write_bytes(b"PAR1")
    with pytest.raises(BusError, match="no Parquet file of logits"):
        stored_logits.read(tmp_path / "b.parquet")


@pytest.mark.parametrize("value", ODD)
def test_evaluate_makes_no_figure_of_it(tiny_ensemble, tmp_path, capsys, value):
    both = [logits(member=name) for name in ("test_efficientnet", "test_resnet")]
    whole = pd.concat(both, ignore_index=True)
    whole.to_parquet(tmp_path / "a.parquet")
    command = ["evaluate", "--ensemble", str(tiny_ensemble), "--oof", str(tmp_path / "a.parquet")]
    whole.loc[11, "logit_0"] = value
    whole.to_parquet(tmp_path / "a.parquet")
    assert main(command) == 2
    text = capsys.readouterr()
    assert "1 of 60 rows hold a logit that is not finite" in text.err
    assert text.out == ""


def _run(folder, fold, history="[]", record="", **changes):
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(record or json.dumps(run_record(architecture="net", fold=fold)))
    (folder / "history.json").write_text(history)
    logits(fold, **changes).to_parquet(folder / "out_of_fold.parquet")
    return folder


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"logit_0": np.nan}, "logit that is not finite"),
        ({"history": '[{"loss": NaN}]'}, r"history\.json: \[0\]\.loss is NaN; train the run again"),
        ({"history": '[{"loss": 1e999}]'}, r"history\.json: \[0\]\.loss is Infinity"),
        ({"record": json.dumps(run_record(fold=float("-inf")))}, r"run\.json: fold is -Infinity"),
    ],
)
def test_runs_of_which_one_diverged_are_not_joined(tmp_path, changes, word):
    runs = [_run(tmp_path / "0", 0), _run(tmp_path / "1", 1, **changes)]
    with pytest.raises(BusError, match=word):
        fold_report.join(runs, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_joined_logits_are_looked_at_again(tmp_path):
    fold_report.join([_run(tmp_path / "0", 0), _run(tmp_path / "1", 1)], tmp_path / "report")
    fold_report.stored(tmp_path / "report")
    logits(logit_0=np.inf).to_parquet(tmp_path / "report" / "out_of_fold.parquet")
    with pytest.raises(BusError, match="not finite"):
        fold_report.stored(tmp_path / "report")
    logits().to_parquet(tmp_path / "report" / "out_of_fold.parquet")
    (tmp_path / "report" / "training.json").write_text("[NaN]")
    with pytest.raises(BusError, match=r"training\.json: \[0\] is NaN"):
        fold_report.stored(tmp_path / "report")


def test_a_history_that_is_not_finite_is_refused(tmp_path):
    (tmp_path / "history.json").write_text('[{"loss": NaN}]')
    with pytest.raises(BusError, match=r"\[0\]\.loss is NaN"):
        history_of(str(tmp_path / "checkpoint"))
    (tmp_path / "history.json").write_text('[{"loss": 0.5}]')
    assert history_of(str(tmp_path / "checkpoint")) == [{"loss": 0.5}]


class _Case(NamedTuple):
    name: str


def _cases(*numbers) -> Any:
    return [_Case(f"s/0-{n}") for n in numbers]


@pytest.mark.parametrize(
    "changes",
    [
        {"box_x": np.inf},
        {"box_x": np.nan},
        {"box_h": np.nan},
        {"box_w": 0.0},
        {"box_h": -4.0},
        {"box_y": -np.inf},
    ],
)
def test_boxes_that_are_none_are_refused(tmp_path, changes):
    frame = logits()
    # Image 1, in every view.
    frame.loc[frame["name"] == "s/0-1", list(changes)] = list(changes.values())
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(BusError, match=r"the boxes of 1 images are not finite or have no area \(s/0-1"):
        read_boxes(tmp_path / "a.parquet", _cases(*range(6)))
    # Of images that nobody asks for, nothing is said.
    assert read_boxes(tmp_path / "a.parquet", _cases(0))["s/0-0"] == (1, 2, 3, 4)


def test_boxes_that_are_text_are_refused(tmp_path):
    logits().assign(box_x="left").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(BusError, match="no out-of-fold logits can be read"):
        read_boxes(tmp_path / "a.parquet", _cases(0))
