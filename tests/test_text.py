import csv
import io

import pytest

from bus_hf.text import csv_cell, printable


@pytest.mark.parametrize("name", ["=1+1.png", "+a", "-a", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_what_a_spreadsheet_takes_for_a_formula_is_quoted(name):
    assert csv_cell(name) == f"'{name}"
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(name)])
    (cell,) = next(csv.reader(io.StringIO(out.getvalue(), newline="")))
    assert cell[0] == "'"


@pytest.mark.parametrize("value", ["a=b.png", "benign (1).png", ".hidden.png", "", -0.5, None, True, 3])
def test_the_rest_stays_as_it_is(value):
    assert csv_cell(value) is value


@pytest.mark.parametrize("sign", ["\n", "\r", "\x1b", "\x9b", "\u2028", "\u202e", "\0"])
def test_a_name_stays_on_its_line(sign):
    assert printable(f"a{sign}b") == "a?b"
    assert printable("\udcff.png") == "\\udcff.png"
    assert printable("Größe é 乳.png") == "Größe é 乳.png"
