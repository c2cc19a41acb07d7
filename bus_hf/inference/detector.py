"""Reading images: global views, lesion box, lesion crops, weighted vote, calibration."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL.Image import Image

from bus_hf.data.images import Scan, Source, read_scan
from bus_hf.ensemble import download
from bus_hf.ensemble.folder import choose_members, read_manifest
from bus_hf.ensemble.manifest import Ensemble, OperatingPoint, sigmoid
from bus_hf.errors import BusError
from bus_hf.inference.prediction import Failure, Prediction, note
from bus_hf.inference.runtime import Runtime, open_runtime
from bus_hf.probabilities import check_finite, class_probabilities, log_odds
from bus_hf.views import GLOBAL_VIEWS, VIEWS, Box, Window, cut, find_box, merge, window

# What is one image, or one file, although it can be iterated.
_ONE = (str, Path, bytes, bytearray, memoryview, np.ndarray, Image, Scan, io.IOBase, Mapping)

# Logits that 1.0 in a heat map stands for at least, so that weak evidence stays pale: a lesion on a tenth of the image
# that is this hot everywhere raises the whole logit by 2.
_FULL_HEAT = 20.0


class _Image(NamedTuple):
    name: str
    grey: np.ndarray
    colour_overlay: float
    given: Box | None


class _Reading(NamedTuple):
    """One member's logits (K,) and class-activation map (K, h, w) of one view."""

    logits: np.ndarray
    cam: np.ndarray


class BreastCancerDetector:
    """An ensemble ready to read images; safe to call from several threads.

    Make one with `from_pretrained`.
    """

    def __init__(self, manifest: Ensemble, runtime: Runtime, members: Sequence[str] | None = None) -> None:
        self.manifest = manifest
        self._runtime = runtime
        chosen = choose_members(manifest, members)
        total = sum(member.weight for member in chosen)
        # Chosen members that have no weight in the whole ensemble vote equally.
        self._members = {
            member.name: member.weight / total if total else 1 / len(chosen)
            for member in chosen
            if member.weight or not total
        }
        self._views = {view: manifest.views[view] for view in VIEWS if manifest.views.get(view)}

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | Path = "checkpoints",
        *,
        revision: str | None = None,
        device: str | None = None,
        members: Sequence[str] | None = None,
    ) -> BreastCancerDetector:
        """Load an ensemble; every file is checked against the manifest's hash first.

        Args:
            folder_or_hub_id: folder that holds `ensemble.json`, or a Hub id `owner/name`.
            revision: branch, tag or commit of the Hub id.
            device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.
            members: names of the members that vote, or "light"; None: all. Temperature and operating points stay those
                of the whole ensemble, so the probabilities of a part are less well calibrated.

        Raises:
            BusError: not found, out of reach, a wrong manifest, a file that is missing, foreign or a pickle.
        """
        folder = download.pull(folder_or_hub_id, revision, members)
        manifest = read_manifest(folder)
        return cls(manifest, open_runtime(folder, manifest, device, members), members)

    def predict(
        self,
        source: Source | Scan,
        *,
        roi: Box | Sequence[float] | None = None,
        operating_point: str | None = None,
        heatmap: bool = False,
        lesion_type: bool = False,
        name: str | None = None,
    ) -> Prediction:
        """Read one image.

        Args:
            source: what `bus_hf.data.images.read_scan` takes (path, bytes, PIL image or array), or a `Scan`.
            roi: lesion box in pixels of the image, (left, top, width, height); replaces the found one.
            operating_point: name of one of the manifest's; None takes its default.
            heatmap: make the heat map too.
            lesion_type: ask the lesion-type classifier too.
            name: of the image, for the result and for errors; a path is its own name.

        Raises:
            BusError: an image that cannot be read, a box that is not inside it, an unknown operating point, a second
                reading where the ensemble has none.
        """
        point = self._point(operating_point)
        self._check_second(lesion_type)
        title = _title(source, name, 1)
        scan = source if isinstance(source, Scan) else read_scan(source, name=title)
        given = None if roi is None else _checked(roi, scan.grey.shape, title)
        return self._read([_Image(title, *scan, given)], point, heatmap, lesion_type)[0]

    def predict_many(
        self,
        sources: Iterable[Source | Scan],
        *,
        batch_size: int = 8,
        operating_point: str | None = None,
        heatmap: bool = False,
        lesion_type: bool = False,
    ) -> Iterator[Prediction | Failure]:
        """Read images as they come, in order; one that cannot be read gives a `Failure` in its place.

        Args:
            sources: as in `predict`; any iterable, read `batch_size` images at a time and never held as a whole.
            batch_size: images that are read together.
            operating_point: name of one of the manifest's; None takes its default.
            heatmap: make the heat maps too.
            lesion_type: ask the lesion-type classifier too.

        Raises:
            BusError: at once, for a single image instead of several, an unknown operating point, a batch size below 1,
                or a lesion-type classifier where the ensemble has none.
        """
        if isinstance(sources, _ONE) or not isinstance(sources, Iterable):
            raise BusError(
                f"predict_many reads several images, and this is one {type(sources).__name__}",
                remedy="give a list of images, or call predict",
            )
        point = self._point(operating_point)
        self._check_second(lesion_type)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise BusError(f"the batch size is {batch_size!r}", remedy="give a whole number of 1 or more")
        return self._stream(sources, batch_size, point, heatmap, lesion_type)

    def _stream(
        self, sources: Iterable[Source | Scan], batch_size: int, point: OperatingPoint, heatmap: bool, second: bool
    ) -> Iterator[Prediction | Failure]:
        numbered = enumerate(sources, start=1)
        while chunk := list(itertools.islice(numbered, batch_size)):
            decoded = [_decoded(source, number) for number, source in chunk]
            images = [entry for entry in decoded if isinstance(entry, _Image)]
            read = iter(self._read(images, point, heatmap, second) if images else [])
            for entry in decoded:
                yield entry if isinstance(entry, Failure) else next(read)

    def _point(self, name: str | None) -> OperatingPoint:
        wanted = self.manifest.default_operating_point if name is None else name
        for point in self.manifest.operating_points:
            if point.name == wanted:
                return point
        names = ", ".join(point.name for point in self.manifest.operating_points)
        raise BusError(f"there is no operating point '{wanted}'", remedy=f"choose one of {names}")

    def _check_second(self, asked: bool) -> None:
        if asked and self.manifest.lesion_type is None:
            raise BusError("this ensemble has no lesion-type classifier", remedy="do not ask for one")

    def _read(self, images: list[_Image], point: OperatingPoint, heatmap: bool, second: bool) -> list[Prediction]:
        """All views on all images together, then each image's vote."""
        readings: dict[tuple[str, int, str], _Reading] = {}
        squares: dict[tuple[int, str, int], np.ndarray] = {}
        windows: dict[tuple[int, str], Window] = {}

        def look(member: str, wanted: list[tuple[int, str]]) -> list[np.ndarray]:
            """Let `member` read (image, view) pairs that it has not read yet; returns their lesion maps."""
            fresh = [pair for pair in wanted if (member, *pair) not in readings]
            if not fresh:
                return []
            size = self._runtime.input_size(member)
            for index, view in fresh:
                if (index, view, size) not in squares:
                    squares[index, view, size] = cut(images[index].grey, windows[index, view], size)
            out = self._runtime(member, np.stack([squares[index, view, size] for index, view in fresh]))
            for pair, logits, cam in zip(fresh, out.logits, out.cams, strict=True):
                readings[member, *pair] = _Reading(logits, cam)
            return [] if out.lesion is None else list(out.lesion)

        # Global views: where the lesion is, unless the caller said so.
        shapes = [image.grey.shape for image in images]
        for (index, shape), view in itertools.product(enumerate(shapes), GLOBAL_VIEWS):
            windows[index, view] = window(view, shape)
        unknown = [index for index, image in enumerate(images) if image.given is None]
        maps = look(self.manifest.lesion_map.member, list(itertools.product(unknown, GLOBAL_VIEWS)))
        boxes = [image.given for image in images]
        peaks: list[float | None] = [None] * len(images)
        for place, index in enumerate(unknown):
            own = maps[place * len(GLOBAL_VIEWS) : (place + 1) * len(GLOBAL_VIEWS)]
            merged = merge(own, [windows[index, view] for view in GLOBAL_VIEWS], shapes[index])
            peaks[index] = float(merged.max())
            boxes[index] = find_box(merged, self.manifest.lesion_map.min_peak)
        # Lesion crops, and what is left of the first.
        for (index, box), view in itertools.product(enumerate(boxes), self._views):
            windows.setdefault((index, view), window(view, shapes[index], box))
        other = self.manifest.lesion_type if second else None
        for member in (*self._members, *((other.member.name,) if other else ())):
            look(member, list(itertools.product(range(len(images)), self._views)))
        seconds: list[dict[str, float] | None] = [None] * len(images)
        if other:
            of_views = np.array(list(self._views.values()))
            for index in range(len(images)):
                logits = [readings[other.member.name, index, view].logits for view in self._views]
                chances = class_probabilities(of_views @ np.array(logits, np.float64) / other.temperature)
                seconds[index] = dict(zip(other.labels, map(float, chances), strict=True))
        return [
            self._vote(
                image,
                boxes[index],
                peaks[index],
                {(member, view): readings[member, index, view] for member in self._members for view in self._views},
                {view: windows[index, view] for view in self._views},
                point,
                heatmap,
                seconds[index],
            )
            for index, image in enumerate(images)
        ]

    def _vote(
        self,
        image: _Image,
        box: Box | None,
        peak: float | None,
        readings: Mapping[tuple[str, str], _Reading],
        windows: Mapping[str, Window],
        point: OperatingPoint,
        heatmap: bool,
        second: dict[str, float] | None,
    ) -> Prediction:
        manifest = self.manifest
        by_member = np.array(list(self._members.values()))
        by_view = np.array(list(self._views.values()))
        logits = np.array(
            [[readings[member, view].logits for view in self._views] for member in self._members], np.float64
        )
        # (members, K), (views, K), (K,): weighted means of logits, calibrated alike.
        of_members = np.einsum("mvk,v->mk", logits, by_view) / manifest.temperature + manifest.bias
        of_views = np.einsum("mvk,m->vk", logits, by_member) / manifest.temperature + manifest.bias
        calibrated = np.einsum("mk,m->k", of_members, by_member)
        classes = class_probabilities(calibrated)
        malignant = manifest.malignant
        logit = log_odds(calibrated, malignant)
        alone = [float(value) for value in class_probabilities(of_members)[:, malignant]]
        lesion_found = peak is None or peak >= manifest.lesion_map.found_peak
        threshold = manifest.threshold_logit(point, lesion_found)
        predicted = int(classes.argmax())
        if len(classes) == 2:
            predicted = malignant if logit >= threshold else 1 - malignant
        heat, scale = self._heat(readings, windows, image.grey.shape) if heatmap else (None, None)
        return Prediction(
            name=image.name,
            prediction=manifest.labels[predicted].title(),
            probability=float(classes[malignant]),
            logit=logit,
            confidence=float(classes[predicted]),
            uncertain=manifest.unsure(logit, predicted == malignant, lesion_found),
            members=dict(zip(self._members, alone, strict=True)),
            views=dict(zip(self._views, map(float, class_probabilities(of_views)[:, malignant]), strict=True)),
            disagreement=float(np.std(alone)) if len(alone) > 1 else None,
            box=box if lesion_found else None,
            box_source=None if not lesion_found else "found" if image.given is None else "given",
            lesion_confidence=peak,
            colour_overlay=image.colour_overlay,
            operating_point=point.name,
            threshold=sigmoid(threshold),
            shape=(image.grey.shape[0], image.grey.shape[1]),
            heatmap=heat,
            heatmap_scale=scale,
            note=note(lesion_found, image.colour_overlay),
            lesion_type=second,
            prevalence=manifest.fitted_on.prevalence,
        )

    def _heat(
        self, readings: Mapping[tuple[str, str], _Reading], windows: Mapping[str, Window], shape: tuple[int, int]
    ) -> tuple[np.ndarray, float]:
        """Positive evidence for malignancy on the original pixels, 0..1, and the logits that 1 stands for."""
        mean = merge(
            [self._evidence(reading.cam) for reading in readings.values()],
            [windows[view] for _, view in readings],
            shape,
            [self._members[member] * self._views[view] for member, view in readings],
        )
        evidence = np.maximum(mean, 0) / self.manifest.temperature
        check_finite("a place of the heat map", evidence)
        scale = max(float(evidence.max()), _FULL_HEAT)
        return (evidence / scale).astype(np.float32), scale

    def _evidence(self, cam: np.ndarray) -> np.ndarray:
        """(h, w) evidence for malignancy: of one logit itself, of several how far it is above their mean."""
        return cam[0] if len(cam) == 1 else cam[self.manifest.malignant] - cam.mean(axis=0)


def _title(source: Source | Scan, name: str | None, number: int) -> str:
    if name is not None:
        return name
    return str(source) if isinstance(source, str | Path) else f"image {number}"


def _decoded(source: Source | Scan, number: int) -> _Image | Failure:
    name = _title(source, None, number)
    try:
        scan = source if isinstance(source, Scan) else read_scan(source, name=name)
        return _Image(name, *scan, None)
    except BusError as error:
        return Failure(name, str(error))


def _checked(roi: Box | Sequence[float], shape: tuple[int, ...], name: str) -> Box:
    """The caller's box as a Box; BusError unless it is a finite one inside the image."""
    height, width = shape[:2]
    remedy = f"give left, top, width and height in pixels, inside {width} x {height}"
    try:
        # The digits of a text would count as numbers.
        box = Box(*map(float, () if isinstance(roi, str | bytes) else roi))
    except (TypeError, ValueError):
        raise BusError("the lesion box is not four numbers", where=name, remedy=remedy) from None
    if not all(map(math.isfinite, box)):
        raise BusError("the lesion box holds a number that is not finite", where=name, remedy=remedy)
    if box.w <= 0 or box.h <= 0:
        raise BusError(f"the lesion box is {box.w:g} x {box.h:g} pixels", where=name, remedy=remedy)
    if box.x < 0 or box.y < 0 or box.x + box.w > width or box.y + box.h > height:
        raise BusError("the lesion box is not inside the image", where=name, remedy=remedy)
    return box
