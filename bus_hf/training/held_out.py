"""Logits of held-out cases by the path of the detector, with boxes and heat maps measured on the drawn masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from bus_hf.config import TrainConfig
from bus_hf.data.dataset import Case
from bus_hf.errors import BusError
from bus_hf.evaluation import stored_logits
from bus_hf.evaluation.lesions import on_lesion
from bus_hf.filenames import LOGITS
from bus_hf.inference.runtime import Outputs, Runtime
from bus_hf.inference.two_stage import ImageOutputs, evidence_map, two_stage
from bus_hf.labels import label_set
from bus_hf.models import TrainingNet
from bus_hf.training.batches import normalised
from bus_hf.views import MIN_PEAK, VIEW_WEIGHTS, Box

# Images of one batch: five views of each go through the network.
_BATCH = 16


class NetworkRuntime:
    """A network in training as a runtime of one member.

    Args:
        net: in eval mode, on the device to use.
        size: side of its input in pixels.
        mean: the member's, three values.
        std: the member's, three values.
        fold: that was held out, for errors.
    """

    side_by_side = False

    def __init__(
        self, net: TrainingNet, *, size: int, mean: Sequence[float], std: Sequence[float], fold: int = 0
    ) -> None:
        self.device = next(net.parameters()).device
        self._net = net
        self._size = size
        self._mean, self._std = mean, std
        self._fold = fold

    def input_size(self, member: str) -> int:
        """Side in pixels of the squares that the network takes."""
        return self._size

    def __call__(self, member: str, images: np.ndarray) -> Outputs:
        """Run the network on uint8 grey squares (N, S, S); BusError where it gives what is not finite."""
        squares = torch.from_numpy(images).to(self.device)
        batch = normalised(squares, self._mean, self._std).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            output = self._net(batch)
        values = [_numpy(part) for part in (output.logits, output.cam, torch.sigmoid(output.lesion.float()))]
        if not all(np.isfinite(array).all() for array in values):
            raise BusError(
                f"{member} gives logits or maps that are not finite",
                where=f"fold {self._fold}",
                remedy="train it again with a lower --lr",
            )
        return Outputs(*values)


def held_out_logits(
    runtime: Runtime,
    cases: Sequence[Case],
    *,
    member: str,
    fold: int,
    malignant: int,
    boxes: Mapping[str, Box | None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Logits of every view of cases that a member did not train on.

    Args:
        runtime: computes the member, which has a lesion map of its own.
        cases: held-out cases.
        member: name of the member.
        fold: number of the fold.
        malignant: index of the malignant class, where the member has several logits.
        boxes: box of each case by name, which the lesion crops take; those of the member's lesion map where None.
        progress: called with the number of cases done.

    Returns:
        One row an image and view: name, source, group, label, fold, member, view, `logit_k`, what the source knows, the
        box of the lesion crops (`box_*`, NaN where none) and the drawn one (`mask_*`) in original pixels, their IoU,
        the peak of the member's lesion map, and how the heat map lies on the mask.

    Raises:
        BusError: a logit or a map is not finite.
    """
    rows: list[dict[str, Any]] = []
    for start in range(0, len(cases), _BATCH):
        batch = cases[start : start + _BATCH]
        batch_outputs = two_stage(
            runtime,
            [case.image for case in batch],
            locator=member,
            members=[member],
            min_peak=MIN_PEAK,
            boxes=None if boxes is None else {index: boxes[case.name] for index, case in enumerate(batch)},
            every_map=True,
        )
        for case, outputs in zip(batch, batch_outputs, strict=True):
            rows += _rows(case, outputs, member, fold, malignant)
        if progress:
            progress(len(batch))
    return pd.DataFrame(rows)


def fold_logits(
    net: TrainingNet, cases: Sequence[Case], config: TrainConfig, boxes: Mapping[str, Box | None] | None
) -> pd.DataFrame:
    """`held_out_logits` of a network in eval mode, as a run's config has it, under a progress bar."""
    stored = net.backbone.pretrained_cfg
    runtime = NetworkRuntime(net, size=config.input_size, mean=stored["mean"], std=stored["std"], fold=config.fold)
    with tqdm(total=len(cases), unit="image", desc="out-of-fold") as bar:
        return held_out_logits(
            runtime,
            cases,
            member=config.backbone,
            fold=config.fold,
            malignant=label_set(config.label_set).cancer,
            boxes=boxes,
            progress=bar.update,
        )


def joined_logits(runs: Sequence[Path], names: Sequence[str]) -> pd.DataFrame:
    """Logits of runs that each held out another source, `fold` numbering the runs.

    Args:
        runs: finished ones.
        names: of the images that they held out together.

    Raises:
        BusError: logits cannot be read, or some images are missing or there twice.
    """
    frames = [stored_logits.read(run / LOGITS, "finish the run") for run in runs]
    frame = pd.concat([part.assign(fold=fold) for fold, part in enumerate(frames)], ignore_index=True)
    found = frame.drop_duplicates(["name", "fold"])["name"]
    if sorted(found) != sorted(names):
        raise BusError(
            "the runs without each source do not hold out every image once",
            where=", ".join(str(run) for run in runs),
            remedy="train all of them on the same data",
        )
    return frame


def read_boxes(path: str | Path, cases: Sequence[Case]) -> dict[str, Box | None]:
    """Boxes of another member's lesion map, from its out-of-fold logits.

    Args:
        path: Parquet file of what `held_out_logits` makes; its first member's boxes are taken.
        cases: held-out cases that need a box.

    Returns:
        Box of each case by name, None where that member found no lesion.

    Raises:
        BusError: the file cannot be read, does not hold every case out-of-fold, or has a box that is none.
    """
    try:
        frame = pd.read_parquet(path)
        frame = frame[frame["member"] == frame["member"].iloc[0]].drop_duplicates("name")
        sides = frame.set_index("name")[[f"box_{side}" for side in "xywh"]].astype(float)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise BusError(
            "no out-of-fold logits can be read here", where=path, remedy="give the out_of_fold.parquet of a run"
        ) from None
    lacking = [case.name for case in cases if case.name not in sides.index]
    if lacking:
        raise BusError(
            f"{len(lacking)} of {len(cases)} held-out images have no entry ({lacking[0]}, for one)",
            where=path,
            remedy="give logits of a run that held out the same images",
        )
    none = sides.isna().all(axis=1)
    whole = np.isfinite(sides).all(axis=1) & (sides[["box_w", "box_h"]] > 0).all(axis=1)
    odd = [case.name for case in cases if not (none[case.name] or whole[case.name])]
    if odd:
        raise BusError(
            f"the boxes of {len(odd)} images are not finite or have no area ({odd[0]}, for one)",
            where=path,
            remedy="give logits of a run that found its boxes itself",
        )
    return {
        str(name): None if np.isnan(values[0]) else Box(*map(float, values))
        for name, values in zip(sides.index, sides.to_numpy(), strict=True)
    }


def _rows(case: Case, outputs: ImageOutputs, member: str, fold: int, malignant: int) -> list[dict[str, Any]]:
    """One row a view."""
    heat = evidence_map(outputs, {member: 1.0}, VIEW_WEIGHTS, malignant)
    facts = _facts(case, member, fold) | on_lesion(case.mask, outputs.box, heat) | {"peak": outputs.peak}
    return [
        facts | {"view": view} | {f"logit_{k}": float(value) for k, value in enumerate(logits)}
        for view, logits in outputs.logits[member].items()
    ]


def _numpy(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _facts(case: Case, member: str, fold: int) -> dict[str, Any]:
    height, width = case.image.shape[:2]
    return {
        "name": case.name,
        "source": case.source,
        "group": case.group,
        "label": case.label,
        "fold": fold,
        "member": member,
        "pathology": case.pathology,
        "birads": case.birads,
        "histology": case.histology,
        "device": case.device,
        "height": height,
        "width": width,
    }
