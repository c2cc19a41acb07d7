"""Hostile names of files: pipes, line breaks, formulas, dots."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from bus_hf.cli import main
from bus_hf.data.phantoms import phantom

FORGED = "a.png\nBenign      0.1%  no lesion found       b.png"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path / "scans")
    return tmp_path / "scans"


def write(name, kind="benign", seed=0):
    Image.fromarray(phantom(np.random.default_rng(seed), kind)[0]).save(name, "PNG")


def test_predict_does_not_wait_for_a_pipe(folder, tiny_ensemble, capsys):
    os.mkfifo("x.png")
    write("y.png")
    assert main(["predict", "--ensemble", str(tiny_ensemble), "."]) == 1
    out = capsys.readouterr()
    assert "x.png: this is no regular file" in out.err
    assert "1 read, 1 failed" in out.err


@pytest.mark.parametrize("readable", [True, False])
def test_a_line_break_in_a_name_forges_no_line(folder, tiny_ensemble, readable, capsys):
    if readable:
        write(f"{FORGED}.png")
    else:
        (folder / f"{FORGED}.png").write_bytes(b"no image")
    main(["predict", "--ensemble", str(tiny_ensemble), "."])
    out = capsys.readouterr()
    assert not any(line.startswith("Benign      0.1%") for line in (out.out + out.err).splitlines())
    assert "a.png?Benign" in (out.out if readable else out.err)


@pytest.mark.parametrize("name", ["=1+1.png", "+1.png", "-1.png", "@a.png", "\t=1.png"])
def test_no_name_reaches_a_table_as_a_formula(folder, tiny_ensemble, name):
    write(name)
    (folder / f"{name}.bad").write_bytes(b"no image")
    # After "--", which lets a name begin with a dash.
    main(["predict", "--ensemble", str(tiny_ensemble), "--csv", "out.csv", "--", name, f"{name}.bad", ".."])
    with open("out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows[:2]] == [f"'{name}", f"'{name}.bad"]
    for row in rows:
        assert not any(str(cell).startswith(("=", "+", "-", "@", "\t")) for cell in row.values())


def test_a_dotfile_is_read_when_it_is_named(folder, tiny_ensemble, capsys):
    write(".x.png")
    assert main(["predict", "--ensemble", str(tiny_ensemble), ".x.png"]) == 0
    assert ".x.png" in capsys.readouterr().out


def test_audit_writes_no_formula_and_no_forged_line(folder, tmp_path, capsys):
    (folder / "benign").mkdir()
    for name in ("=a.png", f"{FORGED}.png"):
        write(folder / "benign" / name)
    main(["audit", str(folder), "--no-sheet", "--csv", "pairs.csv"])
    out = capsys.readouterr()
    assert not any(line.startswith("Benign      0.1%") for line in (out.out + out.err).splitlines())
    with open("pairs.csv", newline="", encoding="utf-8") as file:
        (_, *rows) = csv.reader(file)
    assert rows
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for row in rows for cell in row)
