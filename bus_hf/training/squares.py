"""Augmented squares of training images: made for each draw, or some versions of each image made beforehand."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from bus_hf.data.dataset import Case
from bus_hf.training.augmentation import TrainTransform

_BATCH = 16


class Squares(Protocol):
    """Gives the uint8 (S, S) image and mask of a case, which `rng` alone decides."""

    def __call__(self, case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Make the square of one draw."""


class DrawnSquares:
    """Augments every draw."""

    def __init__(self, transform: TrainTransform) -> None:
        self._transform = transform

    def __call__(self, case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Augment the case."""
        return self._transform(case.image, case.mask, rng)


class PreparedSquares:
    """Some versions of each image, augmented beforehand; a draw takes one of them.

    Args:
        cases: those that may be drawn; their names tell them apart.
        transform: of each version.
        versions: number of versions of an image; they depend on its name and nothing else.
        workers: processes that make them; 0 makes them in this one.
    """

    def __init__(self, cases: Sequence[Case], transform: TrainTransform, versions: int, workers: int = 0) -> None:
        self._rows = {case.name: row for row, case in enumerate(cases)}
        size = transform.size
        self._squares = torch.empty((len(cases) * versions, 2, size, size), dtype=torch.uint8)
        self._versions = versions
        loader = DataLoader(_Versions(cases, transform, versions), batch_size=_BATCH, num_workers=workers)
        start = 0
        for squares in tqdm(loader, unit="batch", desc=f"{versions} versions of {len(cases)} images", disable=None):
            self._squares[start : start + len(squares)] = squares
            start += len(squares)

    def __call__(self, case: Case, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw one of the versions of a case."""
        row = self._rows[case.name] * self._versions + int(rng.integers(self._versions))
        image, mask = self._squares[row].numpy()
        return image, mask


class _Versions(Dataset[Tensor]):
    """Every version of every case, uint8 (2, S, S): image and mask."""

    def __init__(self, cases: Sequence[Case], transform: TrainTransform, versions: int) -> None:
        self._cases, self._transform, self._versions = cases, transform, versions

    def __len__(self) -> int:
        return len(self._cases) * self._versions

    def __getitem__(self, index: int) -> Tensor:
        case, version = self._cases[index // self._versions], index % self._versions
        name = int.from_bytes(hashlib.sha256(case.name.encode()).digest()[:8], "big")
        image, mask = self._transform(case.image, case.mask, np.random.default_rng((name, version)))
        return torch.from_numpy(np.stack([image, mask]))
