"""Runs of three classes, fold by fold, to a report and back."""

import json
import shutil
from dataclasses import replace

import pytest

from bus_hf.cli import main
from bus_hf.config import TrainConfig
from bus_hf.data.phantoms import write_phantoms
from bus_hf.training.run import run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    write_phantoms(folder / "data", 10, 0)
    config = TrainConfig(
        data=(str(folder / "data"),),
        output=str(folder / "f0"),
        logging_dir=str(folder / "logs"),
        label_set="busi3",
        backbone="test_resnet",
        init="random",
        input_size=64,
        epochs=1,
        batch_size=8,
        folds=3,
        drop_path_rate=0.0,
        num_workers=0,
        trackers=(),
    )
    for fold in range(3):
        run(replace(config, fold=fold, output=str(folder / f"f{fold}")))
    return folder


def test_every_image_is_read_once_and_the_report_comes_again(runs, tmp_path, capsys):
    to = tmp_path / "busi3"
    assert main(["classes", *(str(runs / f"f{fold}") for fold in range(3)), "--to", str(to)]) == 0
    capsys.readouterr()
    before = (to / "report.json").read_bytes(), (to / "README.md").read_bytes()
    assert main(["classes", "--again", str(to), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["all"]["n"] == 30
    assert ((to / "report.json").read_bytes(), (to / "README.md").read_bytes()) == before
    assert "0.802 ± 0.018" in before[1].decode()
    assert (to / "confusion_matrix.png").stat().st_size > 5000


def test_what_is_no_set_of_folds_is_refused(runs, tmp_path, capsys):
    shutil.copytree(runs / "f0", tmp_path / "again")
    for arguments, sentence in (
        ([str(runs / "f0"), str(tmp_path / "again"), "--to", str(tmp_path / "x")], "held out the same group"),
        ([str(tmp_path), "--to", str(tmp_path / "x")], "not finished"),
        ([str(runs / "f0")], "either RUN"),
        (["--again", str(tmp_path)], "no report here"),
    ):
        assert main(["classes", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
