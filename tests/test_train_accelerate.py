"""The command line of training: flags, the end of a run in words, Ctrl-C, and what cannot be written."""

import os
import shlex
import signal
import time
from pathlib import Path

import pytest

import train_accelerate
from bus_hf.cli import main
from bus_hf.config import TrainConfig
from bus_hf.data.phantoms import write_phantoms
from bus_hf.training import run as training
from tests.programs import start

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def flags(tmp_path):
    write_phantoms(tmp_path / "data", 12, 0)
    return [
        *("--data", str(tmp_path / "data"), "--backbone", "test_resnet", "--init", "random", "--input_size", "64"),
        *("--epochs", "1", "--batch_size", "8", "--folds", "3", "--num_workers", "0", "--trackers"),
        *("--drop_path_rate", "0", "--output", str(tmp_path / "run")),
    ]


@pytest.fixture(autouse=True)
def new_accelerate():
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_list_flag_that_is_given_twice_is_joined(monkeypatch):
    seen = []
    monkeypatch.setattr("bus_hf.training.each_source.train", lambda config: seen.append(config) or Path("nowhere"))
    assert train_accelerate.main(["--data", "a", "--data", "b", "c", "--trackers"]) == 0
    assert (seen[0].data, seen[0].trackers) == (("a", "b", "c"), ())


@pytest.mark.parametrize(("label_set", "made"), [("malignancy", "ensemble.json"), ("busi3", "report.json")])
def test_a_run_ends_with_the_command_that_goes_on(flags, tmp_path, monkeypatch, capsys, label_set, made):
    assert train_accelerate.main([*flags, "--label_set", label_set]) == 0
    message = capsys.readouterr().out
    assert f"written: {tmp_path / 'run'}: checkpoint/" in message
    (line,) = [line for line in message.splitlines() if line.startswith("next: ")]
    command = shlex.split(line.removeprefix("next: ").partition("   ")[0])
    assert command[0] == "bus-hf"
    asked = []
    monkeypatch.setattr("bus_hf.build.assemble.assemble", lambda runs, to, **_: asked.append((runs, to)))
    monkeypatch.setattr("bus_hf.build.readme.readme_metrics", lambda folder: "")
    monkeypatch.chdir(tmp_path)
    assert main(command[1:]) == 0
    if label_set == "malignancy":
        # Whether so few images make an ensemble is for assemble to say.
        assert asked == [([tmp_path / "run"], Path("my_ensemble"))]
    else:
        assert (tmp_path / "reports" / "run" / made).is_file()


def test_the_run_whose_boxes_were_taken_comes_first(tmp_path):
    message = training._what_next(TrainConfig(output="runs/b c", boxes="runs/light/out_of_fold.parquet"))
    assert "next: bus-hf build ensemble runs/light 'runs/b c' --to my_ensemble " in message


@pytest.mark.parametrize("epochs", [0, 1])
def test_ctrl_c_says_what_is_kept(flags, tmp_path, epochs):
    state = tmp_path / "run" / "state" / "progress.json"
    # A group of its own, as a shell gives it.
    code = "import os, sys; os.setsid(); from train_accelerate import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["-c", code, *flags, "--epochs", "1000", "--num_workers", "2"]
    printed = tmp_path / "printed"
    process = start(arguments, os.environ | {"PYTHONPATH": str(ROOT)}, ROOT, printed, printed)
    deadline = time.monotonic() + 120
    wanted = state if epochs else tmp_path / "run" / "config.yaml"
    while not wanted.is_file() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    # A terminal sends it to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    process.join(60)
    message = printed.read_text()
    assert process.exitcode == 130, message
    assert "Traceback" not in message
    sentence = f"{tmp_path / 'run'} keeps" if epochs else "stopped before an epoch was whole"
    assert sentence in message


@pytest.mark.parametrize("flag", ["--output", "--logging_dir"])
def test_a_place_that_cannot_be_written_is_one_sentence(flags, tmp_path, capsys, flag):
    (tmp_path / "file").write_text("")
    assert train_accelerate.main([*flags, "--trackers", "tensorboard", flag, str(tmp_path / "file" / "x")]) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / "file") in message
    assert "cannot be" in message
    assert "Traceback" not in message


def test_a_disk_that_is_full_keeps_the_state_before(flags, tmp_path, capsys, monkeypatch):
    from accelerate import Accelerator

    assert train_accelerate.main([*flags, "--epochs", "3", "--max_epochs_now", "1"]) == 0

    def full(self, folder):
        Path(folder).mkdir()
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(Accelerator, "save_state", full)
    assert train_accelerate.main([*flags, "--epochs", "3"]) == 2
    assert "the state after epoch 2 cannot be written (No space left on device)" in capsys.readouterr().err
    monkeypatch.undo()
    assert train_accelerate.main([*flags, "--epochs", "3"]) == 0
    assert "going on after epoch 1 of 3" in capsys.readouterr().out
