"""A run goes on with the data that it was begun on, and with no other."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import train_accelerate
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError
from bus_hf.training import splits
from bus_hf.training.identity import data_digests, differences
from bus_hf.training.lineage import refuse_other_data
from bus_hf.training.rerun import rerun
from bus_hf.training.run import run
from tests.records import run_record


@pytest.fixture
def begun(tiny):
    """A run that was stopped after its first epoch of two."""
    config = replace(tiny, epochs=2)
    run(replace(config, max_epochs_now=1))
    return config


@pytest.fixture
def other_cases(monkeypatch):
    """Return a function that lets every later run read changed cases."""
    read = splits.read_cases

    def change(act):
        def changed(config):
            cases, notes = read(config)
            return act(cases), notes

        monkeypatch.setattr(splits, "read_cases", changed)

    return change


def every(place, **changes):
    """Change the case at a place of the list, by functions of it."""

    def act(cases):
        case = cases[place]
        cases[place] = replace(case, **{key: value(case) for key, value in changes.items()})
        return cases

    return act


def swap_labels(cases):
    """Exchange the labels of a benign and a malignant image under their names."""
    one = next(n for n, case in enumerate(cases) if case.label == 0)
    other = next(n for n, case in enumerate(cases) if case.label == 1)
    cases[one], cases[other] = replace(cases[one], label=1), replace(cases[other], label=0)
    return cases


def without_mask(cases):
    return [replace(case, mask=None) if n == 20 else case for n, case in enumerate(cases)]


@pytest.mark.parametrize(
    ("act", "word"),
    [
        (lambda cases: cases[1:], "names of training images"),
        (swap_labels, "labels of|names of"),
        (every(3, image=lambda case: case.image[::-1].copy()), "pixels of (training|held-out) images"),
        (every(20, mask=lambda case: ~case.mask), "masks of (training|held-out) images"),
        (without_mask, "masks of (training|held-out) images"),
        (every(5, group=lambda case: "another patient"), "groups of|names of"),
    ],
)
def test_changed_data_is_refused(begun, other_cases, act, word):
    other_cases(act)
    before = (Path(begun.output) / "state" / "progress.json").read_text()
    with pytest.raises(BusError, match=f"begun on other data .*({word}).*--no-resume"):
        run(begun)
    assert (Path(begun.output) / "state" / "progress.json").read_text() == before


def test_an_image_more_is_refused_on_the_command_line_until_it_is_gone(tiny, phantom_folder, tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / "data"
    shutil.copytree(phantom_folder, folder)
    flags = ["--data", str(folder), "--backbone", "test_resnet", "--init", "random", "--input_size", "64"]
    flags += ["--epochs", "2", "--folds", "3", "--num_workers", "0", "--trackers", "--drop_path_rate", "0"]
    flags += ["--batch_size", "8", "--output", tiny.output]
    assert train_accelerate.main([*flags, "--max_epochs_now", "1"]) == 0
    more = folder / "malignant" / "malignant (99).png"
    Image.fromarray(phantom(np.random.default_rng(7), "malignant")[0]).save(more)
    capsys.readouterr()
    assert train_accelerate.main(flags) == 2
    message = capsys.readouterr().err
    assert "begun on other data" in message
    assert "Traceback" not in message
    more.unlink()
    assert train_accelerate.main(flags) == 0
    # A finished run too is not read again on what it may have learned from.
    Image.fromarray(phantom(np.random.default_rng(7), "malignant")[0]).save(more)
    assert train_accelerate.main(flags) == 2
    assert train_accelerate.main([*flags, "--no-resume", "--max_epochs_now", "1"]) == 0


def test_folds_that_were_assigned_anew_under_the_same_name_are_refused(tiny, tmp_path):
    data = splits.split(tiny)
    path = tmp_path / "folds.csv"

    def write(turn):
        rows = [(case.name, (fold + turn) % 3) for case, fold in zip(data.cases, data.folds, strict=True)]
        pd.DataFrame(rows, columns=["name", "fold"]).to_csv(path, index=False)

    write(0)
    config = replace(tiny, epochs=2, folds_from=str(path))
    run(replace(config, max_epochs_now=1))
    write(1)
    with pytest.raises(BusError, match="names of training images, names of held-out images"):
        run(config)
    write(0)
    assert (run(config) / "run.json").is_file()


@pytest.mark.parametrize("text", ["{", '{"epoch": 1}'])
def test_a_damaged_state_is_one_sentence(begun, text):
    (Path(begun.output) / "state" / "progress.json").write_text(text)
    with pytest.raises(BusError, match="state cannot be read"):
        run(begun)


def test_a_member_is_read_again_on_its_own_data_alone(tiny, tmp_path, other_cases):
    output = run(replace(tiny, epochs=1))
    held = splits.split(tiny).held_out(0)[0].name

    def relit(cases):
        return [replace(case, image=255 - case.image) if case.name == held else case for case in cases]

    other_cases(relit)
    with pytest.raises(BusError, match="pixels of held-out images"):
        rerun(str(output / "checkpoint"), {"data": list(tiny.data), "output": str(tmp_path / "again")})


def test_a_start_or_teacher_of_other_data_is_refused(tiny, tmp_path):
    data = splits.split(tiny)
    now = data_digests(data.training(0), data.held_out(0))
    member = str(tmp_path / "checkpoint")
    started, distilled = replace(tiny, init_from=member), replace(tiny, teacher=member, teacher_weight=1.0)

    def write(record):
        (tmp_path / "run.json").write_text(json.dumps(run_record(**record)))

    # More to train on teaches nothing of what is held out; records of before tell the names held out, or nothing.
    for record in ({"data_sha256": now | {"training_names": "0"}}, {"held_out_sha256": now["held_out_names"]}, {}):
        write(record)
        refuse_other_data(started, now)
        refuse_other_data(distilled, now)
    for record in (
        {"data_sha256": now | {"held_out_names": "0"}},
        {"data_sha256": now | {"held_out_pixels": "0"}},
        {"held_out_sha256": "0"},
    ):
        write(record)
        for config, word in ((started, "start"), (distilled, "teacher")):
            with pytest.raises(BusError, match=f"the {word} held out other images"):
                refuse_other_data(config, now)


def test_differences_are_told_in_words_and_only_where_both_sides_know(tiny):
    cases = splits.split(tiny).cases
    now = data_digests(cases[:3], cases[3:])
    assert data_digests(cases[2::-1], cases[3:]) == now
    assert differences({}, now) == differences(now, now) == []
    assert differences(data_digests(cases[:2], cases[3:]), now) == ["names of training images"]
    thinner = [replace(cases[0], mask=None), *cases[1:3]]
    assert differences(data_digests(thinner, cases[3:]), now) == ["masks of training images"]
