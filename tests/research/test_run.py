"""Trials from the command line: two tiny networks on phantoms of two sources, and their tables."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from accelerate.state import AcceleratorState

import train_accelerate
from bus_hf.data.phantoms import write_phantoms
from research.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
BOXES = "boxes=research/trials/baseline/{source}.parquet"
TABLES = {
    "trials": {"kind": "seeds", "sets": ["baseline", "wider"]},
    "seeds": {"kind": "seeds", "sets": ["baseline", "baseline + wider"]},
    "pooled": {"kind": "pooled", "sets": ["baseline", "wider", "baseline + wider"]},
    "views": {"kind": "views", "sets": ["wider"]},
    "thresholds": {"kind": "thresholds", "sets": ["wider"]},
    "heat_maps": {"kind": "heat_maps", "sets": ["wider"]},
    "weights": {"kind": "weights", "sets": ["baseline + wider"]},
}


def trained(command, check):
    """What the command trains, in this process."""
    script = command.index("train_accelerate.py")
    try:
        return subprocess.CompletedProcess(command, train_accelerate.main(command[script + 1 :]))
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_a_trial_and_its_tables(tmp_path, monkeypatch, capsys, blank_plots):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", trained)
    for seed, source in enumerate(("one", "two")):
        write_phantoms(tmp_path / source, 9, seed)
    settings = yaml.safe_load((ROOT / "research" / "trial.yaml").read_text())
    settings |= {"backbone": "test_resnet", "init": "random", "freeze": [], "input_size": 64, "epochs": 1}
    settings |= {"epoch_images": 16, "batch_size": 8, "folds": 3, "folds_from": None, "num_workers": 0}
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(settings | {"drop_path_rate": 0.0}))
    (tmp_path / "train_accelerate.py").symlink_to(ROOT / "train_accelerate.py")
    home = tmp_path / "research"
    home.mkdir()
    (home / "tables.yaml").write_text(yaml.safe_dump({"tables": TABLES}))
    tables = ["tables", "--home", "research"]
    assert main(tables) == 2
    assert "no finished trial" in capsys.readouterr().err
    command = ["--data", "one", "two", "--sources", "one", "two", "--config", "trial.yaml", "--to", "research/trials"]
    with blank_plots():
        assert main(["run", "baseline", *command]) == 0
    changes = ["--set", "lesion_crop_prob=0.8", BOXES, "threads=1"]
    with blank_plots():
        assert main(["run", "wider", *command, *changes]) == 0
    stored = home / "trials" / "wider"
    before = (stored / "one.parquet").stat().st_mtime_ns
    assert main(["run", "wider", *command, *changes]) == 0
    assert (stored / "one.parquet").stat().st_mtime_ns == before
    config = yaml.safe_load((stored / "two.yaml").read_text())
    assert (config["lesion_crop_prob"], config["train_sources"]) == (0.8, ["two"])
    assert config["boxes"] == "research/trials/baseline/two.parquet"

    assert main(tables) == 0
    made = {name: pd.read_csv(home / "tables" / f"{name}.csv") for name in TABLES}
    assert made["trials"]["change"].tolist() == ["none", f"lesion_crop_prob=0.8, {BOXES}"]
    assert {"one > one", "one > two", "two > one", "two > two", "mean low", "gain high"} <= set(made["trials"])
    assert made["pooled"]["name"].tolist() == TABLES["pooled"]["sets"]
    assert made["views"]["name"].tolist()[:2] == ["all views", "global views"]
    assert made["thresholds"]["measured"].tolist() == ["two", "one"]
    assert made["heat_maps"]["box iou"].between(0, 1).all()
    assert made["weights"]["name"].tolist()[:2] == ["equal weights", "by d', power 1"]
    assert all((frame["logits"] == "stored").all() for frame in made.values())

    twin = pd.read_parquet(stored / "one.parquet")["name"].iloc[0]
    (home / "trials" / "left_out.csv").write_text(f'name,why\n"{twin}",a copy\n')
    assert main([*tables, "thresholds"]) == 0
    assert pd.read_csv(home / "tables" / "thresholds.csv")["n"].sum() == made["thresholds"]["n"].sum() - 1


def test_sources_are_left_out_instead_where_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = []

    def finished(command, check):
        commands.append(command)
        output = Path(command[command.index("--output") + 1])
        output.mkdir(parents=True)
        for name in ("config.yaml", "out_of_fold.parquet"):
            (output / name).write_text("stored")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", finished)
    arguments = ["run", "base", "--left-out", "--data", "x", "--sources", "one", "two", "--to", "trials"]
    assert main([*arguments, "--set", "seed=1"]) == 0
    assert [command[command.index("--hold_out") + 1] for command in commands] == ["one", "two"]
    assert all("--train_sources" not in command for command in commands)
    stored = {path.name for path in Path("trials/base").iterdir()}
    assert stored >= {"without_one.parquet", "without_two.yaml", "change.txt"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a/b", "--data", "x"], "'a/b' is no name of a trial"),
        (["ok", "--data", "x", "--set", "y"], "a change has no value"),
        (["ok", "--data", "x", "--set", "epochs=2", "seed=1", "epochs=3"], "epochs is given twice"),
    ],
)
def test_wrong_trials_are_refused_before_anything_is_trained(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", *arguments]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
