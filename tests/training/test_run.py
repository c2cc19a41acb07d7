import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file

from bus_hf.config import to_mapping
from bus_hf.errors import BusError
from bus_hf.training.run import run
from bus_hf.views import VIEWS
from tests.programs import start

ROOT = Path(__file__).resolve().parents[2]


def weights(folder):
    return load_file(Path(folder) / "checkpoint" / "model.safetensors")


def test_a_run_leaves_a_member_logits_and_plots(finished_tiny):
    output = finished_tiny
    frame = pd.read_parquet(output / "out_of_fold.parquet")
    assert set(frame["view"]) == set(VIEWS)
    assert frame.groupby("name").size().eq(5).all()
    record = json.loads((output / "run.json").read_text())
    assert frame["name"].nunique() == record["n_held_out"]
    assert record["n_held_out"] + record["n_train"] + record["n_left_out"] == 36
    assert len(json.loads((output / "history.json").read_text())) == 3
    for plot in ("training_history.png", "roc_curve.png", "confusion_matrix.png"):
        assert (output / plot).stat().st_size > 5000, plot
    model = timm.create_model(f"local-dir:{output / 'checkpoint'}", pretrained=True)
    assert model.num_classes == 1
    assert (output / "checkpoint" / "graph.onnx").is_file()
    assert list((output.parent / "logs").rglob("events.out.tfevents*"))


def test_a_network_without_a_graph_is_a_member_all_the_same(tiny, monkeypatch, capsys):
    def refused(home, lesion_head):
        raise BusError("test_resnet cannot be written as graph.onnx", remedy="use the member as it is: torch runs it")

    monkeypatch.setattr("bus_hf.inference.export.write_graph", refused)
    output = run(replace(tiny, epochs=1))
    assert "test_resnet cannot be written as graph.onnx; use the member as it is" in capsys.readouterr().out
    assert {path.name for path in (output / "checkpoint").iterdir()} == {
        "config.json", "model.safetensors", "lesion_head.safetensors"
    }  # fmt: skip


def test_a_resumed_run_ends_equal_to_an_uninterrupted_one(tiny, finished_tiny):
    broken = replace(tiny, max_epochs_now=1)
    for _ in range(3):
        run(broken)
    again = run(broken)
    first, second = weights(finished_tiny), weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    pd.testing.assert_frame_equal(
        pd.read_parquet(finished_tiny / "out_of_fold.parquet"), pd.read_parquet(again / "out_of_fold.parquet")
    )


def test_workers_dropout_and_mixup_do_not_tell_a_resumed_run_from_a_whole_one(tiny, tmp_path):
    busy = replace(tiny, epochs=2, num_workers=2, drop_rate=0.5, mixup=0.4)
    whole = run(busy)
    broken = replace(busy, output=str(tmp_path / "broken"), max_epochs_now=1)
    for _ in range(3):
        again = run(broken)
    first, second = weights(whole), weights(again)
    assert all(torch.equal(first[name], second[name]) for name in first)
    losses = [[row["loss"] for row in json.loads((run / "history.json").read_text())] for run in (whole, again)]
    assert losses[0] == losses[1]


def test_a_killed_run_goes_on_and_ends_equal(tiny, finished_tiny, tmp_path):
    killed = tiny
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(to_mapping(killed)))
    printed = tmp_path / "printed"
    process = start(["train_accelerate.py", "--config", config], os.environ, ROOT, printed, printed)
    state = Path(killed.output) / "state" / "progress.json"
    deadline = time.monotonic() + 120
    while not state.is_file() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 1 <= json.loads(state.read_text())["epoch"] < 3
    run(killed)
    first, second = weights(finished_tiny), weights(killed.output)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_config_in_the_same_folder_is_refused_and_no_resume_starts_over(tiny):
    run(replace(tiny, epochs=1))
    with pytest.raises(BusError, match="another lr"):
        run(replace(tiny, epochs=1, lr=0.5))
    # Begun anew and stopped: what the run before it finished is no longer there to be taken for it.
    run(replace(tiny, epochs=2, lr=0.5, resume=False, max_epochs_now=1))
    assert not (Path(tiny.output) / "run.json").exists()
    assert not (Path(tiny.output) / "checkpoint").exists()
    run(replace(tiny, epochs=1, lr=0.5, resume=False))
    assert "lr: 0.5" in (Path(tiny.output) / "config.yaml").read_text()


def test_early_stopping_keeps_the_best_epoch(tiny, monkeypatch):
    course = iter([0.6, 0.9, 0.7, 0.8, 0.95])
    monkeypatch.setattr("bus_hf.training.fit.Fit.validate", lambda self, epoch: next(course))
    output = run(replace(tiny, epochs=9, patience=2))
    record = json.loads((output / "run.json").read_text())
    assert record["epochs"] == 4
    monkeypatch.undo()
    best = {name.removeprefix("backbone."): value for name, value in load_file(output / "best.safetensors").items()}
    kept = weights(output)
    assert all(
        torch.equal(value, best[name].half() if best[name].is_floating_point() else best[name])
        for name, value in kept.items()
    )


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext"])
def test_every_family_and_cpu_autocast(tiny, backbone, precision, monkeypatch):
    # Autocast is tested on every CPU, also where it is slow.
    monkeypatch.setattr("bus_hf.training.precision.cpu_has_bf16", lambda: True)
    output = run(replace(tiny, backbone=backbone, epochs=1, mixed_precision=precision))
    assert json.loads((output / "run.json").read_text())["precision"] == precision
    assert np.isfinite(pd.read_parquet(output / "out_of_fold.parquet")["logit_0"]).all()


def test_a_cpu_without_bfloat16_trains_in_float32_and_says_so(tiny, monkeypatch, capsys):
    monkeypatch.setattr("bus_hf.training.precision.cpu_has_bf16", lambda: False)
    output = run(replace(tiny, epochs=1, mixed_precision="bf16"))
    assert "no bfloat16" in capsys.readouterr().out
    record = json.loads((output / "run.json").read_text())
    assert (record["precision"], record["config"]["mixed_precision"]) == ("no", "bf16")


def test_three_classes_with_weights(tiny):
    config = replace(tiny, label_set="busi3", epochs=1, balanced_sampling=False, pos_weight=True, lesion_weight=0.0)
    frame = pd.read_parquet(run(config) / "out_of_fold.parquet")
    assert np.isfinite(frame[["logit_0", "logit_1", "logit_2"]]).all().all()
    assert set(frame["label"]) == {0, 1, 2}


def test_no_data_is_one_sentence(tiny):
    with pytest.raises(BusError, match="give --data"):
        run(replace(tiny, data=()))


def test_boxes_of_another_run_place_the_lesion_crops_and_change_nothing_else(tiny, finished_tiny, tmp_path):
    first = Path(shutil.copytree(finished_tiny, tiny.output))
    light = pd.read_parquet(first / "out_of_fold.parquet")
    moved = light.assign(box_x=10.0, box_y=20.0, box_w=40.0, box_h=30.0)
    moved.to_parquet(tmp_path / "boxes.parquet")
    before = weights(first)
    # The finished run goes on to read its held-out images again, with other boxes.
    again = pd.read_parquet(run(replace(tiny, boxes=str(tmp_path / "boxes.parquet"))) / "out_of_fold.parquet")
    assert all(torch.equal(before[name], value) for name, value in weights(first).items())
    assert again[["box_x", "box_y", "box_w", "box_h"]].drop_duplicates().to_numpy().tolist() == [[10, 20, 40, 30]]
    same = light["view"].isin(["whole", "flip", "wider"])
    assert np.allclose(light.loc[same, "logit_0"], again.loc[same, "logit_0"], atol=1e-5)
    assert not np.allclose(light.loc[~same, "logit_0"], again.loc[~same, "logit_0"], atol=1e-3)


def test_a_run_begun_before_a_setting_was_known_goes_on(tiny):
    output = run(replace(tiny, max_epochs_now=1))
    kept = (output / "config.yaml").read_text().splitlines()
    (output / "config.yaml").write_text("\n".join(line for line in kept if not line.startswith("feature_weight")))
    assert (run(tiny) / "checkpoint" / "model.safetensors").is_file()


def test_a_run_that_starts_over_makes_its_images_anew(tmp_path, tiny):
    settings = replace(tiny, data=(), phantoms=10, epochs=1, output=str(tmp_path / "run"))
    for count in (10, 12):
        record = json.loads((run(replace(settings, phantoms=count, resume=False)) / "run.json").read_text())
        # Of each of three classes.
        assert record["n_train"] + record["n_held_out"] + record["n_left_out"] == 3 * count
