"""What a member's `config.json` says, in timm's own form."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

from bus_hf.errors import BusError
from bus_hf.filenames import CONFIG
from bus_hf.validation import STRICT, load_bytes, read_bytes

_AGAIN = "export the member again"
# timm records more than serving reads.
_OPEN = ConfigDict(**STRICT | {"extra": "ignore"})

_Side = Annotated[int, Field(ge=8, le=1024)]
# Of pixels from 0 to 1.
_Mean = Annotated[float, Field(ge=-10, le=10)]
_Std = Annotated[float, Field(ge=1e-3, le=10)]
_Rate = Annotated[float, Field(ge=0, le=0.999)]


@dataclasses.dataclass(frozen=True)
class MemberConfig:
    """What serving needs of a member.

    `num_logits` outputs whose classes are `label_names`, a square RGB input of `input_size` pixels a side, `mean` and
    `std` of RGB from 0 to 1, and the arguments of timm that rebuild the network.
    """

    architecture: str
    num_logits: int
    label_names: tuple[str, ...]
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    model_args: dict[str, Any]


class _ModelArgs(BaseModel):
    """Arguments that are known to be harmless; others could build another network or read other files."""

    model_config = STRICT

    num_classes: int = 1000
    in_chans: Literal[3] = 3
    global_pool: Literal["avg"] = "avg"
    drop_rate: _Rate = 0.0
    drop_path_rate: _Rate = 0.0
    pretrained: bool = False


@dataclass(frozen=True, config=_OPEN)
class _PretrainedConfig:
    input_size: tuple[Literal[3], _Side, _Side]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    label_names: tuple[str, ...] | None = None


@dataclass(frozen=True, config=_OPEN)
class _TimmConfig:
    architecture: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,80}$", description="a name of timm's")]
    num_classes: int
    pretrained_cfg: _PretrainedConfig
    label_names: tuple[str, ...] | None = None
    model_args: _ModelArgs = Field(default_factory=_ModelArgs)


def member_config(folder: str | Path) -> MemberConfig:
    """Read what serving needs of a member's `config.json`.

    Raises:
        BusError: the first thing that is wrong in it.
    """
    path = Path(folder) / CONFIG
    return parse_config(read_bytes(path, _AGAIN), Path(folder))


def parse_config(data: bytes, folder: Path) -> MemberConfig:
    """`member_config` of the bytes of a `config.json` that lies in `folder`."""
    path = folder / CONFIG
    config = load_bytes(_TimmConfig, data, path, _AGAIN)
    pretrained = config.pretrained_cfg
    channels, height, width = pretrained.input_size
    if height != width:
        raise BusError(
            f"the input size is {channels}x{height}x{width}", where=path, remedy="export with a square input"
        )
    names = config.label_names or pretrained.label_names
    if names is None:
        raise BusError("the key 'label_names' is missing", where=path, remedy=_AGAIN)
    return MemberConfig(
        architecture=config.architecture,
        num_logits=config.num_classes,
        label_names=names,
        input_size=height,
        mean=pretrained.mean,
        std=pretrained.std,
        model_args=config.model_args.model_dump(include={"in_chans", "global_pool"}, exclude_unset=True),
    )
