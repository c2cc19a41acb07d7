"""Training augmentation: a window of the image (the whole or around the lesion), then albumentations on the square."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

# Albumentations asks a server for its newest version on import; training asks nobody anything.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np

from bus_hf.training.scanners import scanner_steps
from bus_hf.views import Box, Window, centred, cut

# Decibels that a scanner's log compression spreads over the 256 grey values; from the manuals of common scanners.
_DYNAMIC_RANGE = (50.0, 80.0)


class Speckle(A.ImageOnlyTransform):
    """Multiplicative speckle on the envelope of a log-compressed B-mode image.

    The envelope is multiplied by the square root of a gamma variable of mean 1 and shape `looks` (one look is Rayleigh
    speckle: J. W. Goodman, "Speckle Phenomena in Optics", 2007, ch. 3 and 4; log compression turns the product into a
    sum). Pixels of value 0 lie outside the beam and stay 0.

    Args:
        looks: range of the gamma shape; the smaller, the stronger.
        grain: range of the speckle size in pixels (standard deviation of the smoothing).
        p: probability of applying it.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        """Bounds of the arguments, as albumentations checks them."""

        looks: tuple[float, float]
        grain: tuple[float, float]

    def __init__(
        self, looks: tuple[float, float] = (1.0, 4.0), grain: tuple[float, float] = (0.4, 1.2), p: float = 0.5
    ):
        super().__init__(p=p)
        self.looks = looks
        self.grain = grain

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the noise of one image, in grey values."""
        height, width = params["shape"][:2]
        looks = float(np.exp(self.random_generator.uniform(*np.log(self.looks))))
        grain = float(self.random_generator.uniform(*self.grain))
        # Complex Gaussian scatterers through a point spread function, averaged over looks: correlated speckle.
        field = np.zeros((height, width), np.float32)
        for _ in range(max(2, round(2 * looks))):
            part = cv2.GaussianBlur(self.random_generator.standard_normal((height, width), np.float32), (0, 0), grain)
            field += part * part
        envelope = np.sqrt(field / max(float(field.mean()), 1e-12))
        decibels = 20 * np.log10(np.maximum(envelope, 1e-3))
        return {"noise": decibels * (255 / self.random_generator.uniform(*_DYNAMIC_RANGE))}

    def apply(self, img: np.ndarray, noise: np.ndarray, **params: Any) -> np.ndarray:
        """Add the noise to a uint8 (H, W) or (H, W, 1) image."""
        shaped = noise.reshape(noise.shape + (1,) * (img.ndim - 2))
        return np.where(img > 0, np.clip(img + shaped, 0, 255), 0).astype(np.uint8)


class Gain(A.ImageOnlyTransform):
    """Another gain (an offset in log-compressed data) and contrast inside the beam; black outside it stays black.

    Args:
        offset: range of the offset, as a share of full scale.
        contrast: range of the factor around mid-grey.
        p: probability of applying it.
    """

    class InitSchema(A.BasicTransform.InitSchema):
        """Bounds of the arguments, as albumentations checks them."""

        offset: tuple[float, float]
        contrast: tuple[float, float]

    def __init__(self, offset: tuple[float, float], contrast: tuple[float, float], p: float = 0.5):
        super().__init__(p=p)
        self.offset = offset
        self.contrast = contrast

    def get_params(self) -> dict[str, Any]:
        """Draw the grey-value table of one image."""
        grey = np.arange(256, dtype=np.float32)
        factor, offset = self.random_generator.uniform(*self.contrast), self.random_generator.uniform(*self.offset)
        table = np.clip((grey - 127.5) * factor + 127.5 + 255 * offset, 0, 255).astype(np.uint8)
        table[0] = 0
        return {"table": table}

    def apply(self, img: np.ndarray, table: np.ndarray, **params: Any) -> np.ndarray:
        """Look a uint8 image's values up in the table."""
        return table[img]


class CornerCut(A.ImageOnlyTransform):
    """Black out one to four corners, where scanners burn in text and marks, so that nothing is read from them."""

    class InitSchema(A.BasicTransform.InitSchema):
        """Bounds of the arguments, as albumentations checks them."""

        share: tuple[float, float]

    def __init__(self, share: tuple[float, float] = (0.05, 0.2), p: float = 0.5):
        super().__init__(p=p)
        self.share = share

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw which corners go and how much of them."""
        rng = self.random_generator
        corners = rng.choice(4, size=int(rng.integers(1, 5)), replace=False)
        return {"cuts": [(int(corner), rng.uniform(*self.share), rng.uniform(*self.share)) for corner in corners]}

    def apply(self, img: np.ndarray, cuts: list[tuple[int, float, float]], **params: Any) -> np.ndarray:
        """Return a copy of a (H, W[, C]) image with its corners cut out."""
        out = img.copy()
        height, width = img.shape[:2]
        for corner, row_share, column_share in cuts:
            rows, columns = max(1, round(row_share * height)), max(1, round(column_share * width))
            top = slice(0, rows) if corner < 2 else slice(height - rows, height)
            left = slice(0, columns) if corner % 2 == 0 else slice(width - columns, width)
            out[top, left] = 0
        return out


def steps(size: int, strength: float, scanner: float = 0.0) -> list[A.BasicTransform]:
    """The transforms of a `size` square, in order, at `strength` (1 = as trained, 0 = none).

    `scanner` is the strength of those that mimic another scanner (`scanners.scanner_steps`).
    """
    if strength == 0:
        return scanner_steps(scanner)
    s = strength
    return [
        A.HorizontalFlip(p=0.5),
        A.Affine(
            scale={"x": (1 - 0.08 * s, 1 + 0.08 * s), "y": (1 - 0.08 * s, 1 + 0.08 * s)},
            rotate=(-12 * s, 12 * s),
            shear=(-4 * s, 4 * s),
            mask_interpolation=cv2.INTER_LINEAR,
            p=0.6,
        ),
        A.ElasticTransform(
            alpha=size * 0.25 * s, sigma=size * 0.05, approximate=True, mask_interpolation=cv2.INTER_LINEAR, p=0.25
        ),
        A.RandomGamma(gamma_limit=(100 - 35 * min(s, 2), 100 + 50 * s), p=0.5),
        Gain(offset=(-0.12 * s, 0.12 * s), contrast=(1 - min(0.3 * s, 0.9), 1 + 0.3 * s), p=0.5),
        A.CLAHE(clip_limit=(1, 1 + 2 * s), tile_grid_size=(6, 6), p=0.15),
        A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 0.3 + 0.9 * s), p=0.2),
        A.Downscale(
            scale_range=(max(0.2, 1 - 0.5 * s), 0.95),
            interpolation_pair={"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR},
            p=0.15,
        ),
        Speckle(p=0.3),
        *scanner_steps(scanner),
        A.ImageCompression(quality_range=(max(10, round(95 - 55 * s)), 95), p=0.15),
        CornerCut(p=0.2),
    ]


def mask_box(mask: np.ndarray | None) -> Box | None:
    """Bounding box of a bool (H, W) mask; None where there is no mask or nothing in it."""
    if mask is None or not mask.any():
        return None
    return Box(*(float(value) for value in cv2.boundingRect(mask.astype(np.uint8))))


def training_window(
    shape: tuple[int, int], box: Box | None, rng: np.random.Generator, crop_probability: float
) -> Window:
    """Draw the window of one training image of `shape` (height, width) whose lesion lies in `box`.

    A lesion crop is a square of 1.25 to 3 times the lesion's longer side, with jitter. An image without a lesion gets a
    random square of a like size, so that a crop says nothing about the class.
    """
    height, width = shape
    longer = max(shape)
    if rng.random() >= crop_probability:
        side = longer * rng.uniform(0.9, 1.2)
        jitter = rng.uniform(-0.06, 0.06, 2) * longer
        return centred(width / 2 + jitter[0], height / 2 + jitter[1], side)
    if box is None:
        side = longer * rng.uniform(0.3, 1.0)
        # A centre whose square lies inside the image, where it can.
        low_x, low_y = min(side / 2, width / 2), min(side / 2, height / 2)
        return centred(rng.uniform(low_x, width - low_x), rng.uniform(low_y, height - low_y), max(side, 32))
    side = min(max(max(box.w, box.h) * rng.uniform(1.25, 3.0), 32), longer * 1.2)
    jitter = rng.uniform(-0.15, 0.15, 2) * max(box.w, box.h)
    return centred(box.x + box.w / 2 + jitter[0], box.y + box.h / 2 + jitter[1], side)


@dataclass
class TrainTransform:
    """Image and mask to one augmented square; every random number comes from the generator it is called with."""

    size: int
    strength: float = 1.0
    crop_probability: float = 0.4
    scanner: float = 0.0

    def __post_init__(self) -> None:
        self._compose = A.Compose(steps(self.size, self.strength, self.scanner))

    def __call__(
        self, image: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment one image.

        Args:
            image: uint8 grey (H, W).
            mask: bool (H, W) of the lesion, or None where it is not known.
            rng: the only source of randomness.

        Returns:
            uint8 (size, size) image and uint8 (size, size) mask, 0 to 255 (all 0 where `mask` is None).
        """
        probability = self.crop_probability if self.strength else 0.0
        if self.strength or probability:
            win = training_window(image.shape, mask_box(mask), rng, probability)  # type: ignore[arg-type]
        else:
            win = centred(image.shape[1] / 2, image.shape[0] / 2, max(image.shape))
        square = cut(image, win, self.size)
        target = np.zeros_like(square) if mask is None else cut(mask.astype(np.uint8) * 255, win, self.size)
        # Not set_random_seed: it seeds every step alike, so that their draws would not be independent.
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**31))))
        out = self._compose(image=square, mask=target)
        return out["image"], out["mask"]


def contact_sheet(image: np.ndarray, mask: np.ndarray | None, size: int = 224, seed: int = 0) -> np.ndarray:
    """Draw what each training transform does, alone and together.

    Args:
        image: uint8 grey (H, W).
        mask: bool (H, W) or None.
        size: side of a tile in pixels.
        seed: seed of every draw.

    Returns:
        uint8 RGB sheet, four tiles a row, each with its name.
    """
    rng = np.random.default_rng(seed)
    whole = centred(image.shape[1] / 2, image.shape[0] / 2, max(image.shape))
    square = cut(image, whole, size)
    tiles = [("original, letterboxed", square)]
    for step in steps(size, 1.0, 1.0):
        alone = A.Compose([step], seed=seed)
        step.p = 1.0
        tiles.append((type(step).__name__, alone(image=square)["image"]))
    crop = training_window(image.shape, mask_box(mask), rng, 1.0)  # type: ignore[arg-type]
    tiles.append(("lesion crop" if mask_box(mask) else "random square (no mask)", cut(image, crop, size)))
    together = TrainTransform(size)
    tiles += [(f"all together {number}", together(image, mask, rng)[0]) for number in (1, 2, 3)]
    return tile_sheet(tiles)


def tile_sheet(tiles: list[tuple[str, np.ndarray]], columns: int = 4) -> np.ndarray:
    """Lay named uint8 squares, grey (S, S) or RGB (S, S, 3), out as one RGB sheet."""
    framed_tiles = []
    for name, tile in tiles:
        colour = cv2.cvtColor(tile, cv2.COLOR_GRAY2RGB) if tile.ndim == 2 else tile
        framed = cv2.copyMakeBorder(colour, 24, 4, 4, 4, cv2.BORDER_CONSTANT, value=(24, 24, 24))
        cv2.putText(framed, name, (6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (240, 240, 240), 1, cv2.LINE_AA)
        framed_tiles.append(framed)
    while len(framed_tiles) % columns:
        framed_tiles.append(np.full_like(framed_tiles[0], 24))
    rows = [np.hstack(framed_tiles[start : start + columns]) for start in range(0, len(framed_tiles), columns)]
    return np.vstack(rows)
