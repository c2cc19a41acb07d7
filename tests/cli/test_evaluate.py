"""`bus-hf evaluate`: the metrics of what predict answers, and of stored logits."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from bus_hf.cli import main
from bus_hf.data.phantoms import write_phantoms


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Labelled phantoms, enough of each class for metrics, with one contradicting pair."""
    folder = tmp_path_factory.mktemp("collection") / "hospital-b"
    write_phantoms(folder, 12, seed=5)
    source = next(path for path in sorted((folder / "benign").iterdir()) if "_mask" not in path.stem)
    shutil.copy(source, folder / "malignant" / "copy.png")
    return folder


def test_evaluate_measures_what_predict_says(tiny_ensemble, collection, tmp_path, capsys):
    plots = tmp_path / "plots"
    flags = ["--ensemble", str(tiny_ensemble), "--json", "--plots", str(plots)]
    assert main(["evaluate", str(collection), *flags]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    # 36 phantoms; the copied one and its twin contradict each other.
    assert "2 images are excluded: 1 patients, lesions or sets of near-duplicates have both labels" in err
    assert (result["overall"]["n"], result["overall"]["n_malignant"]) == (35, 12)
    assert list(result["by_source"]) == ["hospital-b", "hospital-b without normals"]
    assert sorted(path.name for path in plots.iterdir()) == [
        "confusion_matrix.png",
        "decision_curve.png",
        "reliability.png",
        "roc_curve.png",
    ]
    paths = [path for path in sorted(collection.glob("*/*.png")) if "_mask" not in path.stem and path.stem != "copy"]
    twin = sorted(path for path in (collection / "benign").iterdir() if "_mask" not in path.stem)[0]
    assert main(["predict", *map(str, paths), *flags[:3]]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kept = [row for row in rows if row["name"] != str(twin)]
    labels = np.array([Path(row["name"]).parent.name == "malignant" for row in kept])
    chances = np.array([row["probability"] for row in kept])
    assert len(kept) == 35
    assert result["overall"]["brier"]["value"] == pytest.approx(float(np.mean((chances - labels) ** 2)), abs=1e-5)
    point = result["operating_points"][0]
    called = chances >= point["threshold"]
    assert point["sensitivity"]["value"] == pytest.approx(called[labels].mean(), abs=1e-5)
    assert point["specificity"]["value"] == pytest.approx(1 - called[~labels].mean(), abs=1e-5)


def test_evaluate_prints_tables_and_tells_of_unreadable_images(tiny_ensemble, collection, tmp_path, capsys):
    copy = tmp_path / "hospital-c"
    shutil.copytree(collection, copy)
    cv2.imwrite(str(copy / "normal" / "black.png"), np.zeros((64, 64), np.uint8))
    assert main(["evaluate", str(copy), "--ensemble", str(tiny_ensemble), "--keep-conflicts"]) == 1
    out, err = capsys.readouterr()
    assert "| hospital-c |" in out
    assert "| miss_5_in_100 | 0.300 |" in out
    assert "black.png" in err
    assert "contradicting" not in err


@pytest.mark.parametrize("arguments", [[], ["DATA", "--oof", "x.parquet"], ["--oof", "gone.parquet"]])
def test_wrong_use_of_evaluate_is_one_sentence(arguments, capsys):
    assert main(["evaluate", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_evaluate_of_stored_logits_gives_the_figures_of_the_report(assembled, capsys):
    assert main(["evaluate", "--oof", str(assembled), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    stored = json.loads((assembled / "report.json").read_text())
    assert result["overall"]["auroc"] == stored["overall"]["auroc"]
    assert result["overall"]["n"] == 80
    assert main(["evaluate", "--oof", str(assembled / "out_of_fold.parquet")]) == 0
    assert "| busbra |" in capsys.readouterr().out


@pytest.mark.parametrize(
    "lacking",
    [
        ("mask_x", "mask_y", "mask_w", "mask_h"),
        ("box_x", "box_y", "box_w", "box_h"),
        ("pointing_hit",),
        ("height", "width", "birads", "device", "histology"),
        ("source", "pathology"),
        (),
    ],
)
def test_evaluate_of_logits_alone_gives_what_they_say(assembled, tmp_path, capsys, lacking):
    frame = pd.read_parquet(assembled / "out_of_fold.parquet")
    keep = ["name", "group", "label", "member", "view", "logit_0"]
    (frame.drop(columns=list(lacking)) if lacking else frame[keep]).to_parquet(tmp_path / "logits.parquet")
    arguments = ["evaluate", "--oof", str(tmp_path / "logits.parquet"), "--ensemble", str(assembled)]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    stored = json.loads((assembled / "report.json").read_text())
    assert result["overall"] == {key: value for key, value in stored["overall"].items() if key in result["overall"]}
    if set(lacking) & {"mask_w", "box_w", "pointing_hit"} or not lacking:
        assert all("all" not in row for rows in result["heat_maps"].values() for row in rows.values())
    assert set(result["by_source"]) == ({"unknown"} if "source" in lacking or not lacking else set(stored["by_source"]))
    assert main(arguments) == 0


def test_evaluate_of_another_ensembles_logits_is_one_sentence(tiny_ensemble, assembled, capsys):
    # The ensemble has a second member, of which there are no logits.
    assert main(["evaluate", "--oof", str(assembled), "--ensemble", str(tiny_ensemble)]) == 2
    assert "members and views" in capsys.readouterr().err
