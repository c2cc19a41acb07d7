"""Read held-out cases as the detector will: five views in two looks, with boxes and heat maps measured on the masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bus_hf.data.dataset import Case
from bus_hf.evaluation.lesions import on_lesion
from bus_hf.models import TrainingNet
from bus_hf.training.batches import normalised
from bus_hf.views import (
    FIRST_LOOK,
    MIN_PEAK,
    SECOND_LOOK,
    VIEW_WEIGHTS,
    VIEWS,
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
        progress: called with the number of cases read.

    Returns:
        One row an image and view: name, source, group, label, fold, member, view, `logit_k`, what the source knows, the
        found box (`box_*`, NaN where none) and the drawn one (`mask_*`) in original pixels, their IoU, the lesion map's
        peak, and the heat map's figures inside the mask.
    """
    device = next(net.parameters()).device

    def forward(squares: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        images = torch.from_numpy(np.stack(squares)).to(device)
        batch = normalised(images, mean, std).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            output = net(batch)
        lesion = torch.sigmoid(output.lesion.float())
        return _numpy(output.logits), _numpy(output.cam[:, -1]), _numpy(lesion)

    rows: list[dict[str, Any]] = []
    for start in range(0, len(cases), _CHUNK):
        chunk = cases[start : start + _CHUNK]
        first = [[window(view, _shape(case)) for view in FIRST_LOOK] for case in chunk]
        logits, cams, lesions = forward(_cut_all(chunk, first, size))
        per = len(FIRST_LOOK)
        maps = [merge(list(lesions[n * per : (n + 1) * per]), first[n], _shape(case)) for n, case in enumerate(chunk)]
        boxes = [find_box(lesion_map, MIN_PEAK) for lesion_map in maps]
        second = [
            [window(view, _shape(case), box) for view in SECOND_LOOK] for case, box in zip(chunk, boxes, strict=True)
        ]
        more_logits, more_cams, _ = forward(_cut_all(chunk, second, size))
        for n, case in enumerate(chunk):
            k = len(SECOND_LOOK)
            own_logits = [*logits[n * per : (n + 1) * per], *more_logits[n * k : (n + 1) * k]]
            own_cams = [*cams[n * per : (n + 1) * per], *more_cams[n * k : (n + 1) * k]]
            heat = np.maximum(
                merge(own_cams, [*first[n], *second[n]], _shape(case), [VIEW_WEIGHTS[view] for view in VIEWS]), 0
            )
            facts = _facts(case, member, fold) | on_lesion(case.mask, boxes[n], heat) | {"peak": float(maps[n].max())}
            for view, values in zip(VIEWS, own_logits, strict=True):
                rows.append(facts | {"view": view} | {f"logit_{i}": float(v) for i, v in enumerate(values)})
        if progress:
            progress(len(chunk))
    return pd.DataFrame(rows)


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
