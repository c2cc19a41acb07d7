"""The detector: an ensemble that gives each image a calibrated probability, a lesion box and a heat map."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image

from bus_hf.data.images import Scan, Source, read_scan
from bus_hf.ensemble import download
from bus_hf.ensemble.folder import choose_members, read_manifest
from bus_hf.ensemble.manifest import Ensemble, LesionType, OperatingPoint
from bus_hf.errors import BusError
from bus_hf.inference.prediction import Failure, Prediction, note
from bus_hf.inference.runtime import Runtime, open_runtime
from bus_hf.inference.two_stage import ImageOutputs, evidence_map, two_stage
from bus_hf.probabilities import check_finite, class_probabilities, log_odds, sigmoid
from bus_hf.views import VIEWS, Box

# What is one image, or one file, although it can be iterated.
_ONE = (str, Path, bytes, bytearray, memoryview, np.ndarray, Image, Scan, io.IOBase, Mapping)

# Logits that 1.0 in a heat map stands for at least, so that weak evidence stays pale: a lesion on a tenth of the image
# that is this hot everywhere raises the whole logit by 2.
_FULL_HEAT = 20.0


class _Image(NamedTuple):
    name: str
    grey: np.ndarray
    colour_overlay: float
    roi: Box | None


class BreastCancerDetector:
    """An ensemble ready to run on images; safe to call from several threads.

    Make one with `from_pretrained`.

    Attributes:
        manifest: of the ensemble.
        members: weight of each member that runs; they sum to 1.
        views: weight of each view that they see; they sum to 1.

    Examples:
        >>> import numpy as np
        >>> from bus_hf.data.phantoms import phantom
        >>> detector = BreastCancerDetector.from_pretrained("checkpoints", members="light", device="cpu")
        >>> image, _ = phantom(np.random.default_rng(0), "malignant")
        >>> result = detector.predict(image, name="phantom")
        >>> result
        Prediction('phantom': Malignant; probability 0.865, threshold 0.070 at miss_5_in_100; box 158, 83, 84, 96)
        >>> list(result.views)
        ['whole', 'flip', 'wider', 'lesion', 'around']
        >>> [type(one).__name__ for one in detector.predict_many([image, b"no image"])]
        ['Prediction', 'Failure']
        >>> detector.at(result, "miss_10_in_100").operating_point
        'miss_10_in_100'
    """

    def __init__(self, manifest: Ensemble, runtime: Runtime, members: Sequence[str] | None = None) -> None:
        self.manifest = manifest
        self._runtime = runtime
        chosen = choose_members(manifest, members)
        total = sum(member.weight for member in chosen)
        # Chosen members that have no weight in the whole ensemble weigh the same.
        self.members = {
            member.name: member.weight / total if total else 1 / len(chosen)
            for member in chosen
            if member.weight or not total
        }
        self.views = {view: manifest.views[view] for view in VIEWS if manifest.views.get(view)}

    def __repr__(self) -> str:
        manifest = self.manifest
        points = [f"{point.name}{_default(point, manifest)}" for point in manifest.operating_points]
        return (
            f"BreastCancerDetector({manifest.name} {manifest.version}; "
            f"members: {_weighted(self.members)}; views: {_weighted(self.views)}; "
            f"device: {self._runtime.device}; operating points: {', '.join(points)})"
        )

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
            members: names of the members that run, or "light"; None: all. Temperature and operating points stay those
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
        """Run on one image.

        Args:
            source: what `bus_hf.data.images.read_scan` takes (path, bytes, PIL image or array), or a `Scan`.
            roi: lesion box in pixels of the image, (left, top, width, height); replaces the found one.
            operating_point: name of one of the manifest's; None takes its default.
            heatmap: make the heat map too.
            lesion_type: ask the lesion-type classifier too.
            name: of the image, for the result and for errors; a path is its own name.

        Raises:
            BusError: an image that cannot be read, a box that is not inside it, an unknown operating point, or a
                lesion-type classifier where the ensemble has none.
        """
        point = self._point(operating_point)
        classifier = self._classifier(lesion_type)
        title = _title(source, name, 1)
        scan = source if isinstance(source, Scan) else read_scan(source, name=title)
        box = None if roi is None else _checked(roi, scan.grey.shape, title)
        return self._predict([_Image(title, *scan, box)], point, heatmap, classifier)[0]

    def predict_many(
        self,
        sources: Iterable[Source | Scan],
        *,
        batch_size: int = 8,
        operating_point: str | None = None,
        heatmap: bool = False,
        lesion_type: bool = False,
    ) -> Iterator[Prediction | Failure]:
        """Run on images as they come, in order; one that cannot be read gives a `Failure` in its place.

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
        classifier = self._classifier(lesion_type)
        if not isinstance(batch_size, int) or batch_size < 1:
            raise BusError(f"the batch size is {batch_size!r}", remedy="give a whole number of 1 or more")
        return self._stream(sources, batch_size, point, heatmap, classifier)

    def at(self, prediction: Prediction, operating_point: str) -> Prediction:
        """A prediction of this detector as another operating point has it, from its logit: no network runs.

        Raises:
            BusError: an unknown operating point.
        """
        point = self._point(operating_point)
        # A prediction has a box if and only if a lesion was found.
        lesion_found = prediction.box is not None
        if len(self.manifest.labels) > 2:
            # Of several classes the likeliest is the answer at every operating point.
            threshold = float(sigmoid(self.manifest.threshold_logit(point, lesion_found)))
            return dataclasses.replace(prediction, operating_point=point.name, threshold=threshold)
        probabilities = class_probabilities(np.array([prediction.logit]))
        return dataclasses.replace(prediction, **self._decision(probabilities, prediction.logit, lesion_found, point))

    def view_logits(self, prediction: Prediction) -> dict[str, float]:
        """Logit of malignancy by each view before calibration, averaged over the members by their weights.

        Their mean by the weights of the views, divided by the temperature, plus the bias, is `prediction.logit` where
        there are two classes.
        """
        return {
            view: sum(weight * prediction.logits[member][view] for member, weight in self.members.items())
            for view in self.views
        }

    def _stream(
        self,
        sources: Iterable[Source | Scan],
        batch_size: int,
        point: OperatingPoint,
        heatmap: bool,
        classifier: LesionType | None,
    ) -> Iterator[Prediction | Failure]:
        numbered = enumerate(sources, start=1)
        while chunk := list(itertools.islice(numbered, batch_size)):
            decoded = [_decoded(source, number) for number, source in chunk]
            images = [entry for entry in decoded if isinstance(entry, _Image)]
            predictions = iter(self._predict(images, point, heatmap, classifier) if images else [])
            for entry in decoded:
                yield entry if isinstance(entry, Failure) else next(predictions)

    def _point(self, name: str | None) -> OperatingPoint:
        wanted = self.manifest.default_operating_point if name is None else name
        for point in self.manifest.operating_points:
            if point.name == wanted:
                return point
        names = ", ".join(point.name for point in self.manifest.operating_points)
        raise BusError(f"there is no operating point '{wanted}'", remedy=f"choose one of {names}")

    def _classifier(self, wanted: bool) -> LesionType | None:
        if wanted and self.manifest.lesion_type is None:
            raise BusError("this ensemble has no lesion-type classifier", remedy="do not ask for one")
        return self.manifest.lesion_type if wanted else None

    def _predict(
        self, images: Sequence[_Image], point: OperatingPoint, heatmap: bool, classifier: LesionType | None
    ) -> list[Prediction]:
        batch = two_stage(
            self._runtime,
            [image.grey for image in images],
            locator=self.manifest.lesion_map.member,
            members=[*self.members, *([classifier.member.name] if classifier else [])],
            min_peak=self.manifest.lesion_map.min_peak,
            views=list(self.views),
            boxes={index: image.roi for index, image in enumerate(images) if image.roi is not None},
        )
        return [
            self._prediction(image, outputs, point, heatmap, classifier)
            for image, outputs in zip(images, batch, strict=True)
        ]

    def _prediction(
        self,
        image: _Image,
        outputs: ImageOutputs,
        point: OperatingPoint,
        heatmap: bool,
        classifier: LesionType | None,
    ) -> Prediction:
        manifest, malignant = self.manifest, self.manifest.malignant
        by_member, by_view, calibrated = self._calibrated(outputs)
        probabilities = class_probabilities(calibrated)
        logit = log_odds(calibrated, malignant)
        members = dict(zip(self.members, map(float, class_probabilities(by_member)[:, malignant]), strict=True))
        lesion_found = outputs.peak is None or outputs.peak >= manifest.lesion_map.found_peak
        heat, scale = self._heat(outputs) if heatmap else (None, None)
        return Prediction(
            name=image.name,
            probability=float(probabilities[malignant]),
            logit=logit,
            logits={
                member: {view: log_odds(outputs.logits[member][view].astype(float), malignant) for view in self.views}
                for member in self.members
            },
            members=members,
            views=dict(zip(self.views, map(float, class_probabilities(by_view)[:, malignant]), strict=True)),
            disagreement=float(np.std(list(members.values()))) if len(members) > 1 else None,
            box=outputs.box if lesion_found else None,
            box_source=None if not lesion_found else "found" if image.roi is None else "given",
            lesion_confidence=outputs.peak,
            colour_overlay=image.colour_overlay,
            shape=outputs.shape,
            grey=image.grey,
            heatmap=heat,
            heatmap_scale=scale,
            note=note(lesion_found, image.colour_overlay),
            lesion_type=self._lesion_type(outputs, classifier) if classifier else None,
            prevalence=manifest.fitted_on.prevalence,
            **self._decision(probabilities, logit, lesion_found, point),
        )

    def _calibrated(self, outputs: ImageOutputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Calibrated logits (members, K) averaged over views, (views, K) over members, and (K,) over both."""
        manifest = self.manifest
        member_weights, view_weights = (np.array(list(weights.values())) for weights in (self.members, self.views))
        logits = np.array(
            [[outputs.logits[member][view] for view in self.views] for member in self.members], np.float64
        )
        by_member = np.einsum("mvk,v->mk", logits, view_weights) / manifest.temperature + manifest.bias
        by_view = np.einsum("mvk,m->vk", logits, member_weights) / manifest.temperature + manifest.bias
        return by_member, by_view, np.einsum("mk,m->k", by_member, member_weights)

    def _decision(
        self, probabilities: np.ndarray, logit: float, lesion_found: bool, point: OperatingPoint
    ) -> dict[str, Any]:
        """The fields of a `Prediction` that an operating point decides, of class probabilities (classes,)."""
        manifest, malignant = self.manifest, self.manifest.malignant
        threshold = manifest.threshold_logit(point, lesion_found)
        predicted = int(probabilities.argmax())
        if len(probabilities) == 2:
            predicted = malignant if logit >= threshold else 1 - malignant
        return {
            "prediction": manifest.labels[predicted].title(),
            "confidence": float(probabilities[predicted]),
            "uncertain": manifest.unsure(logit, predicted == malignant, lesion_found),
            "operating_point": point.name,
            "threshold": float(sigmoid(threshold)),
        }

    def _lesion_type(self, outputs: ImageOutputs, classifier: LesionType) -> dict[str, float]:
        logits = np.array([outputs.logits[classifier.member.name][view] for view in self.views], np.float64)
        averaged = np.array(list(self.views.values())) @ logits
        probabilities = class_probabilities(averaged / classifier.temperature)
        return dict(zip(classifier.labels, map(float, probabilities), strict=True))

    def _heat(self, outputs: ImageOutputs) -> tuple[np.ndarray, float]:
        """Positive evidence for malignancy on the original pixels, 0..1, and the logits that 1 stands for."""
        evidence = evidence_map(outputs, self.members, self.views, self.manifest.malignant) / self.manifest.temperature
        check_finite("a place of the heat map", evidence)
        scale = max(float(evidence.max()), _FULL_HEAT)
        return (evidence / scale).astype(np.float32), scale


def _weighted(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())


def _default(point: OperatingPoint, manifest: Ensemble) -> str:
    return " (default)" if point.name == manifest.default_operating_point else ""


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
