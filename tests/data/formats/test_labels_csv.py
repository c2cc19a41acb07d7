"""Tables of labels as spreadsheets write them."""

import cv2
import numpy as np
import pytest

from bus_hf.data.formats.labels_csv import read_labels
from bus_hf.errors import BusError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scans").mkdir()
    for name in ("a.png", "b.png", "c, d.png"):
        cv2.imwrite(str(tmp_path / "scans" / name), np.zeros((4, 4), np.uint8))
    return tmp_path / "scans"


def read(folder, content):
    table = folder.parent / "labels.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(row.name, row.label, row.patient, row.lesion) for row in read_labels(folder, table)]


ROWS = [("a.png", 1, "p1", ""), ("b.png", 0, "p2", "")]
PLAIN = "name,label,patient\na.png,malignant,p1\nb.png,benign,p2\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.replace(",", "\t").encode("utf-16-be"),
        "Name,Label,Patient\na.png,1.0,p1\nb.png,0.0,p2\n",
        "NAME;LABEL;PATIENT\na.png;1,0;p1\nb.png;0,00;p2\n",
        " name , label ,Patient,\n a.png , Malignant , p1 ,\nb.png,BENIGN,p2,\n,,,\n",
        '"name";"label";"patient"\n"a.png";"1";"p1"\n\n"b.png";"0";"p2"\n',
    ],
)
def test_what_spreadsheets_write_is_read(folder, content):
    assert read(folder, content) == ROWS


def test_a_name_may_hold_the_other_separators(folder):
    assert read(folder, "name;label\nc, d.png;1\n") == [("c, d.png", 1, "", "")]
    assert read(folder, 'name,label\n"c, d.png",1\n') == [("c, d.png", 1, "", "")]


@pytest.mark.parametrize(
    "text", ["", "nan", "NaN", "none", "None", "NA", "N/A", "#N/A", "<NA>", "-", " - ", "unknown", "?"]
)
@pytest.mark.parametrize("column", ["patient", "lesion", "group"])
def test_a_patient_who_is_not_known_is_nobody(folder, text, column):
    table = f"name,label,{column}\na.png,1,{text}\nb.png,0,{text}\n"
    assert read(folder, table) == [("a.png", 1, "", ""), ("b.png", 0, "", "")]
    (folder.parent / "labels.csv").write_text(table)
    assert [row.group for row in read_labels(folder, folder.parent / "labels.csv")] == ["a.png", "b.png"]


def test_one_patient_by_number_is_one(folder):
    assert [row[2] for row in read(folder, "name,label,patient\na.png,1,7\nb.png,1,7.0\n")] == ["7", "7"]
    assert [row[2] for row in read(folder, "name,label,patient\na.png,1,07\nb.png,1,P1.0\n")] == ["07", "P1.0"]


@pytest.mark.parametrize("column", ["lesion", "Group"])
def test_a_lesion_is_told_apart_within_its_patient(folder, column):
    (folder.parent / "labels.csv").write_text(f"name,label,patient,{column}\na.png,1,p1,L\nb.png,0,p1,R\n")
    rows = read_labels(folder, folder.parent / "labels.csv")
    assert [row.group for row in rows] == ["patient p1, lesion L", "patient p1, lesion R"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name|label\na.png|1\n", "the columns name and label are missing"),
        ("name,Name,label\na.png,b.png,1\n", "there are two columns name"),
        ("name,label\nc, d.png,1\n", "line 2: the line has more values than the 2 columns"),
        ("name;label\n\na.png;1\n\nb.png;cyst\n", "line 5: the label is 'cyst'"),
        ("name,label\na.png,0.5\n", "line 2: the label is '0.5'"),
        ("name,label\na.png\n", "line 2: the label is ''"),
        (PLAIN.encode("utf-16-le"), "no table can be read here"),
        ("name,label\nä.png,1\n".encode("cp1252"), "no table can be read here"),
        (b"\xff\xfe\x00name", "no table can be read here"),
    ],
)
def test_what_is_not_clear_is_one_sentence(folder, content, sentence):
    with pytest.raises(BusError, match=sentence):
        read(folder, content)
