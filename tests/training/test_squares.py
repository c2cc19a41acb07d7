import numpy as np

from bus_hf.training.augmentation import TrainTransform
from bus_hf.training.squares import DrawnSquares, PreparedSquares
from tests.training.test_batches import case


def test_prepared_squares_are_versions_that_the_image_alone_decides():
    cases, transform = [case(n, n % 2) for n in range(3)], TrainTransform(32)
    squares = PreparedSquares(cases, transform, 4)
    fewer = PreparedSquares(cases[2:], transform, 4)
    rng = np.random.default_rng(0)
    seen = {squares(cases[2], rng)[0].tobytes() for _ in range(60)}
    assert len(seen) == 4
    assert seen == {fewer(cases[2], rng)[0].tobytes() for _ in range(60)}
    image, mask = squares(cases[1], rng)
    assert image.shape == mask.shape == (32, 32)
    assert image.dtype == mask.dtype == np.uint8


def test_a_prepared_version_is_a_square_that_the_transform_makes():
    cases, transform = [case(1, 1)], TrainTransform(32, strength=0.0)
    prepared, drawn = PreparedSquares(cases, transform, 1), DrawnSquares(transform)
    rng = np.random.default_rng(0)
    assert all(
        np.array_equal(one, other) for one, other in zip(prepared(cases[0], rng), drawn(cases[0], rng), strict=True)
    )
