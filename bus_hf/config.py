"""The settings of a training run: one frozen pydantic dataclass, read strictly from YAML and flags."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from bus_hf.errors import BusError
from bus_hf.validation import STRICT, plain_errors, require_unique

# Settings of the machine and of a call; they decide nothing about a network.
MACHINE = ("num_workers", "threads", "trackers", "logging_dir", "resume", "max_epochs_now")

# Groups of `train_accelerate.py --help`.
DATA, NETWORK, SPLITS = "data", "network and pretrained weights", "splits"
OPTIMISATION, BALANCE, MASKS = "optimisation", "balance", "mask supervision"
AUGMENTATION, HELD_OUT, DISTILLATION = "augmentation", "held-out logits", "distillation"
MACHINE_AND_HUB = "machine and Hub"

# What a run holds out of training, where it is no source's name.
FOLD, EACH_SOURCE = "fold", "each source"


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


def _switch(value: Any) -> Any:
    if not isinstance(value, bool | str):
        raise ValueError("true or false")
    return value


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a text in quotes, or leave it out (YAML reads yes, no, on and off as true or false)")
    return value


def _texts(value: Any) -> Any:
    """One text is a list of one, and numbers in a list are texts."""
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list | tuple) or not all(type(entry) in (str, int) for entry in entries):
        raise ValueError("a list of texts (YAML reads yes, no, on and off as true or false: put a text in quotes)")
    return tuple(str(entry) for entry in entries)


# YAML reads 1e-3 as a text, 3 as a whole number and `no` as a truth value. Pydantic's own reading of texts settles
# numbers and switches; what these validators refuse it would take for a number or a truth value.
Whole = Annotated[int, BeforeValidator(_number), Field(strict=False)]
Real = Annotated[float, BeforeValidator(_number), Field(strict=False)]
Switch = Annotated[bool, BeforeValidator(_switch), Field(strict=False)]
Text = Annotated[str, BeforeValidator(_text)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
# An empty flag takes back what a config names.
MaybeText = Annotated[str | None, BeforeValidator(lambda value: None if value == "" else _text(value))]
Precision = Annotated[
    Literal["auto", "no", "fp16", "bf16"], BeforeValidator(lambda value: "no" if value is False else value)
]


def _setting(group: str, default: Any, text: str, **bounds: Any) -> Any:
    return Field(default, description=text, json_schema_extra={"group": group}, **bounds)


@dataclass(frozen=True, config=STRICT)
class TrainConfig:
    """Every setting of a training run; `help` texts are those of `train_accelerate.py --help`."""

    data: Texts = _setting(DATA, (), "folders or Hub ids of labelled images; several are joined")
    streaming: Switch = _setting(DATA, False, "read Hub ids row by row, without a copy on disk")
    phantoms: Whole = _setting(
        DATA, 0, "without data: make so many phantoms of each class and train on them (a test)", ge=0, le=10_000
    )
    output: Text = _setting(DATA, "runs/member", "folder of the run: state to resume from, logits, plots, checkpoint")
    label_set: Text = _setting(DATA, "malignancy", "malignancy (one logit), busi3 or histology (one logit a class)")
    backbone: Text = _setting(NETWORK, "tf_efficientnet_lite0", "timm architecture")
    input_size: Whole = _setting(
        NETWORK, 192, "side of the square network input, in pixels", ge=32, le=1024, multiple_of=32
    )
    init: Literal["auto", "timm", "package", "random"] = _setting(
        NETWORK, "auto", "auto (timm's, else a package's, else random), timm, package or random"
    )
    init_from: MaybeText = _setting(NETWORK, None, "our own checkpoint (folder or Hub id), or a .safetensors file")
    freeze: Texts = _setting(NETWORK, (), "prefixes of parameter names that stay as they start")
    slow: Texts = _setting(NETWORK, (), "prefixes of parameter names that learn at slow_scale of the rate")
    slow_scale: Real = _setting(NETWORK, 0.3, "share of the learning rate for the parameters in slow", ge=0, le=100)
    drop_rate: Real = _setting(NETWORK, 0.2, "dropout before the classifier", ge=0, le=0.99)
    drop_path_rate: Real = _setting(NETWORK, 0.1, "stochastic depth, where the architecture has it", ge=0, le=0.99)
    folds: Whole = _setting(SPLITS, 5, "number of grouped folds", ge=2, le=100)
    fold: Whole = _setting(
        SPLITS, 0, "the fold that is held out of training, for validation and out-of-fold logits", ge=0, le=99
    )
    split_seed: Whole = _setting(SPLITS, 0, "seed of the folds that are assigned", ge=0, le=2**31 - 1)
    folds_from: MaybeText = _setting(
        SPLITS,
        None,
        "CSV (name, fold) of folds that were assigned before and are kept; groups that are not in it are assigned anew",
    )
    set_apart: Texts = _setting(SPLITS, (), "further folds that are excluded: neither trained on nor held out")
    train_sources: Texts = _setting(
        SPLITS, (), "train on these sources alone and read every image of the others too; empty: on all"
    )
    hold_out: Text = _setting(
        SPLITS,
        FOLD,
        "fold; a source (hospital) by its name, which is then not trained on; or 'each source': a network without each "
        "gives its logits, and the one that ships is trained on everything",
    )
    near_duplicates: Switch = _setting(SPLITS, True, "join near-duplicate images into one group (leave on)")
    seed: Whole = _setting(OPTIMISATION, 0, "seed of weights, sampling and augmentation", ge=0, le=2**31 - 1)
    epochs: Whole = _setting(OPTIMISATION, 14, "passes over the training images", ge=1, le=10_000)
    epoch_images: Whole = _setting(
        OPTIMISATION, 0, "images drawn in a pass; 0: as many as there are", ge=0, le=10_000_000
    )
    batch_size: Whole = _setting(OPTIMISATION, 32, "images a step, over all processes", ge=1, le=65_536)
    lr: Real = _setting(OPTIMISATION, 1e-3, "peak learning rate of AdamW", ge=0, le=10)
    weight_decay: Real = _setting(OPTIMISATION, 0.02, "weight decay of AdamW, not on norms and biases", ge=0, le=10)
    warmup_epochs: Real = _setting(OPTIMISATION, 1.0, "epochs of linear warm-up before the cosine", ge=0, le=1000)
    clip_grad: Real = _setting(OPTIMISATION, 1.0, "largest gradient norm; 0 switches clipping off", ge=0, le=1_000_000)
    ema_decay: Real = _setting(
        OPTIMISATION,
        0.995,
        "decay of the averaged weights that are validated and kept; 0 switches it off",
        ge=0,
        le=0.999999,
    )
    patience: Whole = _setting(
        OPTIMISATION,
        0,
        "stop after so many epochs without a better AUROC and keep the best; 0: keep the last",
        ge=0,
        le=10_000,
    )
    mixed_precision: Precision = _setting(
        OPTIMISATION, "auto", "auto (fp16 on CUDA, no on CPU), no, fp16 or bf16 (no on a CPU without it)"
    )
    channels_last: Switch = _setting(OPTIMISATION, True, "channels-last memory layout")
    balanced_sampling: Switch = _setting(BALANCE, True, "draw every class equally often")
    balance_sources: Switch = _setting(BALANCE, False, "draw every source (hospital) equally often too")
    pos_weight: Switch = _setting(BALANCE, False, "weigh classes in the loss by their rarity (instead of sampling)")
    label_smoothing: Real = _setting(BALANCE, 0.0, "share of the label spread over the classes", ge=0, le=0.99)
    lesion_crop_prob: Real = _setting(MASKS, 0.4, "probability of a training crop around the lesion", ge=0, le=1)
    lesion_weight: Real = _setting(MASKS, 0.5, "weight of the lesion term (Dice + BCE)", ge=0, le=100)
    inside_weight: Real = _setting(
        MASKS, 0.1, "weight of the inside term: malignant evidence belongs on the lesion", ge=0, le=100
    )
    birads_weight: Real = _setting(
        MASKS,
        0.0,
        "weight of the BI-RADS term (category 3, 4, 5 or above), on images whose category is known",
        ge=0,
        le=100,
    )
    lesion_stride: Whole = _setting(MASKS, 8, "pixels of the input a cell of the lesion map covers", ge=1, le=64)
    augment: Real = _setting(
        AUGMENTATION, 1.0, "strength of the augmentation; 0 leaves only the letterboxed image", ge=0, le=3
    )
    mixup: Real = _setting(
        AUGMENTATION,
        0.0,
        "alpha of mixup (images, masks and labels of two draws blended); 0 switches it off",
        ge=0,
        le=10,
    )
    boxes: MaybeText = _setting(
        HELD_OUT,
        None,
        "out-of-fold logits (Parquet) whose boxes the lesion crops take; without it, those of its own lesion map",
    )
    teacher: MaybeText = _setting(
        DISTILLATION, None, "member folder or Hub id that reads every augmented training square too"
    )
    teacher_weight: Real = _setting(
        DISTILLATION, 0.0, "share of the class loss that is taken against the teacher's probability", ge=0, le=1
    )
    feature_weight: Real = _setting(
        DISTILLATION, 0.0, "weight of the term that draws the last feature map to the teacher's", ge=0, le=100
    )
    scanner: Real = _setting(
        AUGMENTATION, 0.0, "strength of augmentation that mimics other scanners (tones, depth gain, marks)", ge=0, le=3
    )
    grey_exchange: Real = _setting(
        AUGMENTATION,
        0.0,
        "probability that a square takes the distribution of grey values of a training image of another source",
        ge=0,
        le=1,
    )
    versions: Whole = _setting(
        AUGMENTATION,
        0,
        "augment each image so many times beforehand and draw from these squares, which several runs of one call share "
        "(2 x input_size^2 bytes each); 0: augment every draw",
        ge=0,
        le=10_000,
    )
    num_workers: Whole = _setting(
        MACHINE_AND_HUB, 2, "processes that prepare images; 0 prepares them in the training process", ge=0, le=256
    )
    threads: Whole = _setting(
        MACHINE_AND_HUB, 0, "CPU threads of the network; 0 leaves the choice to PyTorch", ge=0, le=1024
    )
    trackers: Texts = _setting(
        MACHINE_AND_HUB, ("tensorboard",), "trackers that accelerate knows; the empty list for none"
    )
    logging_dir: Text = _setting(MACHINE_AND_HUB, "logs", "folder of the trackers' logs")
    resume: Switch = _setting(MACHINE_AND_HUB, True, "go on from the state in the output folder where there is one")
    push_to_hub: MaybeText = _setting(
        MACHINE_AND_HUB, None, "when the run is finished, push its member to this repository, owner/name"
    )
    hub_private: Switch = _setting(MACHINE_AND_HUB, False, "make that repository private, where it is new")
    max_epochs_now: Whole = _setting(
        MACHINE_AND_HUB, 0, "stop after so many epochs in this call, to be resumed; 0: run to the end", ge=0, le=10_000
    )

    @model_validator(mode="after")
    def _settings_fit_together(self) -> TrainConfig:
        if not self.fold < self.folds:
            raise BusError(
                f"fold {self.fold} of {self.folds} does not exist", remedy=f"count folds from 0 to {self.folds - 1}"
            )
        if (self.teacher is None) != (self.teacher_weight == self.feature_weight == 0):
            raise BusError(
                "teacher, teacher_weight and feature_weight do not go together",
                remedy="give a teacher and a weight above 0, or none of them",
            )
        if self.hold_out != FOLD and (self.set_apart or self.train_sources or self.folds_from):
            raise BusError(
                f"hold_out is '{self.hold_out}', which does not go with set_apart, train_sources or folds_from",
                remedy="leave these out, or hold out a fold",
            )
        if self.hold_out == EACH_SOURCE and self.patience:
            raise BusError(
                "the network that ships holds nothing out to stop early by",
                remedy="set patience to 0, or hold out a fold",
            )
        if self.birads_weight and self.mixup:
            raise BusError("the BI-RADS term knows no blended images", remedy="set mixup or birads_weight to 0")
        unknown = [fold for fold in self.set_apart if not fold.isdigit() or int(fold) >= self.folds]
        if unknown or str(self.fold) in self.set_apart:
            raise BusError(
                f"set_apart is {' '.join(self.set_apart)}",
                remedy=f"give folds from 0 to {self.folds - 1} other than fold {self.fold}",
            )
        return self


def settings_by_group() -> dict[str, dict[str, FieldInfo]]:
    """Type, default, help (`description`) and bounds of every setting, by its group and its name."""
    groups: dict[str, dict[str, FieldInfo]] = {}
    for name, setting in _settings().items():
        groups.setdefault(setting.json_schema_extra["group"], {})[name] = setting  # type: ignore[index, arg-type]
    return groups


def _settings() -> dict[str, FieldInfo]:
    return TrainConfig.__pydantic_fields__  # type: ignore[attr-defined, no-any-return]


def from_mapping(values: dict[str, Any], where: object, base: TrainConfig | None = None) -> TrainConfig:
    """Put settings in the place of others.

    Args:
        values: by name, as YAML or flags give them.
        where: names their place in errors.
        base: the settings to start from; the defaults where None.

    Raises:
        BusError: an unknown setting, a wrong type, a value out of its bounds, or settings that do not fit together.
    """
    known = _settings()
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean '{near[0]}'?" if near else "see train_accelerate.py --help for the settings"
            raise BusError(f"unknown setting '{key}'", where=where, remedy=f"take it out ({hint})")
    with plain_errors(TrainConfig, where):
        return dataclasses.replace(base or TrainConfig(), **values)


def from_yaml(path: str | Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a YAML file of settings; BusError names the file and what is wrong in it."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
    except OSError as error:
        raise BusError(
            f"the config cannot be read ({error.strerror})", where=path, remedy="give the path of a YAML file"
        ) from None
    except UnicodeDecodeError:
        raise BusError("the config is not text in UTF-8", where=path, remedy="give the path of a YAML file") from None
    except (yaml.YAMLError, RecursionError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f" at line {line + 1}" if line is not None else ""
        raise BusError(f"the config is not valid YAML{at}", where=path, remedy="correct it") from None
    if not isinstance(values, dict):
        raise BusError("the config is not a list of 'setting: value' lines", where=path, remedy="write it as such")
    try:
        # A loaded mapping has kept one of two equal keys.
        require_unique(key.value for key, _ in (yaml.compose(text).value if values else ()))
    except BusError as error:
        raise BusError(error.what, where=path, remedy=error.remedy) from None
    return from_mapping(values, path, base)


def to_mapping(config: TrainConfig) -> dict[str, Any]:
    """The settings as plain YAML-ready values; `from_mapping` gives the config back."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()
    }
