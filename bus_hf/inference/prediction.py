"""What the detector says of one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bus_hf.data.decoding.colour import MAX_OVERLAY
from bus_hf.views import Box

NO_LESION = "no lesion was found; this model compares lesions and is not made to rule one out"


@dataclass(frozen=True)
class Prediction(Mapping[str, Any]):
    """What the ensemble says of one image; `result["probability"]` reads the same as `result.probability`.

    Args:
        name: of the image.
        prediction: "Malignant" or "Benign", by the operating point; the likeliest class, in title case, where the label
            set has more classes.
        probability: of malignancy, calibrated, 0..1.
        logit: the calibrated logit of malignancy: log-odds of `probability`, exact where that saturates.
        confidence: probability of the predicted class, 0..1.
        uncertain: "not sure, refer": the logit lies in the band of abstention, or that contradicts the operating point,
            or nothing speaks of a cancer but no lesion was found either.
        members: probability of malignancy by each member alone.
        views: the same by each view alone, over all members.
        disagreement: standard deviation of the members' probabilities; None with one member.
        box: of the lesion in pixels of the original image, left, top, width, height; None where none was found.
        box_source: "found" by the lesion map or "given" by the caller; None without a box.
        lesion_confidence: peak of the lesion map, 0..1; None where the caller gave the box. A lesion counts as found
            from the manifest's `found_peak` on.
        colour_overlay: share of the image under a colour overlay, such as Doppler, 0..1.
        operating_point: name of the operating point used.
        threshold: the probability from which on this image is predicted malignant: that of the operating point, or a
            higher one where no lesion was found.
        shape: height and width of the image in pixels.
        heatmap: float32 (height, width), 0..1: evidence for malignancy; None unless asked for.
        heatmap_scale: logits that 1.0 in the heat map stands for; a place's evidence is what the logit would be, bias
            aside, if the whole image looked like that place.
        note: a sentence on what was unusual, or None.
        lesion_type: probability of each class of the lesion-type classifier, 0..1; None unless asked for. It changes
            nothing else.
        prevalence: share of malignant images that `probability` assumes, 0..1.
    """

    name: str
    prediction: str
    probability: float
    logit: float
    confidence: float
    uncertain: bool
    members: dict[str, float]
    views: dict[str, float]
    disagreement: float | None
    box: Box | None
    box_source: Literal["found", "given"] | None
    lesion_confidence: float | None
    colour_overlay: float
    operating_point: str
    threshold: float
    shape: tuple[int, int]
    heatmap: np.ndarray | None = field(default=None, compare=False, repr=False)
    heatmap_scale: float | None = None
    note: str | None = None
    lesion_type: dict[str, float] | None = None
    prevalence: float | None = None

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values, the box as [x, y, w, h]; without the heat map and its scale."""
        plain = {key: value for key, value in self.items() if key not in ("heatmap", "heatmap_scale")}
        return plain | {"box": None if self.box is None else list(self.box), "shape": list(self.shape)}


@dataclass(frozen=True)
class Failure:
    """An image that could not be read: its name and one sentence with the remedy."""

    name: str
    error: str


def note(lesion_found: bool, colour_overlay: float) -> str | None:
    """What was unusual about an image, in a sentence without its full stop; None where nothing was."""
    parts = [] if lesion_found else [NO_LESION]
    if colour_overlay >= MAX_OVERLAY:
        parts.append(f"colour overlay covers {100 * colour_overlay:.0f} % of the image, which was read as grey")
    return "; ".join(parts) or None
