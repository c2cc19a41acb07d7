"""Training batches: cases in memory, drawn and augmented reproducibly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler, WeightedRandomSampler

from bus_hf.data.dataset import Case
from bus_hf.labels import birads_category
from bus_hf.training.grey_exchange import GreyExchange
from bus_hf.training.squares import Squares
from bus_hf.views import cut, window

Draw = tuple[int, int, int]


class DrawSampler(Sampler[Draw]):
    """Yields (epoch, place in the epoch, index): everything random about a draw follows from it, in any worker.

    Set `epoch` before each pass. The order depends on seed and epoch alone, so a resumed run draws what an
    uninterrupted one would have drawn.

    Args:
        strata: what each image is drawn as, such as its class; every stratum is drawn equally often. None: every image
            once a pass.
        count: number of images.
        seed: of the order.
        length: number of draws, `count` where it is 0.
    """

    def __init__(self, strata: Sequence[Hashable] | None, count: int, seed: int, length: int = 0) -> None:
        sizes = Counter(strata or ())
        self.weights = [1.0 / sizes[stratum] for stratum in strata] if strata else [1.0] * count
        self.balanced = strata is not None
        self.length = length or count
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        if self.balanced:
            indices: Sequence[int] = list(
                WeightedRandomSampler(self.weights, len(self), replacement=True, generator=generator)
            )
        else:
            count = len(self.weights)
            passes = range(-(-len(self) // count))
            indices = [int(i) for _ in passes for i in torch.randperm(count, generator=generator)][: len(self)]
        for place, index in enumerate(indices):
            yield self.epoch, place, index


class TrainingImages(Dataset[dict[str, Tensor]]):
    """Squares of the training cases, indexed by a draw.

    An item holds uint8 (S, S) `image` and `mask`, bool `has_mask`, int64 `label` and `birads` (0 where not known).

    Args:
        cases: to draw from.
        squares: makes the square of a draw.
        seed: of everything random about it.
        exchange: changes the grey values of a square, where wanted.
    """

    def __init__(
        self, cases: Sequence[Case], squares: Squares, seed: int, exchange: GreyExchange | None = None
    ) -> None:
        self.cases = cases
        self.squares = squares
        self.seed = seed
        self.exchange = exchange

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, draw: Draw) -> dict[str, Tensor]:
        epoch, place, index = draw
        case = self.cases[index]
        rng = np.random.default_rng((self.seed, epoch, place, index))
        image, mask = self.squares(case, rng)
        if self.exchange:
            image = self.exchange(image, case.source, rng)
        return {
            "image": torch.from_numpy(image),
            "mask": torch.from_numpy(mask),
            "has_mask": torch.tensor(case.mask is not None),
            "label": torch.tensor(case.label),
            "birads": torch.tensor(birads_category(case.birads)),
        }


class WholeImages(Dataset[dict[str, Tensor]]):
    """The letterboxed whole view of each case, uint8 (size, size), with its index; each is cut once and kept."""

    def __init__(self, cases: Sequence[Case], size: int) -> None:
        self.cases = cases
        self.size = size
        self._squares: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if index not in self._squares:
            image = self.cases[index].image
            self._squares[index] = torch.from_numpy(cut(image, window("whole", image.shape[:2]), self.size))
        return {"image": self._squares[index], "index": torch.tensor(index)}


def mixup(batch: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Blend each draw of a batch with another one (H. Zhang et al., "mixup", ICLR 2018).

    Args:
        batch: of `TrainingImages`, collated: uint8 (N, S, S) images and masks, bool and int64 (N,).
        alpha: of the Beta distribution that the share of the first is drawn from, by torch's own generator.

    Returns:
        A batch with blended float32 (N, S, S) images and masks, 0 to 255, and beside `label` the `other` label and
        the `share` of the first, a scalar from 0.5 to 1.
    """
    share = torch.distributions.Beta(alpha, alpha).sample().to(batch["image"].device)
    share = torch.maximum(share, 1 - share)
    order = torch.randperm(len(batch["label"]), device=batch["image"].device)

    def blend(values: Tensor) -> Tensor:
        return share * values.float() + (1 - share) * values[order].float()

    return {
        "image": blend(batch["image"]),
        "mask": blend(batch["mask"]),
        "has_mask": batch["has_mask"] & batch["has_mask"][order],
        "label": batch["label"],
        "other": batch["label"][order],
        "share": share,
    }


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Turn grey (N, S, S), 0 to 255, into float32 (N, 3, S, S): grey in each channel, by the member's mean and std."""
    grey = images[:, None].float() / 255
    shape = (1, 3, 1, 1)
    return (grey - grey.new_tensor(mean).view(shape)) / grey.new_tensor(std).view(shape)
