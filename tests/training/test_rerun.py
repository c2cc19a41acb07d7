"""A finished member's held-out images are read again with its stored weights, and nothing it learned from is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import train_accelerate
from bus_hf.errors import BusError
from bus_hf.training.identity import digest
from bus_hf.training.rerun import rerun
from bus_hf.training.run import run
from tests.records import run_record

KEYS = ["name", "view"]


@pytest.fixture
def finished(tiny):
    return run(replace(tiny, epochs=1, fold=1))


def logits(folder):
    return pd.read_parquet(Path(folder) / "out_of_fold.parquet").set_index(KEYS)


def test_stored_weights_say_what_the_run_wrote(tiny, finished, tmp_path):
    output = rerun(str(finished / "checkpoint"), {"data": list(tiny.data), "output": str(tmp_path / "again")})
    first, second = logits(finished), logits(output)
    assert first.index.equals(second.index)
    # The run read its float32 weights, which are stored as fp16.
    apart = np.abs(first["logit_0"] - second["logit_0"]).max()
    assert apart < 0.2 * first["logit_0"].std(), (apart, first["logit_0"].std())
    assert set(first["fold"]) == {1}
    pd.testing.assert_frame_equal(
        first[["source", "group", "label", "fold"]], second[["source", "group", "label", "fold"]]
    )
    for name in ("run.json", "history.json"):
        assert json.loads((output / name).read_text()) == json.loads((finished / name).read_text()), name
    assert (output / "checkpoint" / "model.safetensors").read_bytes() == (
        finished / "checkpoint" / "model.safetensors"
    ).read_bytes()


def test_other_boxes_change_the_lesion_crops_alone(tiny, finished, tmp_path):
    boxes = pd.read_parquet(finished / "out_of_fold.parquet")
    boxes["box_x"], boxes["box_y"], boxes["box_w"], boxes["box_h"] = 2.0, 3.0, 20.0, 15.0
    path = tmp_path / "boxes.parquet"
    boxes.to_parquet(path)
    before = logits(finished)["logit_0"].unstack()
    output = rerun(str(finished / "checkpoint"), {"data": list(tiny.data), "output": str(finished), "boxes": str(path)})
    after = logits(output)["logit_0"].unstack()
    moved = (after - before).abs().max()
    assert moved[["lesion", "around"]].min() > 5 * moved[["whole", "flip", "wider"]].max(), moved
    assert set(logits(output)["box_w"]) == {20.0}
    assert json.loads((output / "run.json").read_text())["config"]["boxes"] == str(path)


def test_a_member_of_an_ensemble_folder_is_laid_down_as_a_run(tiny, finished, tmp_path):
    ensemble = tmp_path / "ensemble"
    shutil.copytree(finished / "checkpoint", ensemble / "test_resnet")
    record = json.loads((finished / "run.json").read_text())
    history = json.loads((finished / "history.json").read_text())
    (ensemble / "training.json").write_text(json.dumps({"test_resnet": record | {"history": history}}))
    output = rerun(str(ensemble / "test_resnet"), {"data": list(tiny.data), "output": str(tmp_path / "again")})
    assert json.loads((output / "run.json").read_text()) == record
    assert json.loads((output / "history.json").read_text()) == history


def test_what_cannot_be_read_honestly_is_refused(tiny, finished, tmp_path):
    member, data = str(finished / "checkpoint"), list(tiny.data)
    again = str(tmp_path / "again")
    with pytest.raises(BusError, match="without another fold"):
        rerun(member, {"data": data, "output": again, "fold": 0})
    with pytest.raises(BusError, match="no record"):
        rerun(str(tmp_path / "nowhere"), {"data": data, "output": again})
    with pytest.raises(BusError, match="no folder to write"):
        rerun(member, {"data": data})
    other = tmp_path / "other"
    other.mkdir()
    (other / "run.json").write_text(json.dumps(run_record()))
    with pytest.raises(BusError, match="another run"):
        rerun(member, {"data": data, "output": str(other)})
    record = json.loads((finished / "run.json").read_text())
    (finished / "run.json").write_text(json.dumps(record | {"n_train": record["n_train"] - 1}))
    with pytest.raises(BusError, match="the data that it was trained on"):
        rerun(member, {"data": data, "output": again})
    (finished / "run.json").write_text(json.dumps(record))
    # As many images, of which one is another: by the record, and by the logits beside a member of an older one.
    stored = pd.read_parquet(finished / "out_of_fold.parquet")
    assert record["held_out_sha256"] == digest(stored["name"])
    older = {key: value for key, value in record.items() if key != "held_out_sha256"}
    other = stored.replace({"name": {stored["name"].iloc[0]: "elsewhere"}})
    for text in (record | {"held_out_sha256": digest(other["name"])}, older):
        (finished / "run.json").write_text(json.dumps(text))
        other.to_parquet(finished / "out_of_fold.parquet")
        with pytest.raises(BusError, match="not known to be the one that the member held out"):
            rerun(member, {"data": data, "output": again})
    (finished / "out_of_fold.parquet").unlink()
    with pytest.raises(BusError, match="not known to be the one that the member held out"):
        rerun(member, {"data": data, "output": again})
    stored.to_parquet(finished / "out_of_fold.parquet")
    (finished / "run.json").write_text(json.dumps(record))
    (finished / "checkpoint" / "lesion_head.safetensors").unlink()
    with pytest.raises(BusError, match=r"lesion_head\.safetensors is missing"):
        rerun(member, {"data": data, "output": again})
    assert not Path(again).exists()


def test_the_command_reads_again_and_takes_no_config(tiny, finished, tmp_path, capsys):
    flags = ["--reread", str(finished / "checkpoint"), "--data", *tiny.data, "--output", str(tmp_path / "again")]
    assert train_accelerate.main(flags) == 0
    assert "written: " in capsys.readouterr().out
    assert train_accelerate.main([*flags, "--config", "configs/smoke.yaml"]) == 2
    assert "leave out --config" in capsys.readouterr().err
    assert train_accelerate.main([*flags, "--lr", "0.1"]) == 2
    assert "without another lr" in capsys.readouterr().err
