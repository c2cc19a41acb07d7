"""Verdict, picture and table as HTML: the same numbers as the sentences, and no markup from outside."""

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from bus_hf.inference.prediction import Failure
from bus_hf.reporting import sentences
from bus_hf.space import html
from tests.predictions import POINT, RESULT


def test_a_part_of_the_members_shows_no_rates_as_its_own():
    assert "measured with all members" in html.verdict(RESULT, POINT, part=True)
    assert "measured with all members" not in html.verdict(RESULT, POINT)


def test_the_threshold_of_an_image_without_a_lesion_is_marked_as_such():
    without = replace(RESULT, box=None, box_source=None, threshold=0.62)
    assert "the line marks the threshold for an image without a lesion, 62 %" in html.verdict(without, POINT)
    assert "left:62%" in html.verdict(without, POINT)
    assert "the line marks the threshold, 21 %" in html.verdict(RESULT, POINT)


def test_the_note_stands_in_the_verdict():
    note = "no lesion was found; this model compares lesions and is not made to rule one out"
    shown = html.verdict(replace(RESULT, box=None, box_source=None, note=note, prediction="Benign"), POINT)
    assert "No lesion was found; this model compares lesions and is not made to rule one out." in shown
    assert "Suspicious" not in shown
    assert "Note." not in html.verdict(RESULT, POINT)
    # A file's name, or what else a note may hold, is no markup.
    assert "<b>" not in html.verdict(replace(RESULT, note="<b>bold"), POINT)


@pytest.mark.parametrize("probability", [0.0, 1e-9, 0.9999, 1.0])
def test_nothing_on_the_page_is_certain(probability):
    result = replace(
        RESULT,
        probability=probability,
        threshold=probability,
        members={"one": probability},
        lesion_type={"cyst": probability},
    )
    for text in (html.verdict(result, POINT), html.table([result])):
        assert re.search(r"\b(0|0\.0+|100|100\.0+) ?%(?!\")", re.sub('style="[^"]*"', "", text)) is None


def test_names_cannot_carry_markup_into_the_page():
    evil = "<script>alert(1)</script>.png"
    for text in (html.alert(f"{evil}: broken."), html.table([Failure(evil, f"{evil}: broken.")])):
        assert "<script>" not in text
        assert "&lt;script&gt;" in text


def test_table_and_csv_say_the_same():
    results = [RESULT, Failure("=1+1.png", "=1+1.png: the file is empty; save it again.")]
    rows = list(csv.reader(io.StringIO(html.csv_text(results))))
    assert rows[0] == ["name", "verdict", "probability", "confidence", "assumed share of cancers", "lesion box", "note"]
    assert rows[1][:6] == ["scan.png", "Suspicious of malignancy", "0.731", "0.731", "", "10 20 30 40"]
    # A spreadsheet must not take a file's name for a formula.
    assert rows[2][0] == "'=1+1.png"
    assert len(set(map(len, rows))) == 1
    shown = html.table(results)
    assert "1 not read" in shown
    assert "<td>Suspicious of malignancy</td><td>73 %</td>" in shown


def test_the_table_holds_lesion_types_and_heat_maps_where_they_were_asked_for():
    grey = np.full((100, 120), 80, np.uint8)
    typed = replace(RESULT, grey=grey, lesion_type={"cyst": 0.2, "carcinoma": 0.8})
    small = html.thumbnail(typed)
    shown = html.table([typed, Failure("bad.png", "bad.png: it is empty; save it again.")], [small, None])
    assert '<th scope="col">lesion type</th>' in shown
    assert "cyst 20 %, carcinoma 80 %" in shown
    assert shown.count('src="data:image/jpeg;base64,') == 1
    # Every row has a cell for each column.
    assert shown.count("<td>") == 2 * shown.count("<th scope")
    assert "lesion type" not in html.table([RESULT])
    assert "heat map" not in html.table([RESULT], [None])


def test_a_verdict_tells_nothing_by_colour_alone():
    for result, sign in (
        (RESULT, "!"),
        (replace(RESULT, prediction="Benign"), "✓"),
        (replace(RESULT, uncertain=True), "?"),
    ):
        text = html.verdict(result, POINT)
        assert f">{sign}</span>" in text
        assert sentences.verdict(result) in text
        assert 'role="status"' in text


def test_picture_holds_image_box_and_map_without_a_file():
    text = html.picture(np.full((100, 120), 80, np.uint8), RESULT)
    assert text.count("data:image/") == 2
    assert 'viewBox="0 0 120 100"' in text
    assert "http" not in text
