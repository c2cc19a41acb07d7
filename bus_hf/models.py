"""Timm backbones as this project uses them: class-activation map, lesion head, plain checkpoint folders."""

from __future__ import annotations

import copy
import difflib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from bus_hf.errors import BusError
from bus_hf.filenames import CONFIG, LESION_HEAD, WEIGHTS
from bus_hf.labels import LabelSet
from bus_hf.tensors import table, tensors

# Views are letterboxed already, so timm must neither crop nor squash them.
_PREPROCESSING = {"crop_pct": 1.0, "crop_mode": "border", "interpolation": "bilinear"}

_REMEDY = "download or export the member again"
# Arguments that timm records beside a checkpoint and that inference does not need.
_TRAINING_ARGUMENTS = ("num_classes", "drop_rate", "drop_path_rate", "pretrained")


# BI-RADS categories whose "at least" is learned.
BIRADS_STEPS = (3, 4, 5)


class TrainingOutput(NamedTuple):
    """Output of `TrainingNet` for N images: (N, K) logits, (N, K, h, w) CAM, (N, H, W) lesion logits.

    `matched` is the (N, T, h, w) last feature map in a teacher's T channels, None without a teacher. `birads` is
    (N, 3), logits that the BI-RADS category is at least each of `BIRADS_STEPS`, None where it is not learned.
    """

    logits: Tensor
    cam: Tensor
    lesion: Tensor
    matched: Tensor | None = None
    birads: Tensor | None = None


def create(architecture: str, num_classes: int, **kwargs: Any) -> Any:
    """Create a timm backbone with a linear classifier; an unknown architecture is a BusError with near names."""
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() lists the known ones"
        raise BusError(f"timm has no architecture '{architecture}'", remedy=f"check the name ({hint})")
    model: Any = timm.create_model(architecture, num_classes=num_classes, **kwargs)
    if not isinstance(model.get_classifier(), nn.Linear):
        raise BusError(
            f"'{architecture}' has no linear classifier after its pool, so it has no class-activation map",
            remedy="choose a convolutional backbone such as resnet50",
        )
    return model


def class_activation(model: Any, features: Tensor) -> Tensor:
    """Classifier applied at each place of the last feature map (B. Zhou et al., CVPR 2016).

    Args:
        model: a timm backbone whose head is a pool and a linear layer.
        features: (N, C, h, w) output of `model.forward_features`.

    Returns:
        (N, K, h, w) map without the bias; its mean over places plus the bias is the logit. ConvNeXt norms after its
        pool: its norm is applied at each place instead, an approximation.
    """
    classifier = model.get_classifier()
    norm = getattr(getattr(model, "head", None), "norm", None)
    if isinstance(norm, nn.Module):
        features = norm(features)
    return functional.conv2d(features, classifier.weight[:, :, None, None])


def lesion_logits(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a lesion head to (N, C, h, w) features.

    `weight` (r*r, C, 1, 1) predicts an r x r block of cells at each place, so a 32-pixel stride is refined r times.

    Returns:
        (N, r*h, r*w) logits that a cell belongs to a lesion.
    """
    # A whole number for tracers too, to which a shape is a tensor.
    fine = math.isqrt(len(weight))
    return functional.pixel_shuffle(functional.conv2d(features, weight, bias), fine)[:, 0]


class TrainingNet(nn.Module):
    """A backbone with a lesion head beside its classifier.

    Args:
        backbone: from `create`.
        lesion_stride: pixels of the input that a cell of the lesion map covers.
        teacher_channels: channels of a teacher's last feature map, 0 where there is no teacher to match.
        birads: learn the BI-RADS category too, from the averaged last feature map.
    """

    def __init__(self, backbone: Any, lesion_stride: int = 8, teacher_channels: int = 0, birads: bool = False) -> None:
        super().__init__()
        self.backbone: Any = backbone
        stride = backbone.feature_info[-1]["reduction"]
        fine = max(1, stride // lesion_stride)
        head = nn.Conv2d(backbone.num_features, fine * fine, 1)
        # Most cells hold no lesion; start there instead of at one half.
        nn.init.constant_(head.bias, -2.0)  # type: ignore[arg-type]
        nn.init.normal_(head.weight, std=0.01)
        self.lesion_head: Any = head
        self.match: Any = nn.Conv2d(backbone.num_features, teacher_channels, 1) if teacher_channels else None
        self.birads_head: Any = nn.Linear(backbone.num_features, len(BIRADS_STEPS)) if birads else None

    def forward(self, images: Tensor) -> TrainingOutput:
        """Outputs for normalised float (N, 3, S, S) images."""
        features = self.backbone.forward_features(images)
        return TrainingOutput(
            self.backbone.forward_head(features),
            class_activation(self.backbone, features),
            lesion_logits(features, self.lesion_head.weight, self.lesion_head.bias),
            None if self.match is None else self.match(features),
            None if self.birads_head is None else self.birads_head(features.mean((2, 3))),
        )


def save_member(
    folder: Path,
    backbone: nn.Module,
    label_set: LabelSet,
    input_size: int,
    lesion_head: nn.Conv2d | None = None,
    half: bool = True,
) -> None:
    """Write a member: `config.json` and `model.safetensors` in timm's form, the lesion head beside them.

    Args:
        folder: made where it is missing; files of the same name are replaced.
        backbone: a timm model; its mean and std are kept.
        label_set: gives the names of the outputs.
        input_size: side of the input in pixels.
        lesion_head: 1x1 convolution, written as `lesion_head.safetensors`.
        half: store floating-point tensors as fp16, unless a value is too large for it.
    """
    from timm.models import save_for_hf

    def stored(module: nn.Module) -> nn.Module:
        copied = copy.deepcopy(module).cpu().to(memory_format=torch.contiguous_format)
        return copied.half() if fits_half else copied.float()

    largest = torch.finfo(torch.float16).max
    modules = [backbone] if lesion_head is None else [backbone, lesion_head]
    values = [value for module in modules for value in module.state_dict().values() if value.is_floating_point()]
    fits_half = half and all(float(value.abs().max()) <= largest for value in values if value.numel())
    folder.mkdir(parents=True, exist_ok=True)
    names = list(label_set.output_names)
    save_for_hf(
        stored(backbone),
        str(folder),
        model_config={"label_names": names, "pretrained_cfg": {"label_names": names}},
        safe_serialization=True,
        data_config={"input_size": (3, input_size, input_size), **_PREPROCESSING},
    )
    _plain_config(folder / CONFIG)
    if lesion_head is not None:
        save_file(stored(lesion_head).state_dict(), folder / LESION_HEAD)


def check_finite(file: Path) -> None:
    """BusError where a safetensors file is missing or damaged, or holds a number that is not finite."""
    try:
        tensors(file.read_bytes(), file)
    except (OSError, BusError) as error:
        what = error.what if isinstance(error, BusError) else f"{file.name} is missing"
        raise BusError(
            f"{what}, so the training diverged or did not end",
            where=file.parent,
            remedy="train it again at a lower rate (--lr)",
        ) from None


def _plain_config(path: Path) -> None:
    """Remove what only training needs from a config: transformers' wrapper does not take these arguments."""
    config = json.loads(path.read_text(encoding="utf-8"))
    arguments = {key: value for key, value in config.pop("model_args", {}).items() if key not in _TRAINING_ARGUMENTS}
    if arguments:
        config["model_args"] = arguments
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def input_size(folder: Path) -> int:
    """Side of a member's square input in pixels, from its `config.json`; BusError where none can be read."""
    try:
        return int(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["pretrained_cfg"]["input_size"][-1])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise BusError("no timm config.json can be read here", where=folder, remedy=_REMEDY) from None


def load_member(folder: Path, device: torch.device | str = "cpu") -> Any:
    """Load a member folder into its timm backbone: float32, on `device`, in eval mode.

    Raises:
        BusError: the folder is not a member, its architecture is unknown or its weights do not fit.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        architecture, num_classes = config["architecture"], config["num_classes"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BusError("no timm config.json can be read here", where=folder, remedy=_REMEDY) from None
    arguments = {key: value for key, value in config.get("model_args", {}).items() if key not in _TRAINING_ARGUMENTS}
    try:
        data = (folder / WEIGHTS).read_bytes()
    except OSError:
        raise BusError("model.safetensors is missing", where=folder, remedy=_REMEDY) from None
    return build(architecture, num_classes, arguments, data, folder / WEIGHTS).to(device)


def build(architecture: str, num_classes: int, arguments: Mapping[str, Any], weights: bytes, file: Path) -> Any:
    """A timm backbone with the given weights: float32, in eval mode.

    No memory is allocated for a network that the weights do not fit.

    Args:
        architecture: timm's name.
        num_classes: outputs.
        arguments: further ones of `timm.create_model`.
        weights: bytes of a safetensors file.
        file: what errors name.

    Raises:
        BusError: an unknown architecture, arguments that it does not take, or weights that are damaged or another's.
    """
    shapes = {name: tensor.shape for name, tensor in table(weights, file).items()}
    try:
        with torch.device("meta"):
            model = create(architecture, num_classes, **arguments)
    except BusError as error:
        raise BusError(error.what, where=error.where or file.parent, remedy=error.remedy) from None
    except Exception:
        raise BusError(
            f"timm cannot build {architecture} as its config.json says", where=file.parent, remedy=_REMEDY
        ) from None
    mismatch = BusError(f"the weights are not those of {architecture}", where=file.parent, remedy=_REMEDY)
    if shapes != {name: tuple(value.shape) for name, value in model.state_dict().items()}:
        raise mismatch
    if any(value.is_meta for name, value in model.named_buffers() if name not in shapes):
        # Buffers that no file holds: the architecture makes them itself.
        model = create(architecture, num_classes, **arguments)
    model.load_state_dict(tensors(weights, file), assign=True)
    return model.eval()
