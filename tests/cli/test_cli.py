"""What people type: help, exit status, one sentence for each error, results that survive a stop."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bus_hf.cli import COMMANDS, main
from tests.programs import python

ROOT = Path(__file__).resolve().parents[2]


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys; from bus_hf.cli import main; status = main(['--help']); "
        "print(status, *sorted({'numpy', 'cv2', 'torch', 'datasets', 'gradio', 'pandas'} & set(sys.modules)))"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "0"
    # Time of the processor: a busy machine must not fail it.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


BELOW = [f"{name} {below}" for name, module in COMMANDS.items() for below in getattr(module, "COMMANDS", {})]
GROUPS = sorted({command.split()[0] for command in BELOW})


@pytest.mark.parametrize("command", [*COMMANDS, *BELOW])
def test_every_command_teaches(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert f"  bus-hf {command}" in capsys.readouterr().out.partition("examples:")[2]


def test_help_shows_what_a_beginner_needs_first_and_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    first, _, rest = shown.partition("begin with:")[2].partition("then:")
    listed = re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", first, re.MULTILINE)
    assert listed == ["predict", "serve", "evaluate", "calibrate", "train"]
    assert all(f"    bus-hf {command} " in f"{first} " or f" bus-hf {command}\n" in first for command in listed)
    listed += re.findall(r"^  ([a-z]+(?: [a-z]+)?)  +\S", rest, re.MULTILINE)
    assert set(listed) == {*COMMANDS, *BELOW} - {*GROUPS, "trial", "trials"}


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_names_its_commands(group, capsys):
    assert main([group]) == 2
    assert "WHAT" in capsys.readouterr().err
    assert main([group, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^ +{name} +\w", shown, re.MULTILINE) for name in COMMANDS[group].COMMANDS)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["predit", "a.png"], "the closest is bus-hf predict"),
        (["push-space"], "the closest is bus-hf push space"),
        (["push", "metrics", "--to", "x"], "the closest is bus-hf push metric"),
        (["nonsense"], "bus-hf --help lists them"),
        (["build", "house"], "bus-hf build --help lists them"),
    ],
)
def test_an_unknown_command_is_one_sentence_with_the_closest_one(words, remedy, capsys):
    assert main(words) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("bus-hf: there is no command '")
    assert remedy in message


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["predict"],
        ["predict", "a.png", "--roi", "1,2,3"],
        ["predict", "a.png", "--roi", "a,b,c,d"],
        ["views", "a.png", "--size", "5"],
        ["predict", "a.png", "--nonsense"],
    ],
)
def test_wrong_use_is_status_2(arguments, capsys):
    assert main(arguments) == 2
    assert "usage: bus-hf" in capsys.readouterr().err


def test_an_unknown_ensemble_is_one_sentence(scans, tmp_path, capsys):
    assert main(["predict", str(scans), "--ensemble", str(tmp_path / "none")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    mask, error = err.strip().splitlines()
    assert "a_mask.png" in mask
    assert "none" in error


class StoppedDetector:
    """Reads one image, then the user presses Ctrl-C."""

    def __init__(self, detector):
        self.manifest = detector.manifest
        self._detector = detector

    def predict_many(self, sources, **settings):
        yield self._detector.predict(sources[0])
        raise KeyboardInterrupt


def test_ctrl_c_keeps_what_was_read(tiny_ensemble, scans, tmp_path, monkeypatch, capsys):
    from bus_hf import BreastCancerDetector

    stopped = StoppedDetector(BreastCancerDetector.from_pretrained(tiny_ensemble))
    monkeypatch.setattr("bus_hf.cli.shared.open_detector", lambda given: stopped)
    table = tmp_path / "table.csv"
    assert main(["predict", str(scans), "--json", "--csv", str(table)]) == 130
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == str(scans / "a.png")
    assert err.strip().splitlines()[1:] == ["bus-hf: stopped; what was written so far is kept."]
    assert len(table.read_text().splitlines()) == 2


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes only on POSIX")
def test_a_file_name_that_is_no_text_is_printed(tiny_ensemble, scans, tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    shutil.copy(scans / "a.png", odd)
    done = python(["-m", "bus_hf.cli", "predict", "--ensemble", tiny_ensemble, odd])
    assert done.returncode == 0, done.stderr
    assert "\\udcff.png" in done.stdout


def test_a_reader_that_has_had_enough_is_no_error(scans, tiny_ensemble):
    command = [sys.executable, "-m", "bus_hf.cli", "predict", "--ensemble", str(tiny_ensemble), str(scans)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
