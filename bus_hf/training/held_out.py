"""Read held-out cases as the detector will: five views in two looks, with boxes and heat maps measured on the masks."""

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
from bus_hf.evaluation.lesions import on_lesion
from bus_hf.models import TrainingNet
from bus_hf.training.batches import normalised
from bus_hf.views import (
    GLOBAL_VIEWS,
    LESION_CROPS,
    MIN_PEAK,
    VIEW_WEIGHTS,
    VIEWS,
    Box,
    Window,
    cut,
    find_box,
    merge,
    window,
)

# Images read at a time: five views of each go through the network.
_CHUNK = 16


def read_out_of_fold(
    net: TrainingNet,
    cases: Sequence[Case],
    *,
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    member: str,
    fold: int,
    boxes: Mapping[str, Box | None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Logits of every view of cases that `net` did not train on.

    Args:
        net: in eval mode, on the device to use.
        cases: held-out cases.
        size: side of the input in pixels.
        mean: the member's, three values.
        std: the member's, three values.
        member: name of the member.
        fold: number of the fold.
        boxes: box of each case by name, which the lesion crops take; those of the own lesion map where None.
        progress: called with the number of cases read.

    Returns:
        One row an image and view: name, source, group, label, fold, member, view, `logit_k`, what the source knows, the
        found box (`box_*`, NaN where none) and the drawn one (`mask_*`) in original pixels, their IoU, the lesion map's
        peak, and the heat map's figures inside the mask.

    Raises:
        BusError: a logit or a map is not finite.
    """
    device = next(net.parameters()).device

    def forward(squares: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = torch.from_numpy(np.stack(squares)).to(device)
        batch = normalised(images, mean, std).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            output = net(batch)
        lesion = torch.sigmoid(output.lesion.float())
        read = _numpy(output.logits), _numpy(output.cam[:, -1]), _numpy(lesion)
        if not all(np.isfinite(values).all() for values in read):
            raise BusError(
                f"{member} gives logits or maps that are not finite",
                where=f"fold {fold}",
                remedy="train it again with a lower --lr",
            )
        return read

    rows: list[dict[str, Any]] = []
    for start in range(0, len(cases), _CHUNK):
        chunk = cases[start : start + _CHUNK]
        first = [[window(view, _shape(case)) for view in GLOBAL_VIEWS] for case in chunk]
        logits, cams, lesions = forward(_cut_all(chunk, first, size))
        per = len(GLOBAL_VIEWS)
        maps = [merge(list(lesions[n * per : (n + 1) * per]), first[n], _shape(case)) for n, case in enumerate(chunk)]
        if boxes is None:
            found = [find_box(lesion_map, MIN_PEAK) for lesion_map in maps]
        else:
            found = [boxes[case.name] for case in chunk]
        second = [
            [window(view, _shape(case), box) for view in LESION_CROPS] for case, box in zip(chunk, found, strict=True)
        ]
        more_logits, more_cams, _ = forward(_cut_all(chunk, second, size))
        for n, case in enumerate(chunk):
            k = len(LESION_CROPS)
            own_logits = [*logits[n * per : (n + 1) * per], *more_logits[n * k : (n + 1) * k]]
            own_cams = [*cams[n * per : (n + 1) * per], *more_cams[n * k : (n + 1) * k]]
            heat = np.maximum(
                merge(own_cams, [*first[n], *second[n]], _shape(case), [VIEW_WEIGHTS[view] for view in VIEWS]), 0
            )
            facts = _facts(case, member, fold) | on_lesion(case.mask, found[n], heat) | {"peak": float(maps[n].max())}
            for view, values in zip(VIEWS, own_logits, strict=True):
                rows.append(facts | {"view": view} | {f"logit_{i}": float(v) for i, v in enumerate(values)})
        if progress:
            progress(len(chunk))
    return pd.DataFrame(rows)


def read_fold(
    net: TrainingNet, cases: Sequence[Case], config: TrainConfig, boxes: Mapping[str, Box | None] | None
) -> pd.DataFrame:
    """`read_out_of_fold` with what a run's config says, under a progress bar."""
    cfg = net.backbone.pretrained_cfg
    with tqdm(total=len(cases), unit="image", desc="out-of-fold") as bar:
        return read_out_of_fold(
            net,
            cases,
            size=config.input_size,
            mean=cfg["mean"],
            std=cfg["std"],
            member=config.backbone,
            fold=config.fold,
            boxes=boxes,
            progress=bar.update,
        )


def read_boxes(path: str | Path, cases: Sequence[Case]) -> dict[str, Box | None]:
    """Boxes that another member's lesion map found, from its out-of-fold logits.

    Args:
        path: Parquet file as `read_out_of_fold` makes it; its first member's boxes are taken.
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
            remedy="give logits of a run that left out the same images",
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


def _shape(case: Case) -> tuple[int, int]:
    return case.image.shape[0], case.image.shape[1]


def _cut_all(cases: Sequence[Case], windows: list[list[Window]], size: int) -> list[np.ndarray]:
    return [cut(case.image, win, size) for case, own in zip(cases, windows, strict=True) for win in own]


def _numpy(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()


def _facts(case: Case, member: str, fold: int) -> dict[str, Any]:
    height, width = _shape(case)
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
