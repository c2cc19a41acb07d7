"""How a run is started: what launchers ask for is done, or a sentence says that it is not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bus_hf.config import to_mapping
from bus_hf.errors import BusError
from bus_hf.training.launch import accelerator_for
from bus_hf.training.run import run

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def launched(launcher, config, path):
    path.write_text(yaml.safe_dump(to_mapping(config)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    command = [sys.executable, *launcher, "train_accelerate.py", "--config", str(path)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_torchrun_on_a_cpu_is_one_run_and_its_refusal_ends_every_process(tiny, tmp_path):
    done = launched(TORCHRUN, replace(tiny, epochs=1), tmp_path / "c.yaml")
    assert done.returncode == 0, done.stderr[-2000:]
    # One process speaks, and each does half of the work: a step is a batch of both.
    assert done.stdout.count("images to train on") == 1
    assert done.stdout.count("written: ") == 1
    assert len(json.loads((Path(tiny.output) / "history.json").read_text())) == 1
    done = launched(TORCHRUN, replace(tiny, epochs=1, lr=0.5), tmp_path / "c.yaml")
    assert done.returncode != 0
    assert "holds a run with another lr" in done.stderr
    assert 'train_accelerate.py", line' not in done.stderr


def test_accelerate_launch_sets_the_precision(tiny, tmp_path):
    launcher = ["-m", "accelerate.commands.launch", "--quiet", "--cpu", "--num_processes", "2", "--mixed_precision"]
    done = launched([*launcher, "bf16"], replace(tiny, epochs=1), tmp_path / "c.yaml")
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((Path(tiny.output) / "run.json").read_text())
    assert record["precision"] == "bf16" or "no bfloat16" in done.stdout
    # On a CPU accelerate launch starts one process whatever it is told.
    assert "started one process only; torchrun" in done.stdout


@pytest.mark.parametrize(
    ("environment", "config", "sentence"),
    [
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, {}, "4 steps of gradient accumulation"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, {}, "mixed_precision fp8"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16", "ACCELERATE_USE_CPU": "true"}, {}, "fp16 needs a GPU"),
        ({}, {"trackers": ("none",)}, "accelerate refuses"),
    ],
)
def test_what_cannot_be_done_is_refused(tiny, monkeypatch, environment, config, sentence):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(BusError, match=sentence):
        accelerator_for(replace(tiny, **config))


def test_processes_that_do_not_find_together_are_refused(tiny, monkeypatch):
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "num_processes", property(lambda self: 1))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    monkeypatch.setattr("bus_hf.training.launch.PartialState", lambda cpu: _Alone())
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("bus_hf.training.launch.Accelerator", lambda **kwargs: _Alone())
    with pytest.raises(BusError, match="2 processes were started and do not find together"):
        accelerator_for(tiny)


class _Alone:
    """An accelerator of one process."""

    import torch

    device = torch.device("cpu")
    num_processes = 1


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"batch_size": 1}, "a batch of 1 image at 32 pixels"),
        ({"epoch_images": 1}, "a batch of 1 image at 32 pixels"),
    ],
)
def test_a_batch_norm_without_two_values_is_said_before_training(tiny, changes, word):
    with pytest.raises(BusError, match=f"{word} leaves a batch norm of test_resnet a single value"):
        run(replace(tiny, input_size=32, **changes))
    assert not (Path(tiny.output) / "state").exists()


def test_a_batch_of_one_trains_where_the_network_can(tiny):
    assert (run(replace(tiny, epochs=1, epoch_images=2, batch_size=1)) / "run.json").is_file()
    small = replace(tiny, epochs=1, epoch_images=3, batch_size=1, input_size=32, backbone="test_convnext")
    assert (run(replace(small, output=f"{tiny.output}-32")) / "run.json").is_file()


def test_a_batch_of_one_in_each_process_is_said(tiny, tmp_path):
    done = launched(TORCHRUN, replace(tiny, input_size=32, batch_size=2), tmp_path / "c.yaml")
    assert done.returncode != 0
    assert "a batch of 1 image in each process at 32 pixels" in done.stderr
    assert "give --batch_size 4 or more" in done.stderr
