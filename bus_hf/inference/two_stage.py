"""The two stages that an image is read in, for the detector, held-out logits and re-runs alike.

Stage 1: one member sees the global views; its lesion maps, merged on the original pixels, give the lesion box.
Stage 2: the lesion crops are cut around that box, and every member gives logits and maps of every view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from bus_hf.inference.runtime import Runtime
from bus_hf.views import GLOBAL_VIEWS, VIEWS, Box, Window, cut, find_box, merge, window

# An image of a batch, by its index, and the name of a view.
ImageView = tuple[int, str]


@dataclass(frozen=True)
class ImageOutputs:
    """What the members give of one image.

    Args:
        shape: height and width of the image in pixels.
        box: what the lesion crops were cut around, in pixels of the image; None where they are centre crops.
        peak: maximum of the lesion map, 0..1; None where no map was made.
        windows: the window of each view.
        logits: float32 (K,) of each member and view, before any calibration.
        cams: float32 (K, h, w), the class-activation map of each member and view.
    """

    shape: tuple[int, int]
    box: Box | None
    peak: float | None
    windows: dict[str, Window]
    logits: dict[str, dict[str, np.ndarray]]
    cams: dict[str, dict[str, np.ndarray]]


def two_stage(
    runtime: Runtime,
    images: Sequence[np.ndarray],
    *,
    locator: str,
    members: Sequence[str],
    min_peak: float,
    views: Sequence[str] = VIEWS,
    boxes: Mapping[int, Box | None] | None = None,
    every_map: bool = False,
) -> list[ImageOutputs]:
    """Find the lesion of each image and run every member on every view; no member runs on a view twice.

    Args:
        runtime: what computes the members.
        images: uint8 grey (H, W), of any shapes.
        locator: the member whose lesion map gives the box.
        members: those whose logits are wanted.
        min_peak: a lesion map whose maximum stays below this, 0..1, shows no lesion.
        views: those that `members` see.
        boxes: boxes that are known beforehand, by index of the image; None among them is an image without a lesion.
        every_map: make the lesion map of images with a known box too, for its peak.

    Raises:
        BusError: a number that the runtime gives is not finite.
    """
    known = dict(boxes or {})
    batch = _Batch(runtime, images)
    searched = [index for index in range(len(images)) if every_map or index not in known]
    located = _locate(batch, locator, searched, min_peak)
    peaks = {index: peak for index, (_, peak) in located.items()}
    batch.boxes = {index: box for index, (box, _) in located.items()} | known
    batch.run(members, list(product(range(len(images)), views)))
    return [batch.outputs_of(index, members, views, peaks.get(index)) for index in range(len(images))]


def evidence_map(
    outputs: ImageOutputs, member_weights: Mapping[str, float], view_weights: Mapping[str, float], malignant: int
) -> np.ndarray:
    """Evidence for malignancy on the original pixels: the weighted mean of the class-activation maps, where positive.

    Of several classes the evidence is how far the malignant class lies above the mean of all: a softmax does not change
    when every class gains alike.

    Args:
        outputs: of one image.
        member_weights: weight of each member; others do not count.
        view_weights: weight of each view; others do not count.
        malignant: index of the malignant class, where there are several logits.

    Returns:
        float32 (H, W), in logits before any calibration, not negative; 0 where no view lies.
    """
    pairs = list(product(member_weights, view_weights))
    cams = [outputs.cams[member][view] for member, view in pairs]
    mean = merge(
        [cam[0] if len(cam) == 1 else cam[malignant] - cam.mean(axis=0) for cam in cams],
        [outputs.windows[view] for _, view in pairs],
        outputs.shape,
        [member_weights[member] * view_weights[view] for member, view in pairs],
    )
    return np.maximum(mean, 0)


def _locate(
    batch: _Batch, locator: str, indices: Sequence[int], min_peak: float
) -> dict[int, tuple[Box | None, float]]:
    """Lesion box, and peak of the lesion map, by index of the image."""
    batch.run([locator], list(product(indices, GLOBAL_VIEWS)))
    located = {}
    for index in indices:
        maps = [batch.lesion_map(locator, (index, view)) for view in GLOBAL_VIEWS]
        lesion_map = merge(maps, [batch.window((index, view)) for view in GLOBAL_VIEWS], batch.shape(index))
        located[index] = find_box(lesion_map, min_peak), float(lesion_map.max())
    return located


class _ViewOutputs(NamedTuple):
    """One member's logits (K,), class-activation map (K, h, w) and lesion map (h', w') of one view."""

    logits: np.ndarray
    cam: np.ndarray
    lesion: np.ndarray | None


class _Batch:
    """Images whose squares are cut once a size, and what the members that ran have given."""

    def __init__(self, runtime: Runtime, images: Sequence[np.ndarray]) -> None:
        self.boxes: Mapping[int, Box | None] = {}
        self._runtime = runtime
        self._images = images
        self._squares: dict[tuple[ImageView, int], np.ndarray] = {}
        self._outputs: dict[tuple[str, ImageView], _ViewOutputs] = {}

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of an image."""
        height, width = self._images[index].shape[:2]
        return height, width

    def window(self, image_view: ImageView) -> Window:
        """The window of a view; that of a lesion crop depends on `boxes`."""
        index, view = image_view
        return window(view, self.shape(index), self.boxes.get(index))

    def run(self, members: Sequence[str], image_views: Sequence[ImageView]) -> None:
        """Run members on the views that they have not seen yet, each in one call."""
        pending = {
            member: [image_view for image_view in image_views if (member, image_view) not in self._outputs]
            for member in members
        }
        squares = {
            member: np.stack([self._square(image_view, self._runtime.input_size(member)) for image_view in unseen])
            for member, unseen in pending.items()
            if unseen
        }
        if self._runtime.side_by_side and len(squares) > 1:
            with ThreadPoolExecutor(len(squares)) as threads:
                outputs = list(threads.map(self._runtime, squares, squares.values()))
        else:
            outputs = list(map(self._runtime, squares, squares.values()))
        for member, given in zip(squares, outputs, strict=True):
            for row, image_view in enumerate(pending[member]):
                lesion = None if given.lesion is None else given.lesion[row]
                self._outputs[member, image_view] = _ViewOutputs(given.logits[row], given.cams[row], lesion)

    def lesion_map(self, member: str, image_view: ImageView) -> np.ndarray:
        """The lesion map that a member gave of a view; ValueError for a member that makes none."""
        lesion = self._outputs[member, image_view].lesion
        if lesion is None:
            raise ValueError(f"{member} has no lesion map")
        return lesion

    def outputs_of(self, index: int, members: Sequence[str], views: Sequence[str], peak: float | None) -> ImageOutputs:
        """What `members` gave of an image in `views`."""
        given = {member: {view: self._outputs[member, (index, view)] for view in views} for member in members}
        return ImageOutputs(
            self.shape(index),
            self.boxes[index],
            peak,
            {view: self.window((index, view)) for view in views},
            {member: {view: outputs.logits for view, outputs in row.items()} for member, row in given.items()},
            {member: {view: outputs.cam for view, outputs in row.items()} for member, row in given.items()},
        )

    def _square(self, image_view: ImageView, size: int) -> np.ndarray:
        if (image_view, size) not in self._squares:
            self._squares[image_view, size] = cut(self._images[image_view[0]], self.window(image_view), size)
        return self._squares[image_view, size]
