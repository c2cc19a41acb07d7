from dataclasses import replace

import pytest

from bus_hf.reporting import sentences
from tests.predictions import POINT, RESULT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("miss_5_in_100", "miss at most 5 in 100 cancers"),
        ("miss_25_in_1000", "miss at most 25 in 1,000 cancers"),
        ("best_balance", "best balance"),
    ],
)
def test_operating_points_in_words(name, text):
    assert sentences.point_words(name) == text


@pytest.mark.parametrize(("share", "text"), [(0.0, "under 1 %"), (0.731, "73 %"), (1.0, "over 99 %")])
def test_nobody_knows_for_certain(share, text):
    assert sentences.percent(share) == text


@pytest.mark.parametrize(
    ("prediction", "uncertain", "text"),
    [
        ("Malignant", False, "Suspicious of malignancy"),
        ("Carcinoma", False, "Suspicious of malignancy"),
        ("Benign", False, "No sign of malignancy"),
        ("Normal", False, "No sign of malignancy"),
        ("Malignant", True, "Not sure: refer"),
        ("Benign", True, "Not sure: refer"),
    ],
)
def test_three_verdicts(prediction, uncertain, text):
    assert sentences.verdict(replace(RESULT, prediction=prediction, uncertain=uncertain)) == text


def test_a_verdict_says_its_threshold_and_what_was_measured_where():
    text = sentences.explanation(RESULT, POINT)
    assert "at or above the threshold of 21 %" in text
    assert "catches 95 in 100 cancers and clears 70 in 100 others among the images it was measured on" in text
    assert "below the threshold" in sentences.explanation(replace(RESULT, prediction="Benign"), POINT)
    assert "too often wrong" in sentences.explanation(replace(RESULT, uncertain=True), POINT)


def test_a_part_of_the_members_shows_no_rates_as_its_own():
    text = sentences.explanation(RESULT, POINT, part=True)
    assert "(measured with all members, not with the light one alone)." in text
    assert "all members" not in sentences.explanation(RESULT, POINT)


def test_a_choice_is_short_enough_for_a_phone():
    assert sentences.choice(POINT) == "95 % of cancers, 70 % of others"
    assert sentences.choice(replace(POINT, sensitivity=(1.0, 0.9, 1.0))).startswith("over 99 % of cancers")


def test_no_measured_rate_is_none_or_all():
    text = sentences.measured(replace(POINT, sensitivity=(1.0, 0.9, 1.0), specificity=(0.0, 0.0, 0.1)))
    assert "over 99 in 100 cancers" in text
    assert "under 1 in 100 others" in text


def test_a_probability_says_what_share_of_cancers_it_assumes():
    assert sentences.assumption(RESULT) == ""
    assert "31 % of such images show a cancer" in sentences.assumption(replace(RESULT, prevalence=0.306))


def test_confidence_is_of_the_verdict_given():
    assert sentences.plain(RESULT)["confidence"] == RESULT.confidence
    assert sentences.plain(replace(RESULT, uncertain=True))["confidence"] is None


def test_an_image_without_a_lesion_is_explained_as_such():
    no_lesion = replace(RESULT, box=None, box_source=None, lesion_confidence=0.4)
    assert sentences.lesion(no_lesion) == "No lesion was found: the map of lesions peaks at 40 %."
    assert "no lesion was found" in sentences.explanation(no_lesion, POINT).lower()
    unsure = sentences.explanation(replace(no_lesion, prediction="Benign", uncertain=True), POINT)
    assert "the probability says little" in unsure
    assert "too often wrong" not in unsure


def test_disagreement_in_words():
    texts = [sentences.agreement(replace(RESULT, disagreement=value)) for value in (None, 0.03, 0.1, 0.3)]
    assert [text.split(" ")[0:3] for text in texts[1:]] == [
        ["The", "networks", "agree:"],
        ["The", "networks", "differ"],
        ["The", "networks", "disagree:"],
    ]
    assert "no other to compare" in texts[0]
    assert "30 points" in texts[3]


def test_lesion_in_words():
    assert "was found (confidence 97 %): 30 × 40 pixels, 10 from the left, 20 from the top" in sentences.lesion(RESULT)
    assert "you drew: 30" in sentences.lesion(replace(RESULT, box_source="given", lesion_confidence=None))
