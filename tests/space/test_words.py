import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from bus_hf.detector import Failure, Prediction
from bus_hf.space import html, words
from bus_hf.views import Box

READING = Prediction(
    name="scan.png",
    prediction="Malignant",
    probability=0.731,
    logit=1.0,
    confidence=0.731,
    uncertain=False,
    members={"one": 0.7, "two": 0.76},
    views={"whole": 0.73},
    disagreement=0.03,
    box=Box(10, 20, 30.4, 40),
    box_source="found",
    lesion_confidence=0.97,
    operating_point="miss_5_in_100",
    threshold=0.21,
    shape=(100, 120),
    heatmap=np.zeros((100, 120), np.float32),
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("miss_5_in_100", "miss at most 5 in 100 cancers"),
        ("miss_25_in_1000", "miss at most 25 in 1,000 cancers"),
        ("best_balance", "best balance"),
    ],
)
def test_operating_points_in_words(name, said):
    assert words.point_words(name) == said


@pytest.mark.parametrize(("share", "said"), [(0.0, "under 1 %"), (0.731, "73 %"), (1.0, "over 99 %")])
def test_nobody_knows_for_certain(share, said):
    assert words.percent(share) == said


def test_three_verdicts():
    heading, sentence = words.verdict(READING)
    assert heading == "Suspicious of malignancy"
    assert "73 %" in sentence
    assert "21 %" in sentence
    assert "miss at most 5 in 100 cancers" in sentence
    assert words.verdict(replace(READING, prediction="Benign"))[0] == "No sign of malignancy"
    assert words.verdict(replace(READING, uncertain=True))[0] == "Not sure: refer"


def test_disagreement_in_words():
    said = [words.agreement(replace(READING, disagreement=value)) for value in (None, 0.03, 0.1, 0.3)]
    assert [text.split(" ")[0:3] for text in said[1:]] == [
        ["The", "networks", "agree:"],
        ["The", "networks", "differ"],
        ["The", "networks", "disagree:"],
    ]
    assert "no second opinion" in said[0]
    assert "30 points" in said[3]


def test_lesion_in_words():
    assert "it found: 30 × 40 pixels, 10 from the left, 20 from the top" in words.lesion(READING)
    assert "you drew" in words.lesion(replace(READING, box_source="given"))
    assert "No lesion was found" in words.lesion(replace(READING, box=None, box_source=None))


def test_names_cannot_carry_markup_into_the_page():
    evil = "<script>alert(1)</script>.png"
    for text in (html.alert(f"{evil}: broken."), html.table([Failure(evil, f"{evil}: broken.")])):
        assert "<script>" not in text
        assert "&lt;script&gt;" in text


def test_table_and_csv_say_the_same():
    results = [READING, Failure("=1+1.png", "=1+1.png: the file is empty; save it again.")]
    rows = list(csv.reader(io.StringIO(html.csv_text(results))))
    assert rows[0] == ["name", "verdict", "probability", "lesion box", "note"]
    assert rows[1][:4] == ["scan.png", "Suspicious of malignancy", "0.7310", "10 20 30 40"]
    # A spreadsheet must not take a file's name for a formula.
    assert rows[2][0] == "'=1+1.png"
    assert "1 not read" in html.table(results)


def test_reading_tells_nothing_by_colour_alone():
    for result, sign in (
        (READING, "!"),
        (replace(READING, prediction="Benign"), "✓"),
        (replace(READING, uncertain=True), "?"),
    ):
        text = html.reading(result)
        assert f">{sign}</span>" in text
        assert words.verdict(result)[0] in text
        assert 'role="status"' in text


def test_picture_holds_image_box_and_map_without_a_file():
    text = html.picture(np.full((100, 120), 80, np.uint8), READING)
    assert text.count("data:image/") == 2
    assert 'viewBox="0 0 120 100"' in text
    assert "http" not in text
