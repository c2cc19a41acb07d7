"""What `ensemble.json` holds, as frozen pydantic dataclasses, and every rule it must keep."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from bus_hf.errors import BusError
from bus_hf.labels import label_set
from bus_hf.probabilities import sigmoid
from bus_hf.validation import STRICT, decode, validate
from bus_hf.views import VIEWS

SCHEMA: Literal[3] = 3

_SUM_ERROR = 1e-6
# Classes that count as malignant, over all label sets.
_MALIGNANT = ("malignant", "carcinoma")


def _relative(text: str) -> str:
    """Refuse text that is no plain path downwards, on any system."""
    plain = text.isprintable() and not set(text) & set("\\:*?[]") and not text.startswith("/")
    if not plain or ".." in text.split("/") or not text.strip():
        raise ValueError("a path inside the folder")
    return text


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="letters, digits, '_', '-' and '.'")]
RepoId = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$", description="owner/name")
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="64 lower-case hex digits")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="the 40 hex digits of a commit")]
RelativePath = Annotated[str, AfterValidator(_relative)]
Share = Annotated[float, Field(ge=0, le=1)]
# Beyond these nothing that was fitted lies: logits would overflow, or be all alike.
LARGEST_LOGIT = 1e9
Logit = Annotated[float, Field(ge=-LARGEST_LOGIT, le=LARGEST_LOGIT)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
Count = Annotated[int, Field(ge=0, le=10**9)]


@dataclass(frozen=True, config=STRICT)
class Member:
    """A network: a timm folder at `path` inside the ensemble folder, or `repo_id` at `revision` (a commit) on the Hub.

    `sha256` is that of its `model.safetensors`, `config_sha256` that of its `config.json`, `graph_sha256` that of its
    `graph.onnx` (None: it has none, and torch runs it), `weight` its weight in the mean of the members' logits.
    """

    name: Name
    path: RelativePath | None
    repo_id: RepoId | None
    revision: Commit | None
    sha256: Sha256
    weight: Share
    config_sha256: Sha256
    graph_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Member:
        both = "path and repo_id" if self.path is not None else "neither path nor repo_id"
        at = f"member '{self.name}'"
        _require((self.path is None) != (self.repo_id is None), f"{at} has {both}", "give exactly one of the two")
        pinned = self.revision is not None
        _require(pinned or self.path is not None, f"{at} has a repo_id but no revision", "give a commit")
        _require(not pinned or self.path is None, f"{at} has a revision but no repo_id", "take the revision out")
        return self


@dataclass(frozen=True, config=STRICT)
class LesionMap:
    """Whose lesion head finds the lesion: `file` in the folder of `member`.

    Lesion crops are taken at the box of a map whose peak is at least `min_peak`, else from the middle. A lesion counts
    as found from `found_peak` on. Peaks are probabilities, 0..1.
    """

    member: str
    file: RelativePath
    sha256: Sha256
    min_peak: Share
    found_peak: Share

    @model_validator(mode="after")
    def _peaks_and_file(self) -> LesionMap:
        low, high = self.min_peak, self.found_peak
        _require(
            self.file.endswith(".safetensors"),
            f"lesion_map.file is '{self.file}'",
            "give a file of ending .safetensors",
        )
        _require(low > 0, "lesion_map.min_peak is 0", "give a value above 0")
        _require(
            low <= high,
            f"lesion_map.found_peak {high:g} is below lesion_map.min_peak {low:g}",
            "give at least that value",
        )
        return self


@dataclass(frozen=True, config=STRICT)
class OperatingPoint:
    """A threshold, with its measured rates as (value, lower, upper), each 0..1.

    A calibrated logit (after temperature and bias) at or above `logit` is predicted positive.
    """

    name: str
    logit: Logit
    sensitivity: tuple[Share, Share, Share]
    specificity: tuple[Share, Share, Share]

    @model_validator(mode="after")
    def _rates_inside_bounds(self) -> OperatingPoint:
        for rate, (value, low, high) in (("sensitivity", self.sensitivity), ("specificity", self.specificity)):
            _require(
                low <= value <= high,
                f"the {rate} of '{self.name}' lies outside its bounds",
                "give value, lower, upper",
            )
        return self

    @property
    def threshold(self) -> float:
        """The threshold as a probability, to be shown: 1.0 where a logit is so high that probabilities saturate."""
        return float(sigmoid(self.logit))


@dataclass(frozen=True, config=STRICT)
class Abstain:
    """The abstention interval: calibrated logits from `low_logit` to `high_logit` are answered "not sure".

    `coverage` is the share of images outside, `error` the share of wrong answers among those, each 0..1.
    """

    low_logit: Logit
    high_logit: Logit
    coverage: Share
    error: Share
    method: str

    @model_validator(mode="after")
    def _ordered(self) -> Abstain:
        low, high = self.low_logit, self.high_logit
        _require(low <= high, f"abstain.low_logit {low:g} is above abstain.high_logit {high:g}", "swap them")
        return self

    @property
    def low(self) -> float:
        """The lower end as a probability, to be shown."""
        return float(sigmoid(self.low_logit))

    @property
    def high(self) -> float:
        """The upper end as a probability, to be shown."""
        return float(sigmoid(self.high_logit))

    def unsure(self, logit: float, positive: bool) -> bool:
        """Whether an answer is "not sure": its calibrated logit lies in the interval or on the other answer's side.

        An operating point may lie outside the interval: what it predicts is sure only where the interval agrees.
        """
        return logit <= self.high_logit if positive else logit >= self.low_logit


@dataclass(frozen=True, config=STRICT)
class FittedOn:
    """What weights, calibration and thresholds were fitted on.

    Images of each source, number of groups, share of malignant images (0..1; images of one group and one label count as
    one where a site calibrated), which the probabilities assume, and the hash of the out-of-fold logits.
    """

    sources: dict[str, Count]
    groups: Count
    prevalence: Share
    out_of_fold_sha256: Sha256 | None


@dataclass(frozen=True, config=STRICT)
class LesionType:
    """The lesion-type classifier: a network of another label set that reads the same views when asked.

    It changes nothing of the ensemble's answer. Its views have the ensemble's weights; their mean logits, divided by
    `temperature`, go through a softmax.
    """

    label_set: str
    labels: tuple[str, ...]
    member: Member
    temperature: Temperature

    @model_validator(mode="after")
    def _several_classes(self) -> LesionType:
        classes = label_set(self.label_set)
        _require(
            classes.positive is None,
            f"the lesion-type classifier is of the label set '{classes.name}'",
            "give one of several classes, such as histology",
        )
        _require(
            self.labels == classes.classes,
            f"the labels of the lesion-type classifier are not those of '{classes.name}'",
            f"give {', '.join(classes.classes)}",
        )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ensemble:
    """The manifest, field by field as in the file; a view that `views` leaves out has weight 0.

    The combined logit is the mean of all members and views by their weights. The calibrated logit is the combined one,
    divided by `temperature`, plus `bias` (0 for several classes); a sigmoid, or a softmax for several classes, makes a
    probability of it.
    """

    schema: Literal[3]
    name: str
    version: str
    label_set: str
    labels: tuple[str, ...]
    positive: str | None
    members: tuple[Member, ...]
    views: dict[str, Share]
    lesion_map: LesionMap
    temperature: Temperature
    bias: Logit
    operating_points: tuple[OperatingPoint, ...]
    default_operating_point: str
    abstain: Abstain | None
    light: str
    fitted_on: FittedOn
    lesion_type: LesionType | None

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Ensemble:
        classes = label_set(self.label_set)
        names = [member.name for member in self.members]
        points = [point.name for point in self.operating_points]
        if self.labels != classes.classes or self.positive != classes.positive:
            raise BusError(
                f"labels or positive are not those of the label set '{classes.name}'",
                remedy=f"give {', '.join(classes.classes)}, positive {classes.positive}",
            )
        _require(bool(names), "members is empty", "list at least one member")
        _require(len(set(names)) == len(names), "two members have the same name", "name each differently")
        _sum_to_one("members", (member.weight for member in self.members))
        for view in self.views:
            _one_of("views: a view", view, VIEWS)
        _sum_to_one("views", self.views.values())
        _one_of("lesion_map.member", self.lesion_map.member, names)
        _one_of("light", self.light, names)
        _require(len(set(points)) == len(points), "two operating points have the same name", "name each differently")
        _require(len(self.labels) == 2 or self.bias == 0, "bias is set for several classes", "make it 0")
        _one_of("default_operating_point", self.default_operating_point, points)
        _require(
            self.lesion_type is None or self.lesion_type.member.name not in names,
            "the lesion-type classifier has a member's name",
            "name it differently",
        )
        return self

    @property
    def malignant(self) -> int:
        """Index of the malignant class in `labels`."""
        return next(index for index, name in enumerate(self.labels) if name in _MALIGNANT)

    def threshold_logit(self, point: OperatingPoint, lesion_found: bool) -> float:
        """Calibrated logit from which an image is predicted positive at an operating point.

        Where no lesion was found there is nothing to compare: only what lies above the abstention interval counts.
        """
        if lesion_found or self.abstain is None:
            return point.logit
        return max(point.logit, math.nextafter(self.abstain.high_logit, math.inf))

    def unsure(self, logit: float, positive: bool, lesion_found: bool) -> bool:
        """Whether an answer is "not sure, refer": by the abstention interval, or no cancer and no lesion was found."""
        return (self.abstain is not None and self.abstain.unsure(logit, positive)) or not (positive or lesion_found)


def parse(data: bytes, path: Path) -> Ensemble:
    """Make the manifest of the bytes of an `ensemble.json`.

    Raises:
        BusError: the first thing that is wrong (an unknown or doubled key, another schema, a value out of its bounds).
    """
    values = decode(data, path, "give the folder of an ensemble, which holds ensemble.json")
    # First of all, since another schema has other keys.
    schema = values.get("schema") if isinstance(values, dict) else None
    if isinstance(schema, int) and not isinstance(schema, bool) and schema != SCHEMA:
        newer = schema > SCHEMA
        raise BusError(
            f"schema {schema} is {'newer' if newer else 'older'} than this bus_hf reads ({SCHEMA})",
            where=path,
            remedy="update bus_hf" if newer else "build the ensemble again, or download its newest version",
        )
    return validate(Ensemble, data, path)


def _require(holds: bool, what: str, remedy: str) -> None:
    if not holds:
        raise BusError(what, remedy=remedy)


def _one_of(at: str, value: str, known: Iterable[str]) -> None:
    _require(value in known, f"{at} is {value!r}", f"choose from {', '.join(known)}")


def _sum_to_one(at: str, weights: Iterable[float]) -> None:
    total = sum(weights)
    _require(abs(total - 1) <= _SUM_ERROR, f"the weights of {at} sum to {total:.6g}", "make them sum to 1")
