"""What the detector gives of one image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from bus_hf.data.decoding.colour import MAX_OVERLAY
from bus_hf.errors import BusError
from bus_hf.files import replace_file
from bus_hf.inference.overlay import overlay
from bus_hf.views import Box

NO_LESION = "no lesion was found; this model compares lesions and is not made to rule one out"

# Fields that are pictures, or belong to one.
_PICTURES = ("grey", "heatmap", "heatmap_scale")


@dataclass(frozen=True)
class Prediction(Mapping[str, Any]):
    """What the ensemble gives of one image; `result["probability"]` is the same as `result.probability`.

    Args:
        name: of the image.
        prediction: "Malignant" or "Benign", by the operating point; the likeliest class, in title case, where the label
            set has more classes.
        probability: of malignancy, calibrated, 0..1.
        logit: the calibrated logit of malignancy: log-odds of `probability`, exact where that saturates.
        logits: logit of malignancy by member and view before calibration: what a network gives of one view, as held-out
            logits have it; of several classes the log-odds of the malignant one.
        confidence: probability of the predicted class, 0..1.
        uncertain: "not sure, refer": the logit lies in the abstention interval, or that contradicts the operating
            point, or nothing speaks of a cancer but no lesion was found either.
        members: probability of malignancy by each member alone, averaged over the views.
        views: the same by each view alone, averaged over the members.
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
        grey: uint8 (height, width): the image as the networks saw it; not copied.
        heatmap: float32 (height, width), 0..1: evidence for malignancy; None unless asked for.
        heatmap_scale: logits that 1.0 in the heat map stands for; a place's evidence is what the logit would be, bias
            aside, if the whole image looked like that place.
        note: a sentence on what was unusual, or None.
        lesion_type: probability of each class of the lesion-type classifier, 0..1; None unless asked for. It changes
            nothing else.
        prevalence: share of malignant images that `probability` assumes, 0..1.

    Examples:
        >>> import numpy as np
        >>> from bus_hf import BreastCancerDetector
        >>> from bus_hf.data.phantoms import phantom
        >>> detector = BreastCancerDetector.from_pretrained("checkpoints", members="light", device="cpu")
        >>> image, _ = phantom(np.random.default_rng(0), "malignant")
        >>> result = detector.predict(image, heatmap=True, name="phantom")
        >>> result["probability"] == result.probability
        True
        >>> result.plot().size == image.shape[::-1]
        True
        >>> result.save(FOLDER / "phantom.png").name
        'phantom.png'
    """

    name: str
    prediction: str
    probability: float
    logit: float
    logits: dict[str, dict[str, float]]
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
    grey: np.ndarray | None = field(compare=False)
    heatmap: np.ndarray | None = field(default=None, compare=False)
    heatmap_scale: float | None = None
    note: str | None = None
    lesion_type: dict[str, float] | None = None
    prevalence: float | None = None

    def __repr__(self) -> str:
        answer = f"{self.prediction}, not sure" if self.uncertain else self.prediction
        box = "no lesion found" if self.box is None else f"box {', '.join(f'{side:.0f}' for side in self.box)}"
        return (
            f"Prediction({self.name!r}: {answer}; probability {self.probability:.3f}, "
            f"threshold {self.threshold:.3f} at {self.operating_point}; {box})"
        )

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values, the box as [x, y, w, h]; without the image, the heat map and its scale."""
        plain = {key: value for key, value in self.items() if key not in _PICTURES}
        return plain | {"box": None if self.box is None else list(self.box), "shape": list(self.shape)}

    def without_images(self) -> Prediction:
        """The same without image and heat map, which are large: for whoever keeps many."""
        return replace(self, grey=None, heatmap=None)

    def plot(self, opacity: float = 0.5) -> Image.Image:
        """The image with the lesion box and, where it was asked for, the heat map over it.

        Args:
            opacity: of the heat map where it is strongest, 0..1.

        Returns:
            An RGB picture of the image's size.

        Raises:
            BusError: the image was dropped by `without_images`.
        """
        if self.grey is None:
            raise BusError("this prediction holds no image any more", where=self.name, remedy="plot it before that")
        return Image.fromarray(overlay(self.grey, self.heatmap, self.box, opacity))

    def save(self, path: str | Path, opacity: float = 0.5) -> Path:
        """Write `plot` as PNG, whole or not at all; returns the path.

        Raises:
            BusError: the name does not end in .png, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise BusError("the picture of a prediction is a PNG file", where=path, remedy="give a name ending in .png")
        picture = self.plot(opacity)
        try:
            with replace_file(path) as part:
                picture.save(part, "PNG")
        except OSError as error:
            reason = error.strerror or "the picture cannot be encoded"
            raise BusError(f"it cannot be written ({reason})", where=path, remedy="give another name") from None
        return path


@dataclass(frozen=True)
class Failure:
    """An image that could not be read: its name and one sentence with the remedy."""

    name: str
    error: str


def note(lesion_found: bool, colour_overlay: float) -> str | None:
    """What was unusual about an image, as a sentence without its full stop; None where nothing was."""
    parts = [] if lesion_found else [NO_LESION]
    if colour_overlay >= MAX_OVERLAY:
        parts.append(f"colour overlay covers {100 * colour_overlay:.0f} % of the image, which was read as grey")
    return "; ".join(parts) or None
