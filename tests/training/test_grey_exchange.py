import numpy as np
import pytest

from bus_hf.data.dataset import Case
from bus_hf.errors import BusError
from bus_hf.training import grey_exchange
from bus_hf.training.grey_exchange import GreyExchange


def case(source, low, high):
    image = np.random.default_rng(low).integers(low, high, (80, 80)).astype(np.uint8)
    image[:, :10] = 0
    return Case(f"{source}/1", source, source, 0, image, None, None, None, None, None, "benign")


DARK, BRIGHT = case("dark", 20, 90), case("bright", 120, 250)


def test_a_square_takes_the_grey_values_of_the_other_source_and_keeps_its_order(monkeypatch):
    monkeypatch.setattr(grey_exchange, "_SHARE", (1.0, 1.0))
    changed = GreyExchange([DARK, BRIGHT], 1.0)(DARK.image, "dark", np.random.default_rng(0))
    seen, wanted = changed[changed > 0], BRIGHT.image[BRIGHT.image > 0]
    assert np.abs(np.percentile(seen, [5, 50, 95]) - np.percentile(wanted, [5, 50, 95])).max() < 4
    order = np.argsort(DARK.image, axis=None)
    assert (np.diff(changed.ravel()[order].astype(int)) >= 0).all()


def test_black_stays_black_and_half_of_the_squares_stay_as_they_are():
    exchange, rng = GreyExchange([DARK, BRIGHT], 0.5), np.random.default_rng(1)
    changed = [exchange(DARK.image, "dark", rng) for _ in range(100)]
    assert all((square[:, :10] == 0).all() and (square[:, 10:] > 0).all() for square in changed)
    assert 30 < sum(square is DARK.image for square in changed) < 70


def test_an_empty_square_stays_empty():
    black = np.zeros((8, 8), np.uint8)
    assert not GreyExchange([DARK, BRIGHT], 1.0)(black, "dark", np.random.default_rng(0)).any()


def test_one_source_has_nobody_to_exchange_with():
    with pytest.raises(BusError, match="one source"):
        GreyExchange([DARK], 1.0)
