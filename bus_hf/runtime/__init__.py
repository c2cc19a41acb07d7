"""Runtimes: a batch of views in, logits and maps out, whatever computes them. No torch until one is opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bus_hf.ensemble import Ensemble, MemberConfig, member_config, member_folder, parts
from bus_hf.errors import BusError
from bus_hf.labels import label_set


@dataclass(frozen=True)
class Outputs:
    """What one member says of N views.

    Args:
        logits: float32 (N, K).
        cams: float32 (N, K, h, w), the share of each place in the logits: their mean plus a bias is the logit.
        lesion: float32 (N, h', w'), probability of a lesion; None unless the member owns the lesion map.
    """

    logits: np.ndarray
    cams: np.ndarray
    lesion: np.ndarray | None


class Runtime(Protocol):
    """Members ready to answer; safe to call from several threads."""

    def input_size(self, member: str) -> int:
        """Side in pixels of the squares that `member` reads."""

    def __call__(self, member: str, images: np.ndarray) -> Outputs:
        """Read uint8 grey squares (N, S, S), S the member's input size."""


def open_runtime(
    folder: str | Path, ensemble: Ensemble, device: str | None = None, members: Sequence[str] | None = None
) -> Runtime:
    """Load the chosen members (all for None) and the owner of the lesion map.

    Args:
        folder: the ensemble folder.
        ensemble: its manifest, verified.
        device: such as "cpu" or "cuda:1"; None takes a GPU where there is one.
        members: names as in `ensemble.choose`.

    Raises:
        BusError: a member that cannot be loaded, or a device that is not there.
    """
    from bus_hf.runtime.torch_runtime import TorchRuntime

    return TorchRuntime(folder, ensemble, device=device, members=members)


def member_configs(
    folder: str | Path, ensemble: Ensemble, members: Sequence[str] | None = None
) -> dict[str, tuple[Path, MemberConfig]]:
    """Folder and config of each needed part; BusError when its outputs are not those of its label set."""
    second = ensemble.second_reading
    found = {}
    for member in parts(ensemble, members):
        classes = label_set(second.label_set if second and member is second.member else ensemble.label_set)
        # A single logit carries the name of the class it speaks for.
        names = classes.classes if classes.positive is None else (classes.positive,)
        home = member_folder(folder, member)
        config = member_config(home)
        if config.num_logits != classes.num_logits or config.label_names != names:
            raise BusError(
                f"its outputs ({', '.join(config.label_names)}) are not those of the label set '{classes.name}'",
                where=home,
                remedy=f"export a member trained on {', '.join(names)}",
            )
        found[member.name] = home, config
    return found
