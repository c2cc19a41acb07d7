"""Results in plain words, the same on the page, in its tables and on the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bus_hf.ensemble.manifest import Ensemble, OperatingPoint
    from bus_hf.inference.prediction import Prediction

DISCLAIMER = (
    "For research and teaching. This is not a medical device and must not decide about a patient. Images are kept in "
    "memory alone: an upload until it is read, the picture that you see for at most 15 minutes after its last use. "
    "Nothing about them is logged."
)

LESION_TYPE = (
    "The lesion-type classifier runs because you asked for it. It was trained on a single collection and does not "
    "change the probability above."
)

MEASURED_ON = "among the images it was measured on"

UNSURE, SUSPICIOUS, CLEAR = "Not sure: refer", "Suspicious of malignancy", "No sign of malignancy"

_POINT = re.compile(r"miss_(\d+)_in_(\d+)")
# Names of the malignant class in all label sets, as `Prediction.prediction` writes them.
_MALIGNANT = ("Malignant", "Carcinoma")
# Standard deviation of the members' probabilities up to which they are said to agree, or to differ.
_AGREE, _DIFFER = 0.05, 0.15


def point_words(name: str) -> str:
    """The name of an operating point in words: `miss_5_in_100` is "miss at most 5 in 100 cancers"."""
    match = _POINT.fullmatch(name)
    return f"miss at most {match[1]} in {int(match[2]):,} cancers" if match else name.replace("_", " ")


def measured(point: OperatingPoint, part: bool = False) -> str:
    """What was measured at an operating point, and where: cancers that it catches, and others that it clears.

    Args:
        point: an operating point with its measured rates.
        part: only some members were averaged; the rates were not measured with them.
    """
    caught, cleared = _in_100(point.sensitivity[0]), _in_100(point.specificity[0])
    condition = " (measured with all members, not with the light one alone)" if part else ""
    return f"catches {caught} cancers and clears {cleared} others {MEASURED_ON}{condition}"


def choice(point: OperatingPoint) -> str:
    """The measured rates alone, short enough for a phone."""
    return f"{percent(point.sensitivity[0])} of cancers, {percent(point.specificity[0])} of others"


def without_lesion(manifest: Ensemble, point: OperatingPoint) -> str:
    """The threshold for images in which no lesion was found, in a sentence."""
    from bus_hf.probabilities import sigmoid

    threshold = sigmoid(manifest.threshold_logit(point, lesion_found=False))
    return f"Where no lesion was found: suspicious from {percent(threshold)} on, else not sure."


def percent(share: float) -> str:
    """A probability as whole per cent; never 0 % or 100 %, which no model can know."""
    return "under 1 %" if share < 0.01 else "over 99 %" if share > 0.99 else f"{share:.0%}".replace("%", " %")


def verdict(result: Prediction) -> str:
    """One of three: `UNSURE`, `SUSPICIOUS` or `CLEAR`."""
    if result.uncertain:
        return UNSURE
    return SUSPICIOUS if result.prediction in _MALIGNANT else CLEAR


def confidence(result: Prediction) -> float | None:
    """Probability of the verdict, 0..1; None for "not sure", which says nothing that could be right."""
    return None if result.uncertain else result.confidence


def plain(result: Prediction) -> dict[str, Any]:
    """A result as JSON-ready values with its verdict in words, and the confidence of that verdict."""
    return result.to_dict() | {"verdict": verdict(result), "confidence": confidence(result)}


def explanation(result: Prediction, point: OperatingPoint, part: bool = False) -> str:
    """Why the verdict is what it is, in a sentence or two; `part` as in `measured`."""
    without_lesion = result.box is None
    if result.uncertain and without_lesion:
        return "Without a lesion the probability says little: refer to someone who can decide."
    if result.uncertain:
        return "That lies where this model is too often wrong: refer to someone who can decide."
    if without_lesion:
        return "The image as a whole looks like those with a cancer, although no lesion was found."
    where = "at or above" if result.prediction in _MALIGNANT else "below"
    return f"That is {where} the threshold of {percent(result.threshold)}, which {measured(point, part)}."


def assumption(result: Prediction) -> str:
    """The share of cancers that a probability assumes, in a sentence; empty where the ensemble does not say."""
    if result.prevalence is None:
        return ""
    share = percent(result.prevalence)
    return f"The probability assumes that {share} of such images show a cancer; where fewer do, it falls."


def agreement(result: Prediction) -> str:
    """What the members' disagreement says, in a sentence."""
    if result.disagreement is None:
        return "One network read this image, so there is no other to compare it with."
    points = f"their probabilities differ by {100 * result.disagreement:.0f} points (standard deviation)"
    if result.disagreement <= _AGREE:
        return f"The networks agree: {points}."
    if result.disagreement <= _DIFFER:
        return f"The networks differ somewhat: {points}."
    return f"The networks disagree: {points}. Trust this result less."


def lesion(result: Prediction) -> str:
    """Where the lesion is, in a sentence, and how clearly it was found where the result says so."""
    if result.box is None:
        peak = result.lesion_confidence
        return "No lesion was found" + ("." if peak is None else f": the map of lesions peaks at {percent(peak)}.")
    x, y, w, h = (round(value) for value in result.box)
    who = "you drew" if result.box_source == "given" else "was found"
    clear = result.lesion_confidence
    how = "" if clear is None else f" (confidence {percent(clear)})"
    return f"The lesion crops show the box that {who}{how}: {w} × {h} pixels, {x} from the left, {y} from the top."


def note(result: Prediction) -> str:
    """The note as sentences with a capital and a full stop; empty where nothing was unusual."""
    text = (result.note or "").strip()
    return "" if not text else text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _in_100(share: float) -> str:
    """A rate as "95 in 100"; never 0 or 100, which no finite number of images can show."""
    return "under 1 in 100" if share < 0.01 else "over 99 in 100" if share > 0.99 else f"{100 * share:.0f} in 100"
