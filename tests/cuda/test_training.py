"""Training and inference on a GPU; everything here is skipped without one."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState

from bus_hf.config import EACH_SOURCE
from bus_hf.data.phantoms import write_phantoms
from bus_hf.training.each_source import train
from bus_hf.training.held_out import NetworkRuntime
from bus_hf.training.rerun import rerun
from bus_hf.training.run import run
from tests.training.conftest import settings

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture(autouse=True)
def reset_accelerate():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospitals")
    for seed, name in enumerate(("north", "south")):
        write_phantoms(folder / name, 8, seed)
    return folder


@pytest.fixture
def config(data, tmp_path):
    paths = (str(data / "north"), str(data / "south"))
    return replace(settings(data, tmp_path), data=paths, backbone="test_efficientnet", birads_weight=0.1)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "no"])
def test_a_run_trains_resumes_and_keeps_finite_weights_and_logits(config, precision):
    part = replace(config, mixed_precision=precision, max_epochs_now=2)
    run(part)
    AcceleratorState._reset_state(reset_partial_state=True)
    output = run(part)
    record = json.loads((output / "run.json").read_text())
    assert record["precision"] == precision
    assert record["epochs"] == 3
    frame = pd.read_parquet(output / "out_of_fold.parquet")
    assert np.isfinite(frame["logit_0"]).all()
    history = json.loads((output / "history.json").read_text())
    assert all(np.isfinite(row["loss"]) for row in history)


def test_auto_is_fp16_with_a_gradient_scaler(config):
    output = run(replace(config, epochs=1))
    assert json.loads((output / "run.json").read_text())["precision"] == "fp16"
    assert (output / "state" / "scaler.pt").is_file()


def test_each_source_is_held_out_on_a_gpu_too(config):
    output = train(replace(config, epochs=1, hold_out=EACH_SOURCE, versions=2, balance_sources=True))
    frame = pd.read_parquet(output / "out_of_fold.parquet")
    assert frame.groupby("source")["fold"].nunique().eq(1).all()


def test_a_member_read_again_gives_the_logits_of_its_run(config, tmp_path):
    output = run(replace(config, epochs=1, mixed_precision="no"))
    before = pd.read_parquet(output / "out_of_fold.parquet")
    again = rerun(str(output / "checkpoint"), {"data": config.data, "output": str(tmp_path / "again")})
    after = pd.read_parquet(again / "out_of_fold.parquet")
    # Weights are stored as fp16.
    assert np.abs(before["logit_0"] - after["logit_0"]).max() < 2e-2


def test_a_network_in_training_runs_where_it_lies(config):
    from bus_hf.models import TrainingNet, create

    net = TrainingNet(create("test_efficientnet", 1)).eval()
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64), dtype=np.uint8)
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    on_cpu = NetworkRuntime(net, size=64, mean=mean, std=std)("net", images)
    on_gpu = NetworkRuntime(net.cuda(), size=64, mean=mean, std=std)("net", images)
    assert np.allclose(on_cpu.logits, on_gpu.logits, atol=2e-3)
