"""Trials from the command line: two tiny networks on phantoms of two sources, and the table in a log."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from bus_hf.cli import main
from bus_hf.data.phantoms import write_phantoms

ROOT = Path(__file__).resolve().parents[2]
BOXES = "boxes=trials/baseline/{source}.parquet"


def test_a_trial_and_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, source in enumerate(("one", "two")):
        write_phantoms(tmp_path / source, 9, seed)
    settings = yaml.safe_load((ROOT / "configs" / "trial.yaml").read_text())
    settings |= {"backbone": "test_resnet", "init": "random", "freeze": [], "input_size": 64, "epochs": 1}
    settings |= {
        "epoch_images": 16,
        "batch_size": 8,
        "folds": 3,
        "folds_from": None,
        "num_workers": 0,
        "drop_path_rate": 0.0,
    }
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "train_accelerate.py").symlink_to(ROOT / "train_accelerate.py")
    command = ["--data", "one", "two", "--sources", "one", "two", "--config", "trial.yaml"]
    assert main(["trials"]) == 2
    assert main(["trial", "baseline", *command]) == 0
    assert main(["trial", "wider", *command, "--set", "lesion_crop_prob=0.8", BOXES, "threads=1"]) == 0
    before = (tmp_path / "trials" / "wider" / "one.parquet").stat().st_mtime_ns
    assert main(["trial", "wider", *command, "--set", "lesion_crop_prob=0.8", BOXES, "threads=1"]) == 0
    assert (tmp_path / "trials" / "wider" / "one.parquet").stat().st_mtime_ns == before
    kept = yaml.safe_load((tmp_path / "trials" / "wider" / "two.yaml").read_text())
    assert (kept["lesion_crop_prob"], kept["train_sources"]) == (0.8, ["two"])
    assert kept["boxes"] == "trials/baseline/two.parquet"
    log = tmp_path / "LOG.md"
    log.write_text("x\n<!-- trials:start -->\n<!-- trials:end -->\n")
    capsys.readouterr()
    assert main(["trials", "--log", "LOG.md"]) == 0
    assert f"| wider | lesion_crop_prob=0.8, {BOXES} |" in log.read_text()
    capsys.readouterr()
    assert main(["trials", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["baseline", "wider"]
    assert set(rows[0]["auroc"]) == {"one > one", "one > two", "two > one", "two > two"}
    assert main(["trials", "--thresholds", "wider", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [row["read"] for row in read] == ["two", "one"]
    assert main(["trials", "--looks", "wider", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)][:2] == ["all views", "global views"]
    twin = pd.read_parquet(tmp_path / "trials" / "wider" / "one.parquet")["name"].iloc[0]
    (tmp_path / "trials" / "left_out.csv").write_text(f'name,why\n"{twin}",a copy\n')
    assert main(["trials", "--thresholds", "wider", "--json"]) == 0
    fewer = json.loads(capsys.readouterr().out)
    assert sum(row["n"] for row in fewer) == sum(row["n"] for row in read) - 1
    log.write_text("<!-- together:start -->\n<!-- together:end -->\n")
    assert main(["trials", "--together", "baseline+wider", "--log", "LOG.md"]) == 0
    assert [line.split("|")[1].strip() for line in log.read_text().splitlines()[3:-1]] == [
        "baseline",
        "wider",
        "baseline + wider",
    ]
    capsys.readouterr()
    assert main(["trials", "--together", "baseline+wider", "--looks", "wider"]) == 2
    assert "trials takes one of --looks, --thresholds" in capsys.readouterr().err
    assert main(["trials", "--repeats", "baseline", "baseline+wider", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["baseline", "baseline and wider"]
    log.write_text("<!-- tries:start -->\n<!-- tries:end -->\n")
    assert main(["trials", "--repeats", "baseline", "wider", "--log", "LOG.md", "--marker", "tries"]) == 0
    assert "| wider |" in log.read_text()
    capsys.readouterr()
    assert main(["trials", "--heat", "wider", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["on_lesions"]["one > two"]["all"]["box_iou"]["value"] >= 0
    assert main(["trials", "--heat", "wider"]) == 0
    assert "| wider | one > two |" in capsys.readouterr().out
    assert main(["trials", "--votes", "baseline+wider", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)][:2] == ["equal votes", "by separation, power 1"]
    assert main(["trials", "--together", "baseline+none"]) == 2
    assert "no finished trial 'none'" in capsys.readouterr().err
    assert main(["trials", "--thresholds", "none"]) == 2
    assert "no finished trial 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["trial", "a/b", "--data", "x"],
        ["trial", "ok", "--data", "x", "--set", "y"],
        ["trial", "ok", "--data", "x", "--set", "epochs=2", "seed=1", "epochs=3"],
    ],
)
def test_wrong_trials_are_refused_before_anything_is_trained(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1
