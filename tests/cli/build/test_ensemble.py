"""From one file of members to an ensemble folder: what is run, what is left alone, what is refused."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState

from bus_hf.cli import main
from bus_hf.cli.build.plan import read_plan
from bus_hf.config import TrainConfig, from_yaml, to_mapping
from bus_hf.data.phantoms import write_phantoms
from bus_hf.ensemble.folder import read_manifest
from bus_hf.errors import BusError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def planned(tmp_path):
    """A plan of two tiny members; the second reads the boxes of the first and goes on from a start."""
    common = {"init": "random", "input_size": 64, "epochs": 1, "batch_size": 16, "folds": 3, "drop_path_rate": 0.0}
    common |= {"num_workers": 0, "trackers": []}
    first = common | {"backbone": "test_efficientnet", "output": str(tmp_path / "runs" / "one")}
    boxes = str(tmp_path / "runs" / "one" / "out_of_fold.parquet")
    start = common | {"backbone": "test_resnet", "output": str(tmp_path / "runs" / "start")}
    begun = str(tmp_path / "runs" / "start" / "checkpoint")
    second = start | {"output": str(tmp_path / "runs" / "two"), "boxes": boxes, "init_from": begun}
    for name, values in (("start", start), ("one", first), ("two", second)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
    plan = {"starts": ["start.yaml"], "members": ["one.yaml", "two.yaml"], "to": str(tmp_path / "made")}
    plan |= {"name": "tiny", "version": "0.1.0"}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    return tmp_path / "plan.yaml"


@pytest.fixture
def launched_here(monkeypatch):
    """Trainings run in this process, by the arguments that accelerate launch would hand on."""

    def launch(command, check):
        status = main(command[command.index("train") :])
        AcceleratorState._reset_state(reset_partial_state=True)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(subprocess, "run", launch)


def test_one_command_trains_assembles_and_does_nothing_twice(planned, tmp_path, monkeypatch, capfd, launched_here):
    monkeypatch.chdir(ROOT)
    write_phantoms(tmp_path / "data", 33, 0)
    command = ["build", "ensemble", str(planned), "--data", str(tmp_path / "data")]
    assert main([*command, "--dry-run"]) == 0
    assert not (tmp_path / "runs").exists()
    assert main(command) == 0
    manifest = read_manifest(tmp_path / "made")
    assert [member.name for member in manifest.members] == ["test_efficientnet", "test_resnet"]
    assert (manifest.name, manifest.version) == ("tiny", "0.1.0")
    training = json.loads((tmp_path / "made" / "training.json").read_text())
    assert training["test_resnet"]["start"]["earlier_run"]["epochs"] == 1
    card = (tmp_path / "made" / "test_resnet" / "README.md").read_text()
    assert "Trained on from the last weights of that run" in card
    assert "first 1 epochs at 64 pixels" in card
    before = (tmp_path / "runs" / "two" / "run.json").stat().st_mtime_ns
    capfd.readouterr()
    assert main(command) == 0
    assert capfd.readouterr().err.count("finished before") == 3
    assert (tmp_path / "runs" / "two" / "run.json").stat().st_mtime_ns == before


def test_a_training_that_fails_stops_before_assembling(planned, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(ROOT)
    assert main(["build", "ensemble", str(planned), "--data", str(tmp_path / "nothing")]) == 1
    errors = capfd.readouterr().err
    assert "the same command goes on" in errors
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"members": None}, "starts or members is no list"),
        ({"starts": ["none.yaml"]}, "no such training config"),
        ({"members": ["none.yaml"]}, "no such training config"),
        ({"extra": 1}, "nothing else"),
    ],
)
def test_a_wrong_plan_is_one_sentence(planned, change, sentence):
    planned.write_text(yaml.safe_dump(yaml.safe_load(planned.read_text()) | change))
    with pytest.raises(BusError, match=sentence):
        read_plan(planned)
    assert main(["build", "ensemble", str(planned), "--data", "x"]) == 2


def test_shipped_plan_names_the_five_and_the_light_member_and_shares_a_split():
    plan = read_plan(ROOT / "configs" / "ensemble.yaml")
    # A start is trained before the members; what it learns from has to be there by then.
    assert plan.starts[0] == plan.members[0]
    starts, members = ([from_yaml(config) for config in configs] for configs in (plan.starts, plan.members))
    five = {"efficientnet_b0", "efficientnet_b1", "resnet50", "densenet121", "convnext_tiny"}
    assert {config.backbone for config in members} == five | {"tf_efficientnet_lite0"}
    default = to_mapping(TrainConfig())
    for config in (*starts, *members):
        for key in ("folds", "fold", "split_seed", "near_duplicates", "set_apart", "train_sources", "label_set"):
            assert to_mapping(config)[key] == default[key], f"{config.backbone}: {key}"
    light = members[0]
    assert all(config.boxes == f"{light.output}/out_of_fold.parquet" for config in members[1:])
    runs = {*plan.starts, *plan.members}
    assert len({from_yaml(config).output for config in runs}) == len(runs)
    assert plan.lesion_type is not None
    assert from_yaml(plan.lesion_type).label_set == "histology"
    made = {f"{config.output}/checkpoint": config.backbone for config in starts}
    for config in (*starts, *members):
        if config.init_from and config.init_from.startswith("runs/"):
            assert made[config.init_from] == config.backbone
        assert config.teacher in (None, f"{light.output}/checkpoint")


def test_assemble_makes_an_ensemble_that_predict_reads(assembled, scans, capsys):
    assert main(["predict", str(scans / "a.png"), "--ensemble", str(assembled), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["members"]) == ["test_efficientnet"]
    manifest = json.loads((assembled / "ensemble.json").read_text())
    assert (manifest["name"], manifest["version"]) == ("mine", "2.0.0")


def test_assemble_of_an_unfinished_run_is_one_sentence(tmp_path, capsys):
    assert main(["build", "ensemble", str(tmp_path), "--to", str(tmp_path / "ensemble")]) == 2
    err = capsys.readouterr().err.strip()
    assert "run.json" in err
    assert len(err.splitlines()) == 1
    assert main(["build", "ensemble", str(tmp_path), "--to", "x", "--weight", "resnet50"]) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["runs/one"], "give it with --to"),
        (["runs/one", "--to", "x", "--data", "y"], "--data and --dry-run are for a YAML file"),
        (["runs/one", "--to", "x", "--dry-run"], "--data and --dry-run are for a YAML file"),
        (["plan.yaml"], "there is nothing to train on; give --data"),
        (["plan.yaml", "--data", "y", "--weight", "resnet50=2"], "--weight and --lesion-type are for finished runs"),
        (["gone.yaml", "--data", "y"], "no YAML file can be read here"),
    ],
)
def test_runs_and_a_file_of_configs_are_told_apart(planned, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(planned.parent)
    assert main(["build", "ensemble", *arguments]) == 2
    (text,) = capsys.readouterr().err.splitlines()
    assert sentence in text
