"""How commands take data: tables of labels, flags given twice, caches that cannot be written, what is left out."""

import argparse
import csv
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import train_accelerate
from bus_hf.cli import main, parser, shared
from bus_hf.data.phantoms import write_phantoms
from tests.programs import python

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A flat folder of phantoms with a table of their labels: 6 of each kind, and their class folders."""
    folder = tmp_path_factory.mktemp("flat")
    write_phantoms(folder / "classes", 6, seed=3)
    (folder / "scans").mkdir()
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "label", "patient"])
        for path in sorted((folder / "classes").glob("*/*).png")):
            shutil.copy(path, folder / "scans" / path.name)
            table.writerow([path.name, "Malignant" if path.parent.name == "malignant" else 0, path.stem])
    return folder


# ---- tables of labels


def test_audit_takes_a_table_of_labels(flat, capsys):
    assert main(["audit", str(flat / "scans"), "--labels", str(flat / "labels.csv"), "--no-sheet", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["counts"] == [
        {"source": "site", "class": "benign", "images": 12},
        {"source": "site", "class": "malignant", "images": 6},
    ]


def test_evaluate_of_a_table_is_that_of_class_folders_and_shows_progress(flat, tiny_ensemble, capsys):
    ensemble = ["--ensemble", str(tiny_ensemble), "--json", "--keep-conflicts"]
    assert main(["evaluate", str(flat / "classes"), *ensemble]) == 0
    folders = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(flat / "scans"), "--labels", str(flat / "labels.csv"), *ensemble]) == 0
    out, err = capsys.readouterr()
    assert "reading 18 images ..." in err
    table = json.loads(out)
    for figure in ("n", "n_malignant", "auroc", "brier"):
        assert table["overall"][figure] == folders["overall"][figure]


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys):
    assert list(shared.progress("abc", 3, "reading", every=-1)) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        "reading 3 images ...",
        "reading: 1 of 3 images",
        "reading: 2 of 3 images",
    ]


@pytest.mark.parametrize("command", ["audit", "evaluate"])
@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("gone.png,benign", "there is no image 'gone.png'"),
        ("../classes/x.png,benign", "there is no image '../classes/x.png'"),
        ("{first},unsure", "line 2: the label is 'unsure'; write benign or malignant"),
        ("{first},0\n{first},1", "is there twice"),
        ("", "the table holds no case"),
    ],
)
def test_a_wrong_line_is_named(flat, tiny_ensemble, tmp_path, command, line, sentence, capsys):
    first = sorted((flat / "scans").iterdir())[0].name
    table = tmp_path / "labels.csv"
    table.write_text("name,label\n" + line.format(first=first) + "\n")
    flags = ["--no-sheet"] if command == "audit" else ["--ensemble", str(tiny_ensemble)]
    assert main([command, str(flat / "scans"), "--labels", str(table), *flags]) == 2
    (message,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in message


def test_a_table_without_its_columns_or_for_several_folders_is_one_sentence(flat, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    table.write_text("image;class\na;b\n")
    assert main(["audit", str(flat / "scans"), "--labels", str(table)]) == 2
    assert "columns name and label are missing (there are: image;class)" in capsys.readouterr().err
    assert main(["audit", str(flat / "scans"), str(flat), "--labels", str(flat / "labels.csv")]) == 2
    assert "exactly one folder" in capsys.readouterr().err


def test_an_image_of_a_table_that_cannot_be_read_is_excluded_with_status_1(flat, tmp_path, capsys):
    shutil.copytree(flat / "scans", tmp_path / "scans")
    first = sorted((tmp_path / "scans").iterdir())[0]
    first.write_bytes(b"")
    assert main(["audit", str(tmp_path / "scans"), "--labels", str(flat / "labels.csv"), "--no-sheet"]) == 1
    assert f"{first.name}: the file is empty" in capsys.readouterr().err


# ---- predict


def test_a_run_in_which_everything_failed_tells_no_threshold(tiny_ensemble, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("no image")
    assert main(["predict", str(tmp_path), "--ensemble", str(tiny_ensemble)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "0 read, 2 failed."
    assert "malignant from" not in err


def test_predict_tells_of_masks_links_to_nowhere_and_packed_folders(tiny_ensemble, flat, tmp_path, capsys):
    scan = sorted((flat / "scans").iterdir())[0]
    (tmp_path / "in" / "Masks").mkdir(parents=True)
    for name in ("x.png", "x_tumor.png", "Masks/x.png", "tumor.png"):
        shutil.copy(scan, tmp_path / "in" / name)
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "scans.zip").write_bytes(b"PK\3\4")
    inputs = [str(tmp_path / "in"), str(tmp_path / "scans.zip")]
    assert main(["predict", *inputs, "--ensemble", str(tiny_ensemble), "--json"]) == 1
    out, err = capsys.readouterr()
    assert [Path(json.loads(line)["name"]).name for line in out.splitlines()] == ["tumor.png", "x.png"]
    assert "2 files are masks by their names and were not read (x_tumor.png, Masks/x.png)" in err
    assert "gone.png: the link leads nowhere" in err
    assert "scans.zip: this is a packed folder; unzip it" in err


# ---- flags given twice


def parsers(top=None, name="bus-hf"):
    """Every command's parser, by what is typed."""
    result = {}
    for action in (top or parser())._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below, command in action.choices.items():
                result |= {f"{name} {below}": command} | parsers(command, f"{name} {below}")
    return result


def many_valued():
    for name, command in parsers().items():
        for action in command._actions:
            if action.option_strings and action.nargs in ("*", "+"):
                yield pytest.param(command, action, id=f"{name} {action.option_strings[0]}")


@pytest.mark.parametrize(("command", "action"), many_valued())
def test_a_flag_of_many_values_adds_up_when_it_is_given_twice(command, action):
    flag = action.option_strings[0]
    for other in command._actions:
        other.required = False
        if not other.option_strings:
            other.nargs = "*"
    given = command.parse_args([flag, "a", flag, "b", "c"])
    assert [str(value) for value in getattr(given, action.dest)] == ["a", "b", "c"]


def test_flags_of_many_values_are_found():
    assert len(list(many_valued())) > 8


# ---- caches


def run(*command, **environment):
    return python(command, os.environ | environment, ROOT)


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_DATASETS_CACHE"])
@pytest.mark.parametrize("command", ["audit", "evaluate", "train"])
def test_a_cache_that_cannot_be_written_is_one_sentence(flat, tiny_ensemble, tmp_path, command, variable):
    (tmp_path / "file").write_text("in the way")
    commands = {
        "audit": ["-m", "bus_hf.cli", "audit", str(flat / "classes"), "--no-sheet"],
        "evaluate": ["-m", "bus_hf.cli", "evaluate", str(flat / "classes"), "--ensemble", str(tiny_ensemble)],
        "train": f"train_accelerate.py --data {flat}/classes --output {tmp_path}/run --init random --trackers".split(),
    }
    done = run(*commands[command], **{variable: str(tmp_path / "file" / "cache")})
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be written (Not a directory); set HF_HOME, or HF_DATASETS_CACHE" in done.stderr.splitlines()[-1]


def test_a_full_disk_is_one_sentence(flat):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)); "
    code = f"{limit}from bus_hf.cli import main; raise SystemExit(main(['audit', '{flat / 'classes'}', '--no-sheet']))"
    done = run("-c", code)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "the cache of data sets cannot be written (File too large)" in done.stderr


@pytest.mark.parametrize("variable", ["TMPDIR", "MPLCONFIGDIR"])
def test_other_folders_that_cannot_be_written_do_not_matter(flat, tiny_ensemble, tmp_path, variable):
    (tmp_path / "file").write_text("in the way")
    flags = ["--ensemble", str(tiny_ensemble), "--plots", str(tmp_path / "plots"), "--json"]
    command = ["-m", "bus_hf.cli", "evaluate", str(flat / "classes"), *flags]
    done = run(*command, **{variable: str(tmp_path / "file" / "x")})
    assert done.returncode == 0, done.stderr
    assert cv2.imread(str(tmp_path / "plots" / "roc_curve.png")) is not None


def test_whatever_the_system_refuses_is_one_sentence(monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device", "/somewhere/file")

    monkeypatch.setattr("bus_hf.cli.shared.load_cases", refuse)
    monkeypatch.setattr("bus_hf.training.each_source.train", refuse)
    assert main(["audit", "DATA"]) == 2
    assert train_accelerate.main(["--data", "DATA"]) == 2
    first, second = capsys.readouterr().err.strip().splitlines()
    for message in (first, second):
        assert "/somewhere/file: it cannot be read or written (No space left on device); check its rights" in message


def test_nothing_of_a_scan_is_lost_by_its_table(flat):
    """The table of the fixture names every scan of the folder: otherwise the tests above would show less."""
    names = {row["name"] for row in csv.DictReader((flat / "labels.csv").open())}
    assert names == {path.name for path in (flat / "scans").iterdir()}
    assert np.ndim(cv2.imread(str(flat / "scans" / min(names)))) == 3
