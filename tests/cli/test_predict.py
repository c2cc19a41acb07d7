"""`bus-hf predict`: lines, JSON, tables and heat maps of images and folders."""

import csv
import json
import math
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from bus_hf.cli import main
from bus_hf.reporting import sentences


def test_the_ensemble_is_that_of_the_page(monkeypatch, tmp_path, capsys, scans):
    monkeypatch.setenv("BUS_HF_ENSEMBLE", str(tmp_path / "named-by-the-environment"))
    assert main(["predict", str(scans)]) == 2
    assert "named-by-the-environment" in capsys.readouterr().err


def test_predict_reads_a_folder_without_masks_and_hidden_files(predict, scans, capsys):
    assert predict(scans) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, name in zip(lines, ("a.png", "b.png", "deep/c.png"), strict=True):
        assert str(scans / name) in line
        assert "%" in line


def test_predict_prints_json_lines(predict, scans, capsys):
    assert predict(scans, "--json", "--operating-point", "balanced") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [str(scans / name) for name in ("a.png", "b.png", "deep/c.png")]
    assert {row["operating_point"] for row in rows} == {"balanced"}
    for row in rows:
        assert (row["prediction"] == "Malignant") == (row["probability"] >= 0.5)
        assert set(row["views"]) == {"whole", "flip", "wider", "lesion", "around"}


def test_predict_says_one_of_the_pages_three_verdicts_and_what_was_measured(predict, scans, tmp_path, capsys):
    table = tmp_path / "table.csv"
    assert predict(scans, "--csv", table) == 0
    out, err = capsys.readouterr()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    verdicts = {sentences.UNSURE, sentences.SUSPICIOUS, sentences.CLEAR}
    for line, row in zip(out.splitlines(), rows, strict=True):
        assert row["verdict"] in verdicts
        assert line.startswith(row["verdict"])
        assert sentences.percent(float(row["probability"])) in line
    assert "suspicious from 30 % on" in err
    assert "catches 95 in 100 cancers and clears 70 in 100 others among the images it was measured on" in err


@pytest.mark.parametrize("logit", [-50.0, 50.0])
def test_predict_is_never_certain(predict, scans, monkeypatch, capsys, logit):
    from bus_hf.inference import detector

    chance = 1 / (1 + math.exp(-logit))
    monkeypatch.setattr(
        detector, "class_probabilities", lambda logits: np.broadcast_to([1 - chance, chance], (*logits.shape[:-1], 2))
    )
    assert predict(scans / "a.png") == 0
    out, err = capsys.readouterr()
    assert ("over 99 %" if logit > 0 else "under 1 %") in out
    assert not re.search(r"\b(0|100)(\.0+)? ?%", out + err)


def test_a_name_forges_neither_a_line_nor_a_formula(predict, scans, tmp_path, monkeypatch, capsys):
    shutil.copy(scans / "a.png", tmp_path / "=1+1\nMalignant  99 %.png")
    monkeypatch.chdir(tmp_path)
    assert predict("=1+1\nMalignant  99 %.png", "--csv", "table.csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    with open("table.csv", newline="") as file:
        assert next(csv.DictReader(file))["name"].startswith("'=1+1")


def test_predict_goes_on_after_a_bad_file(predict, scans, tmp_path, capsys):
    bad, table = tmp_path / "bad.png", tmp_path / "table.csv"
    bad.write_text("no image")
    assert predict(scans / "a.png", bad, tmp_path / "gone.png", scans / "b.png", "--json", "--csv", table) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in row for row in rows] == [False, True, True, False]
    assert str(bad) in rows[1]["error"]
    with table.open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["name"] for row in written] == [row["name"] for row in rows]
    assert float(written[0]["probability"]) == rows[0]["probability"]
    assert [written[0][f"box_{side}"] for side in "xywh"] == (
        ["", "", "", ""] if rows[0]["box"] is None else [str(value) for value in rows[0]["box"]]
    )
    assert written[1]["error"] == rows[1]["error"]


def test_a_file_that_is_no_image_is_told_on_stderr_alone(predict, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_text("no image")
    assert predict(bad) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert str(bad) in err
    assert "1 failed" in err
    assert "Traceback" not in err


def test_an_empty_folder_is_a_failed_input(predict, scans, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert predict(tmp_path / "empty", scans / "a.png") == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "holds no images" in err
    assert predict(tmp_path / "empty") == 1


def test_a_file_named_twice_is_read_once(predict, scans, capsys):
    assert predict(scans / "deep", scans / "deep" / "c.png", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_given_box_replaces_the_found_one(predict, scans, capsys):
    assert predict(scans / "a.png", "--roi", "20,30,60,40", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert row["box"] == [20, 30, 60, 40]
    assert row["box_source"] == "given"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--roi", "5000,5000,10,10"], "inside"),
        (["--operating-point", "nonsense"], "miss_5_in_100"),
        (["--csv", "/nowhere/at/all.csv"], "all.csv"),
    ],
)
def test_wrong_use_of_predict_is_one_sentence(predict, scans, arguments, word, capsys):
    assert predict(scans / "a.png", *arguments) == 2
    err = capsys.readouterr().err.strip()
    assert word in err
    assert len(err.splitlines()) == 1


def test_a_box_is_for_one_image(predict, scans, capsys):
    assert predict(scans, "--roi", "1,2,30,40") == 2
    assert "exactly one" in capsys.readouterr().err


def test_the_light_member_runs_alone(predict, scans, capsys):
    assert predict(scans / "a.png", "--json", "--light") == 0
    assert list(json.loads(capsys.readouterr().out)["members"]) == ["test_efficientnet"]


def test_heat_maps_of_equal_names_do_not_overwrite_each_other(predict, scans, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(scans / "b.png", other / "a.png")
    heat = other / "heat"
    for _ in range(2):
        # The second call must not read the heat maps of the first.
        assert predict(scans / "a.png", other, "--heatmap", heat, "--json") == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [Path(row["heatmap"]).name for row in rows] == ["a_heatmap.png", "a_heatmap_2.png"]
    images = [cv2.imread(row["heatmap"]) for row in rows]
    assert [image.shape[:2] for image in images] == [tuple(row["shape"]) for row in rows]
    assert not np.array_equal(images[0], images[1])
