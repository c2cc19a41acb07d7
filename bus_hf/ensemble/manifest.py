"""What `ensemble.json` holds, as frozen dataclasses, and every rule it must keep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bus_hf.errors import BusError
from bus_hf.labels import label_set
from bus_hf.strict_json import typed
from bus_hf.views import VIEWS

SCHEMA = 2
COMBINE = "weighted_mean_logit"

_SUM_ERROR = 1e-6
# Beyond these nothing that was fitted lies.
_TEMPERATURES, _LOGIT = (1e-3, 1e3), 1e9
_HASH = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
# Classes that count as malignant, over all label sets.
_MALIGNANT = ("malignant", "carcinoma")

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class OpenVino:
    """Measured difference of a member's logits under OpenVINO from those under PyTorch."""

    precision: str
    mean_abs_error: float
    max_abs_error: float


@dataclass(frozen=True)
class Member:
    """A voter: a timm folder at `path` inside the ensemble folder, or `repo_id` at `revision` (a commit) on the Hub.

    `sha256` is that of its `model.safetensors`, `config_sha256` that of its `config.json`, `weight` its share of the
    vote, `runtime` says how other runtimes do: `{"openvino": OpenVino(...)}` or empty.
    """

    name: str
    path: str | None
    repo_id: str | None
    revision: str | None
    sha256: str
    weight: float
    runtime: dict[str, OpenVino] = field(default_factory=dict)
    config_sha256: str = field(kw_only=True)


@dataclass(frozen=True)
class LesionMap:
    """Whose lesion head finds the lesion: `file` in the folder of `member`.

    Lesion crops are taken at the box of a map whose peak is at least `min_peak`, else from the middle. A lesion counts
    as found from `found_peak` on. Peaks are probabilities, 0..1.
    """

    member: str
    file: str
    sha256: str
    min_peak: float
    found_peak: float


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold, with its measured rates as (value, lower, upper), each 0..1.

    A calibrated logit (after temperature and bias) at or above `logit` is predicted positive.
    """

    name: str
    logit: float
    sensitivity: Triple
    specificity: Triple

    @property
    def threshold(self) -> float:
        """The threshold as a probability, to be shown: 1.0 where a logit is so high that probabilities saturate."""
        return sigmoid(self.logit)


@dataclass(frozen=True)
class Abstain:
    """Calibrated logits from `low_logit` to `high_logit` are answered "not sure".

    `coverage` is the share of images outside, `error` the share of wrong answers among those, each 0..1.
    """

    low_logit: float
    high_logit: float
    coverage: float
    error: float
    method: str

    @property
    def low(self) -> float:
        """The lower end as a probability, to be shown."""
        return sigmoid(self.low_logit)

    @property
    def high(self) -> float:
        """The upper end as a probability, to be shown."""
        return sigmoid(self.high_logit)

    def unsure(self, logit: float, positive: bool) -> bool:
        """Whether an answer is "not sure": its calibrated logit lies in the band, or on the other answer's side of it.

        An operating point may lie outside the band: what it predicts is sure only where the band agrees.
        """
        return logit <= self.high_logit if positive else logit >= self.low_logit


@dataclass(frozen=True)
class FittedOn:
    """What weights, calibration and thresholds were fitted on.

    Images of each source, number of groups, share of malignant images (0..1; images of one group and one label count as
    one where a site calibrated), which the probabilities assume, and the hash of the out-of-fold logits.
    """

    sources: dict[str, int]
    groups: int
    prevalence: float
    out_of_fold_sha256: str | None


@dataclass(frozen=True)
class LesionType:
    """A network of another label set that reads the same views when asked; it has no say in the ensemble's answer.

    Its views have the ensemble's weights; their mean logits, divided by `temperature`, go through a softmax.
    """

    label_set: str
    labels: tuple[str, ...]
    member: Member
    temperature: float


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """The manifest, field by field as in the file; a view that `views` leaves out has weight 0.

    The calibrated logit is the combined one, divided by `temperature`, plus `bias` (0 for several classes); a sigmoid,
    or a softmax for several classes, makes a probability of it.
    """

    schema: int = SCHEMA
    name: str
    version: str
    label_set: str
    labels: tuple[str, ...]
    positive: str | None
    members: tuple[Member, ...]
    views: dict[str, float]
    lesion_map: LesionMap
    combine: str = COMBINE
    temperature: float
    bias: float
    operating_points: tuple[OperatingPoint, ...]
    default_operating_point: str
    abstain: Abstain | None
    light: str
    fitted_on: FittedOn
    lesion_type: LesionType | None = None

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


def sigmoid(logit: float) -> float:
    """Probability of a calibrated logit; no logit overflows."""
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def parse(data: Any) -> Ensemble:
    """Check what `json.loads` gave; BusError for the first thing that is wrong (unknown key, other schema, ...)."""
    # First of all, since another schema has other keys.
    schema = data.get("schema") if isinstance(data, dict) else SCHEMA
    if isinstance(schema, int) and schema > SCHEMA:
        raise BusError(f"schema {schema} is newer than this bus_hf reads ({SCHEMA})", remedy="update bus_hf")
    if isinstance(schema, int) and not isinstance(schema, bool) and schema < SCHEMA:
        raise BusError(
            f"schema {schema} is older than this bus_hf reads ({SCHEMA})",
            remedy="write the ensemble again with bus-hf build ensemble, or read it with the version that wrote it",
        )
    ensemble = typed(data, Ensemble, "")
    _check(ensemble)
    return ensemble


def _check(ensemble: Ensemble) -> None:
    """Raise a BusError for the first thing that types alone do not show."""
    classes = label_set(ensemble.label_set)
    names = [member.name for member in ensemble.members]
    points = [point.name for point in ensemble.operating_points]
    _one_of("schema", ensemble.schema, [SCHEMA])
    _one_of("combine", ensemble.combine, [COMBINE])
    if ensemble.labels != classes.classes or ensemble.positive != classes.positive:
        raise BusError(
            f"labels or positive are not those of the label set '{classes.name}'",
            remedy=f"give {', '.join(classes.classes)}, positive {classes.positive}",
        )
    _require(bool(names), "members is empty", "list at least one member")
    _require(len(set(names)) == len(names), "two members have the same name", "name each differently")
    for member in ensemble.members:
        _check_member(member)
    _weights("members", [member.weight for member in ensemble.members])
    for view in ensemble.views:
        _one_of("views: a view", view, VIEWS)
    _weights("views", ensemble.views.values())
    lesion = ensemble.lesion_map
    _one_of("lesion_map.member", lesion.member, names)
    _one_of("light", ensemble.light, names)
    _relative("lesion_map.file", lesion.file)
    _require(
        lesion.file.endswith(".safetensors"),
        f"lesion_map.file is '{lesion.file}'",
        "give a file of ending .safetensors",
    )
    _hash("lesion_map.sha256", lesion.sha256)
    _shares(("lesion_map.min_peak", lesion.min_peak), ("lesion_map.found_peak", lesion.found_peak))
    _require(lesion.min_peak > 0, "lesion_map.min_peak is 0", "give a value above 0")
    _require(
        lesion.min_peak <= lesion.found_peak,
        f"lesion_map.found_peak {lesion.found_peak:g} is below lesion_map.min_peak {lesion.min_peak:g}",
        "give at least that value",
    )
    _temperature("temperature", ensemble.temperature)
    _logits(("bias", ensemble.bias))
    _require(len(set(points)) == len(points), "two operating points have the same name", "name each differently")
    _require(len(ensemble.labels) == 2 or ensemble.bias == 0, "bias is set for several classes", "make it 0")
    for point in ensemble.operating_points:
        _logits((f"the logit of '{point.name}'", point.logit))
        for rate, (value, low, high) in (("sensitivity", point.sensitivity), ("specificity", point.specificity)):
            _shares(*((f"the {rate} of '{point.name}'", number) for number in (value, low, high)))
            _require(
                low <= value <= high,
                f"the {rate} of '{point.name}' lies outside its bounds",
                "give value, lower, upper",
            )
    if ensemble.lesion_type is not None:
        _check_second(ensemble.lesion_type, names)
    _one_of("default_operating_point", ensemble.default_operating_point, points)
    if ensemble.abstain is not None:
        band = ensemble.abstain
        _shares(*((f"abstain.{name}", getattr(band, name)) for name in ("coverage", "error")))
        low, high = band.low_logit, band.high_logit
        _logits(("abstain.low_logit", low), ("abstain.high_logit", high))
        _require(low <= high, f"abstain.low_logit {low:g} is above abstain.high_logit {high:g}", "swap them")
    for source, count in (*ensemble.fitted_on.sources.items(), ("groups", ensemble.fitted_on.groups)):
        _require(count >= 0, f"fitted_on counts {count} for {source}", "give 0 or more")
    _shares(("fitted_on.prevalence", ensemble.fitted_on.prevalence))
    if ensemble.fitted_on.out_of_fold_sha256 is not None:
        _hash("fitted_on.out_of_fold_sha256", ensemble.fitted_on.out_of_fold_sha256)


def _check_second(second: LesionType, names: Sequence[str]) -> None:
    classes = label_set(second.label_set)
    _require(
        classes.positive is None,
        f"the lesion-type classifier is of the label set '{classes.name}'",
        "give one of several classes, such as histology",
    )
    _require(
        second.labels == classes.classes,
        f"the labels of the lesion-type classifier are not those of '{classes.name}'",
        f"give {', '.join(classes.classes)}",
    )
    _check_member(second.member)
    _require(second.member.name not in names, "the lesion-type classifier has a member's name", "name it differently")
    _temperature("its temperature", second.temperature)


def _check_member(member: Member) -> None:
    at = f"member '{member.name}'"
    _require(_NAME.fullmatch(member.name) is not None, f"{at} has an odd name", "use letters, digits, '_', '-' and '.'")
    _hash(f"{at}: sha256", member.sha256)
    _hash(f"{at}: config_sha256", member.config_sha256)
    both = "path and repo_id" if member.path is not None else "neither path nor repo_id"
    _require((member.path is None) != (member.repo_id is None), f"{at} has {both}", "give exactly one of the two")
    if member.path is not None:
        _relative(f"{at}: path", member.path)
        _require(member.revision is None, f"{at} has a revision but no repo_id", "take the revision out")
    else:
        _require(_REPO.fullmatch(str(member.repo_id)) is not None, f"{at}: repo_id is no Hub id", "write owner/name")
        pinned = member.revision is not None and _COMMIT.fullmatch(member.revision)
        _require(bool(pinned), f"{at}: revision is no commit", "give the 40 hex digits of a commit")
    for name, measured in member.runtime.items():
        _one_of(f"{at}: a runtime", name, ["openvino"])
        worst, mean = measured.max_abs_error, measured.mean_abs_error
        _require(0 <= mean <= worst, f"{at}: its {name} errors are wrong", "give 0 <= mean_abs_error <= max_abs_error")


def _require(holds: bool, what: str, remedy: str) -> None:
    if not holds:
        raise BusError(what, remedy=remedy)


def _one_of(at: str, value: Any, known: Sequence[Any]) -> None:
    _require(value in known, f"{at} is {value!r}", f"choose from {', '.join(map(str, known))}")


def _temperature(at: str, value: float) -> None:
    """Refuse a temperature that makes logits overflow, or all alike."""
    low, high = _TEMPERATURES
    _require(low <= value <= high, f"{at} is {value:g}", f"give a value from {low:g} to {high:g}")


def _logits(*named: tuple[str, float]) -> None:
    for at, value in named:
        _require(abs(value) <= _LOGIT, f"{at} is {value:g}", f"give a value from {-_LOGIT:g} to {_LOGIT:g}")


def _shares(*named: tuple[str, float]) -> None:
    for at, value in named:
        _require(0 <= value <= 1, f"{at} is {value:g}", "give a value from 0 to 1")


def _weights(at: str, weights: Iterable[float]) -> None:
    listed = list(weights)
    _require(min(listed, default=0) >= 0, f"a weight of {at} is negative", "give weights of 0 or more")
    total = sum(listed)
    _require(abs(total - 1) <= _SUM_ERROR, f"the weights of {at} sum to {total:.6g}", "make them sum to 1")


def _hash(at: str, value: str) -> None:
    _require(_HASH.fullmatch(value) is not None, f"{at} is no SHA-256", "give 64 lower-case hex digits")


def _relative(at: str, text: str) -> None:
    """Refuse text that is no plain path downwards, on any system."""
    parts = text.split("/")
    plain = text.isprintable() and not set(text) & set("\\:*?[]") and not text.startswith("/")
    _require(plain and ".." not in parts and text.strip() != "", f"{at} is {text!r}", "give a path inside the folder")
