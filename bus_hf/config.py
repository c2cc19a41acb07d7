"""What a training run is told: one frozen dataclass, read strictly from YAML and flags."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus_hf.errors import BusError

# Settings of the machine and of a call; they decide nothing about a network.
MACHINE = ("num_workers", "threads", "trackers", "logging_dir", "resume", "max_epochs_now")

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _setting(default: Any, text: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training run; `help` texts are those of `train_accelerate.py --help`."""

    data: tuple[str, ...] = _setting((), "folders or Hub ids of labelled images; several are joined")
    streaming: bool = _setting(False, "read Hub ids row by row, without a copy on disk")
    phantoms: int = _setting(0, "without data: make so many phantoms of each class and train on them (a test)")
    output: str = _setting("runs/member", "folder of the run: state to resume from, logits, plots, checkpoint")
    label_set: str = _setting("malignancy", "malignancy (one logit), busi3 or histology (one logit a class)")
    backbone: str = _setting("tf_efficientnet_lite0", "timm architecture")
    input_size: int = _setting(192, "side of the square network input, in pixels")
    # Start weights
    init: str = _setting("auto", "auto (timm's, else a package's, else random), timm, package or random")
    init_from: str | None = _setting(None, "our own checkpoint (folder or Hub id), or a .safetensors file")
    freeze: tuple[str, ...] = _setting((), "prefixes of parameter names that stay as they start")
    slow: tuple[str, ...] = _setting((), "prefixes of parameter names that learn at slow_scale of the rate")
    slow_scale: float = _setting(0.3, "share of the learning rate for the parameters in slow")
    drop_rate: float = _setting(0.2, "dropout before the classifier")
    drop_path_rate: float = _setting(0.1, "stochastic depth, where the architecture has it")
    # Splits
    folds: int = _setting(5, "number of grouped folds")
    fold: int = _setting(0, "the fold that is left out of training, for validation and out-of-fold logits")
    split_seed: int = _setting(0, "seed of the folds that are dealt")
    folds_from: str | None = _setting(
        None, "CSV (name, fold) of folds that were dealt before and are kept; groups that are not in it are dealt anew"
    )
    set_apart: tuple[str, ...] = _setting((), "further folds that are neither trained on nor read")
    train_sources: tuple[str, ...] = _setting(
        (), "train on these sources alone and read every image of the others too; empty: on all"
    )
    near_duplicates: bool = _setting(True, "join near-duplicate images into one group (leave on)")
    # Optimisation
    seed: int = _setting(0, "seed of weights, sampling and augmentation")
    epochs: int = _setting(14, "passes over the training images")
    epoch_images: int = _setting(0, "images drawn in a pass; 0: as many as there are")
    batch_size: int = _setting(32, "images a step, over all processes")
    lr: float = _setting(1e-3, "peak learning rate of AdamW")
    weight_decay: float = _setting(0.02, "weight decay of AdamW, not on norms and biases")
    warmup_epochs: float = _setting(1.0, "epochs of linear warm-up before the cosine")
    clip_grad: float = _setting(1.0, "largest gradient norm; 0 switches clipping off")
    ema_decay: float = _setting(0.995, "decay of the averaged weights that are validated and kept; 0 switches it off")
    patience: int = _setting(0, "stop after so many epochs without a better AUROC and keep the best; 0: keep the last")
    mixed_precision: str = _setting("auto", "auto (fp16 on CUDA, no on CPU), no, fp16 or bf16 (no on a CPU without it)")
    channels_last: bool = _setting(True, "channels-last memory layout")
    # Balance
    balanced_sampling: bool = _setting(True, "draw every class equally often")
    pos_weight: bool = _setting(False, "weigh classes in the loss by their rarity (instead of sampling)")
    label_smoothing: float = _setting(0.0, "share of the label spread over the classes")
    # Mask supervision
    lesion_crop_prob: float = _setting(0.4, "probability of a training crop around the lesion")
    lesion_weight: float = _setting(0.5, "weight of the lesion term (Dice + BCE)")
    inside_weight: float = _setting(0.1, "weight of the inside term: malignant evidence belongs on the lesion")
    lesion_stride: int = _setting(8, "pixels of the input a cell of the lesion map covers")
    # Augmentation
    augment: float = _setting(1.0, "strength of the augmentation; 0 leaves only the letterboxed image")
    mixup: float = _setting(0.0, "alpha of mixup (images, masks and labels of two draws blended); 0 switches it off")
    # Out-of-fold logits
    boxes: str | None = _setting(
        None, "out-of-fold logits (Parquet) whose boxes the lesion crops take; without it, the own lesion map's"
    )
    # Distillation
    teacher: str | None = _setting(None, "member folder or Hub id that reads every augmented training square too")
    teacher_weight: float = _setting(0.0, "share of the class loss that is taken against the teacher's probability")
    feature_weight: float = _setting(0.0, "weight of the term that draws the last feature map to the teacher's")
    scanner: float = _setting(0.0, "strength of augmentation that mimics other scanners (tones, depth gain, marks)")
    # Machine
    num_workers: int = _setting(2, "processes that prepare images; 0 prepares them in the training process")
    threads: int = _setting(0, "CPU threads of the network; 0 leaves the choice to PyTorch")
    trackers: tuple[str, ...] = _setting(("tensorboard",), "trackers that accelerate knows; the empty list for none")
    logging_dir: str = _setting("logs", "folder of the trackers' logs")
    resume: bool = _setting(True, "go on from the state in the output folder where there is one")
    push_to_hub: str | None = _setting(None, "when the run is finished, push its member to this repository, owner/name")
    hub_private: bool = _setting(False, "make that repository private, where it is new")
    max_epochs_now: int = _setting(0, "stop after so many epochs in this call, to be resumed; 0: run to the end")

    def __post_init__(self) -> None:
        if self.folds_from == "":  # as a flag takes back what a config names
            object.__setattr__(self, "folds_from", None)
        for name, low, high in (
            ("phantoms", 0, 10_000),
            ("input_size", 32, 1024),
            ("folds", 2, 100),
            ("epochs", 1, 10_000),
            ("epoch_images", 0, 10_000_000),
            ("batch_size", 1, 65_536),
            ("lr", 0, 10),
            ("weight_decay", 0, 10),
            ("clip_grad", 0, 1_000_000),
            ("slow_scale", 0, 100),
            ("drop_rate", 0, 0.99),
            ("drop_path_rate", 0, 0.99),
            ("lesion_stride", 1, 64),
            ("seed", 0, 2**31 - 1),
            ("split_seed", 0, 2**31 - 1),
            ("threads", 0, 1024),
            ("max_epochs_now", 0, 10_000),
            ("ema_decay", 0, 0.999999),
            ("lesion_crop_prob", 0, 1),
            ("label_smoothing", 0, 0.99),
            ("augment", 0, 3),
            ("mixup", 0, 10),
            ("scanner", 0, 3),
            ("lesion_weight", 0, 100),
            ("inside_weight", 0, 100),
            ("teacher_weight", 0, 1),
            ("feature_weight", 0, 100),
            ("warmup_epochs", 0, 1000),
            ("patience", 0, 10_000),
            ("num_workers", 0, 256),
        ):
            if not low <= getattr(self, name) <= high:
                raise BusError(
                    f"{name} is {getattr(self, name)}",
                    remedy=f"give a value from {low} to {high}",
                    where="training config",
                )
        if not 0 <= self.fold < self.folds:
            raise BusError(
                f"fold {self.fold} of {self.folds} does not exist",
                where="training config",
                remedy=f"count folds from 0 to {self.folds - 1}",
            )
        if (self.teacher is None) != (self.teacher_weight == self.feature_weight == 0):
            raise BusError(
                "teacher, teacher_weight and feature_weight do not go together",
                where="training config",
                remedy="give a teacher and a weight above 0, or none of them",
            )
        unknown = [fold for fold in self.set_apart if not fold.isdigit() or int(fold) >= self.folds]
        if unknown or str(self.fold) in self.set_apart:
            raise BusError(
                f"set_apart is {' '.join(self.set_apart)}",
                where="training config",
                remedy=f"give folds from 0 to {self.folds - 1} other than fold {self.fold}",
            )
        for name, known in (
            ("init", ("auto", "timm", "package", "random")),
            ("mixed_precision", ("auto", "no", "fp16", "bf16")),
        ):
            if getattr(self, name) not in known:
                raise BusError(
                    f"{name} is '{getattr(self, name)}'",
                    where="training config",
                    remedy=f"choose one of {', '.join(known)}",
                )
        if self.input_size % 32:
            raise BusError(
                f"input_size {self.input_size} is not a multiple of 32",
                where="training config",
                remedy=f"take {round(self.input_size / 32) * 32 or 32}",
            )


def field_types() -> dict[str, Any]:
    """Resolved type of every setting, by name."""
    hints = typing.get_type_hints(TrainConfig)
    return {field.name: hints[field.name] for field in dataclasses.fields(TrainConfig)}


def from_mapping(values: dict[str, Any], where: object, base: TrainConfig | None = None) -> TrainConfig:
    """Return `base` (the defaults) with `values` in place; unknown keys and wrong types are BusErrors."""
    types_by_name = field_types()
    clean: dict[str, Any] = {}
    for key, value in values.items():
        if key not in types_by_name:
            near = difflib.get_close_matches(key, types_by_name, 1)
            hint = f"did you mean '{near[0]}'?" if near else "see train_accelerate.py --help for the settings"
            raise BusError(f"unknown setting '{key}'", where=where, remedy=f"take it out ({hint})")
        clean[key] = _coerced(key, value, types_by_name[key], where)
    return dataclasses.replace(base or TrainConfig(), **clean)


def from_yaml(path: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a YAML file of settings; BusError names the file and what is wrong in it."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file) or {}
    except OSError as error:
        raise BusError(
            f"the config cannot be read ({error.strerror})", where=path, remedy="give the path of a YAML file"
        ) from None
    except UnicodeDecodeError:
        raise BusError("the config is not text in UTF-8", where=path, remedy="give the path of a YAML file") from None
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f" at line {line + 1}" if line is not None else ""
        raise BusError(f"the config is not valid YAML{at}", where=path, remedy="correct it") from None
    if not isinstance(values, dict):
        raise BusError("the config is not a list of 'setting: value' lines", where=path, remedy="write it as such")
    return from_mapping(values, path, base)


def to_mapping(config: TrainConfig) -> dict[str, Any]:
    """The settings as plain YAML-ready values; `from_mapping` gives the config back."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
    }


def _coerced(key: str, value: Any, kind: Any, where: object) -> Any:
    """`value` as a setting of type `kind`; BusError where it is none.

    YAML reads `no` as a truth value, 1e-3 as text and 3 as a number; what the setting needs is clear in each case.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if value is None:
            return None
        kind = next(arg for arg in args if arg is not type(None))
    if origin is tuple:
        entries = [value] if isinstance(value, str) else value
        if isinstance(entries, list | tuple) and all(_is_kind(entry, str) or _is_kind(entry, int) for entry in entries):
            return tuple(str(entry) for entry in entries)
    elif kind is float and _is_kind(value, int):
        return float(value)
    elif isinstance(value, str) and kind is not str:
        try:
            return _BOOLS[value.strip().lower()] if kind is bool else kind(value)
        except (KeyError, ValueError):
            pass
    elif key == "mixed_precision" and value is False:
        return "no"
    elif _is_kind(value, kind):
        return value
    name = "list of texts" if origin is tuple else kind.__name__
    remedy = f"give it a value of type {name}"
    if isinstance(value, bool):
        remedy += (
            " (YAML reads yes, no, on and off as true or false: put a text in quotes, and leave out what is not set)"
        )
    raise BusError(f"{key} is {value!r}", where=where, remedy=remedy)


def _is_kind(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is not bool and isinstance(value, bool))
