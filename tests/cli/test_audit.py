"""`bus-hf audit`: copies and contradictions are named, drawn and counted."""

import csv
import json
import shutil
from pathlib import Path

import cv2

from bus_hf.cli import main

ROOT = Path(__file__).resolve().parents[2]


def test_audit_finds_the_copy_that_contradicts(labelled, tmp_path, capsys):
    sheet, table = tmp_path / "sheet.png", tmp_path / "pairs.csv"
    assert main(["audit", str(labelled), "--sheet", str(sheet), "--csv", str(table)]) == 0
    out = capsys.readouterr().out
    assert "13 images" in out
    contradicting = next(line for line in out.splitlines() if "contradict each other" in line)
    assert "malignant/copy" in contradicting
    with table.open(newline="") as file:
        pairs = list(csv.DictReader(file))
    assert next(row for row in pairs if row["classes_contradict"] == "True")["likeness"] == "1.0000"
    assert cv2.imread(str(sheet)) is not None


def test_audit_as_json_and_without_a_sheet(labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", str(labelled), "--json", "--no-sheet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 13
    assert sum(entry["images"] for entry in result["counts"]) == 13
    assert len(result["conflicting_groups"]) == 1
    assert len(result["identical"]) == 1
    assert list(tmp_path.iterdir()) == []


def test_audit_of_a_damaged_image_is_status_1(labelled, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(labelled, copy)
    (copy / "normal" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert main(["audit", str(copy), "--no-sheet"]) == 1
    assert "damaged.png" in capsys.readouterr().err


def test_audit_of_no_folder_is_one_sentence(tmp_path, capsys):
    assert main(["audit", str(tmp_path / "gone")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_audit_fills_the_card_of_a_data_set(labelled, tmp_path):
    card = tmp_path / "README.md"
    shutil.copy(ROOT / "dataset_card" / "README.md", card)
    assert main(["audit", str(labelled), "--no-sheet", "--card", str(card)]) == 0
    assert "| phantoms | 4 | 5 | 4 |" in card.read_text()
