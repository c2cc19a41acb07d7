"""Figures in plain words, the same on the page and in its table."""

from __future__ import annotations

import re

from bus_hf.detector import Prediction

DISCLAIMER = (
    "For research and teaching. This is not a medical device and must not decide about a patient. Images are read in "
    "memory and deleted; nothing about them is logged."
)

SECOND = (
    "One more network, asked because you wished it. It learned from a single collection and has no say "
    "in the probability above."
)

_POINT = re.compile(r"miss_(\d+)_in_(\d+)")
# Standard deviation of the members' probabilities up to which they are said to agree, or to differ.
_AGREE, _DIFFER = 0.05, 0.15


def point_words(name: str) -> str:
    """An operating point in words: `miss_5_in_100` is "miss at most 5 in 100 cancers"."""
    found = _POINT.fullmatch(name)
    return f"miss at most {found[1]} in {int(found[2]):,} cancers" if found else name.replace("_", " ")


def percent(share: float) -> str:
    """A probability as whole per cent; never 0 % or 100 %, which nobody can know."""
    return "under 1 %" if share < 0.01 else "over 99 %" if share > 0.99 else f"{share:.0%}".replace("%", " %")


def verdict(result: Prediction) -> tuple[str, str]:
    """A heading and a sentence for a reading."""
    chance = f"The calibrated probability of a malignant lesion is {percent(result.probability)}"
    point = point_words(result.operating_point)
    threshold = percent(result.threshold)
    if result.uncertain:
        return (
            "Not sure: refer",
            f"{chance}. That lies where this reader is too often wrong: let someone look at it who can decide.",
        )
    if result.prediction == "Malignant":
        return "Suspicious of malignancy", f"{chance}, at or above {threshold}: the threshold set to {point}."
    return "No sign of malignancy", f"{chance}, below {threshold}: the threshold set to {point}."


def agreement(result: Prediction) -> str:
    """What the members' disagreement says, in a sentence."""
    if result.disagreement is None:
        return "One network read this image, so there is no second opinion to compare."
    points = f"their probabilities differ by {100 * result.disagreement:.0f} points (standard deviation)"
    if result.disagreement <= _AGREE:
        return f"The networks agree: {points}."
    if result.disagreement <= _DIFFER:
        return f"The networks differ somewhat: {points}."
    return f"The networks disagree: {points}. Trust this reading less."


def lesion(result: Prediction) -> str:
    """Where the lesion is, in a sentence."""
    if result.box is None:
        return "No lesion was found, so the second look read the middle of the image."
    x, y, w, h = (round(value) for value in result.box)
    who = "you drew" if result.box_source == "given" else "it found"
    return f"The second look read the box that {who}: {w} × {h} pixels, {x} from the left, {y} from the top."
