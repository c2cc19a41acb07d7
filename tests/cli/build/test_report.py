"""Runs of a network once a fold, of three classes and of two, to a report and back."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bus_hf.cli import main
from bus_hf.config import TrainConfig
from bus_hf.data.phantoms import write_phantoms
from bus_hf.training.run import run
from bus_hf.views import VIEW_WEIGHTS


def trained(data, folder, fold, **changes):
    """Train one tiny network that leaves out `fold` into folder/f<fold>."""
    settings = {"backbone": "test_resnet", "init": "random", "input_size": 64, "epochs": 1, "batch_size": 8}
    settings |= {"drop_path_rate": 0.0, "num_workers": 0, "trackers": (), "logging_dir": str(folder / "logs")}
    run(TrainConfig(**(settings | changes), data=(str(data),), output=str(folder / f"f{fold}"), fold=fold))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    write_phantoms(folder / "data", 10, 0)
    for fold in range(3):
        trained(folder / "data", folder, fold, label_set="busi3", folds=3)
    return folder


def test_every_image_is_read_once_and_the_report_comes_again(runs, tmp_path, capsys):
    to = tmp_path / "busi3"
    assert main(["build", "report", *(str(runs / f"f{fold}") for fold in range(3)), "--to", str(to)]) == 0
    capsys.readouterr()
    before = (to / "report.json").read_bytes(), (to / "README.md").read_bytes()
    assert main(["build", "report", "--again", str(to), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["all"]["n"] == 30
    assert ((to / "report.json").read_bytes(), (to / "README.md").read_bytes()) == before
    # A figure that was published for BUSI stands beside BUSI alone.
    assert "Published beside it" not in before[1].decode()
    assert (to / "confusion_matrix.png").stat().st_size > 5000
    assert main(["build", "report", "--again", str(to), "--readme", str(to / "README.md")]) == 2
    assert "no such sentence" in capsys.readouterr().err


def test_what_is_no_set_of_folds_is_refused(runs, tmp_path, capsys):
    shutil.copytree(runs / "f0", tmp_path / "again")
    for arguments, sentence in (
        ([str(runs / "f0"), str(tmp_path / "again"), "--to", str(tmp_path / "x")], "held out the same group"),
        ([str(tmp_path), "--to", str(tmp_path / "x")], "not finished"),
        ([str(runs / "f0")], "either RUN"),
        (["--again", str(tmp_path)], "no report here"),
    ):
        assert main(["build", "report", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_member_trained_once_a_fold_is_measured_over_all_images(runs, tmp_path, capsys):
    for fold in range(2):
        trained(runs / "data", tmp_path, fold, folds=2)
    to = tmp_path / "report"
    capsys.readouterr()
    assert main(["build", "report", str(tmp_path / "f0"), str(tmp_path / "f1"), "--to", str(to), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    frame = pd.read_parquet(to / "out_of_fold.parquet")
    weighted = frame["logit_0"] * frame["view"].map(VIEW_WEIGHTS)
    images = frame.assign(logit=weighted).groupby("name").agg({"logit": "sum", "label": "first", "fold": "first"})
    assert result["pooled"]["all"]["n"] == len(images) == 30
    whole = roc_auc_score(images["label"], images["logit"])
    assert result["pooled"]["all"]["auroc"]["value"] == pytest.approx(whole, abs=1e-6)
    by_fold = [roc_auc_score(part["label"], part["logit"]) for _, part in images.groupby("fold")]
    assert list(result["folds"]["all"]["auroc"].values()) == pytest.approx(by_fold, abs=1e-6)
    assert result["folds"]["all"]["sd"] == pytest.approx(np.std(by_fold, ddof=1), abs=1e-5)
    before = (to / "README.md").read_text()
    assert f"| 1 | {by_fold[1]:.3f} |" in before
    assert main(["build", "report", "--again", str(to)]) == 0
    assert (to / "README.md").read_text() == before
    readme = tmp_path / "README.md"
    readme.write_text("<!-- folds:start -->\n<!-- folds:end -->\n")
    name = images.index[0]
    (to / "left_out.csv").write_text(f'name,why\n"{name}",a copy\n')
    assert main(["build", "report", "--again", str(to), "--readme", str(readme)]) == 0
    kept = images.drop(name)
    first = roc_auc_score(*(kept.loc[kept["fold"] == 0, column] for column in ("label", "logit")))
    assert f"AUROC on fold 0 against that of all folds (mean ± sd) {first:.3f} against" in readme.read_text()
    assert f"Excluded: {name} (a copy)." in (to / "README.md").read_text()
    result = json.loads((to / "report.json").read_text())
    assert (result["pooled"]["all"]["n"], result["left_out"]) == (29, {name: "a copy"})
    (to / "left_out.csv").write_text("image\nx\n")
    capsys.readouterr()
    assert main(["build", "report", "--again", str(to)]) == 2
    assert "give a CSV file with the columns name and why" in capsys.readouterr().err
    # Two runs of different settings are not one network.
    trained(runs / "data", tmp_path / "other", 1, folds=2, lr=0.01)
    assert (
        main(["build", "report", str(tmp_path / "f0"), str(tmp_path / "other" / "f1"), "--to", str(tmp_path / "x")])
        == 2
    )
    assert "the runs differ in lr" in capsys.readouterr().err
    assert main(["build", "report", str(tmp_path / "f0"), str(runs / "f1"), "--to", str(tmp_path / "x")]) == 2
    assert "the runs differ in label_set" in capsys.readouterr().err
