"""A start or a teacher that has seen what is held out is refused; one that has not is told in the record."""

import json
from dataclasses import replace

import pytest

from bus_hf.config import TrainConfig, to_mapping
from bus_hf.errors import BusError
from bus_hf.training.lineage import earlier_run, record_of
from tests.records import run_record


@pytest.fixture
def checkpoint(tmp_path):
    """Of a run that left out fold 0 of five and set fold 1 apart; nothing but the record is read."""
    record = run_record(epochs=3, history=[{"loss": 1.0}], config=to_mapping(TrainConfig(set_apart=("1",))))
    (tmp_path / "run.json").write_text(json.dumps(record))
    return str(tmp_path / "checkpoint")


def test_a_run_on_the_same_split_is_told_without_its_history(checkpoint):
    assert earlier_run(TrainConfig(init_from=checkpoint, lr=0.5))["epochs"] == 3
    assert "history" not in earlier_run(TrainConfig(init_from=checkpoint))
    assert earlier_run(TrainConfig(init_from=checkpoint, set_apart=("1",))) is not None
    assert earlier_run(TrainConfig()) is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fold": 2}, "fold 0 then, 2 now"),
        ({"folds": 4}, "folds 5 then, 4 now"),
        ({"split_seed": 3}, "split_seed 0 then, 3 now"),
        ({"folds_from": "a.csv"}, "folds_from None then, a.csv now"),
        ({"set_apart": ("2",)}, "set_apart"),
        ({"train_sources": ("busi",)}, "train_sources"),
        # Folds are balanced by class, so those of another label set hold other images.
        ({"label_set": "histology"}, "label_set malignancy then, histology now"),
    ],
)
def test_a_start_or_teacher_that_saw_what_is_held_out_is_refused(checkpoint, change, word):
    with pytest.raises(BusError, match=f"the start learned from images that this run holds out .*{word}"):
        earlier_run(replace(TrainConfig(init_from=checkpoint), **change))
    with pytest.raises(BusError, match=f"the teacher learned .*{word}"):
        earlier_run(replace(TrainConfig(teacher=checkpoint, teacher_weight=1.0), **change))


def test_an_older_record_lacks_settings_that_had_one_choice(tmp_path):
    settings = {key: value for key, value in to_mapping(TrainConfig()).items() if key != "train_sources"}
    (tmp_path / "run.json").write_text(json.dumps(run_record(config=settings)))
    assert earlier_run(TrainConfig(init_from=str(tmp_path / "checkpoint"))) is not None
    with pytest.raises(BusError, match="train_sources"):
        earlier_run(TrainConfig(init_from=str(tmp_path / "checkpoint"), train_sources=("busi",)))


def test_members_of_an_ensemble_folder_are_known_and_others_are_not(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"a": run_record(epochs=7)}))
    assert record_of(str(tmp_path / "a"))["epochs"] == 7
    assert record_of(str(tmp_path / "b")) is None
    assert record_of("owner/name") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "the file is not valid JSON"),
        ("{}", "the key 'architecture' is missing"),
        (json.dumps(run_record(colour="red")), "unknown key 'colour'"),
        (json.dumps(run_record(n_train=-1)), "n_train is -1"),
        (json.dumps(run_record(config={"lr": float("nan")})), "config is"),
        (json.dumps(run_record()).replace('"fold": 0', '"fold": 0, "fold": 1'), "the key 'fold' stands twice"),
    ],
)
def test_what_is_no_record_is_refused_and_hides_no_leak(tmp_path, text, sentence):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(BusError, match=f"run.json: {sentence}"):
        earlier_run(TrainConfig(init_from=str(tmp_path / "checkpoint")))
