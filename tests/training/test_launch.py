"""How a run is started: what launchers ask for is done, or a sentence says that it is not."""

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bus_hf.config import to_mapping
from bus_hf.errors import BusError
from bus_hf.evaluation.metrics import auroc
from bus_hf.training.launch import accelerator_for
from bus_hf.training.run import run
from tests.programs import python, start

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def launched(launcher, config, path):
    path.write_text(yaml.safe_dump(to_mapping(config)))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ACCELERATE_")}
    return python([*launcher, "train_accelerate.py", "--config", path], environment, ROOT, timeout=300)


@pytest.mark.slow
def test_two_processes_of_torchrun_give_the_metrics_of_one(tiny, tmp_path):
    # No batch norm, dropout or masks: what a process sees of a batch must then make no difference but rounding.
    plain = replace(tiny, backbone="test_convnext", epochs=2, drop_rate=0.0, lesion_weight=0.0, inside_weight=0.0)
    runs = [replace(plain, output=str(tmp_path / name)) for name in ("one", "two")]
    run(runs[0])
    done = launched(TORCHRUN, runs[1], tmp_path / "two.yaml")
    assert done.returncode == 0, done.stderr[-2000:]
    # One process speaks, and each does half of the work: a step is a batch of both.
    assert done.stdout.count("images to train on") == 1
    assert done.stdout.count("written: ") == 1
    one, two = (json.loads((Path(config.output) / "history.json").read_text()) for config in runs)
    for row, other in zip(one, two, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-3)
    frames = [pd.read_parquet(Path(config.output) / "out_of_fold.parquet") for config in runs]
    assert np.allclose(frames[0]["logit_0"], frames[1]["logit_0"], atol=1e-3)
    # Validation gathered every image once: its AUROC is that of the logits, but for a pair that rounding may swap.
    whole = frames[1][frames[1]["view"] == "whole"]
    pairs = whole["label"].sum() * (1 - whole["label"]).sum()
    expected = auroc(whole["label"].to_numpy(), whole["logit_0"].to_numpy())
    assert two[-1]["auroc"] == pytest.approx(expected, abs=1.5 / pairs)


def test_a_refusal_ends_every_process(tiny, finished_tiny, tmp_path):
    shutil.copytree(finished_tiny, tiny.output)
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(to_mapping(replace(tiny, lr=0.5))))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        # As torchrun starts them, which would end the others with the first.
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    printed = [tmp_path / f"printed-{rank}" for rank in range(2)]
    processes = [
        start(
            ["train_accelerate.py", "--config", config],
            os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            ROOT,
            printed[rank],
            printed[rank],
        )
        for rank in range(2)
    ]
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [2, 2]
    messages = [file.read_text() for file in printed]
    assert any("holds a run with another lr" in message for message in messages)
    assert all("Traceback" not in message for message in messages)


@pytest.mark.slow
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
