"""What tests of the page share: a state whose clock they can move, and a scan."""

import time

import numpy as np
import pytest
from PIL import Image

from bus_hf.data.phantoms import phantom


class Clock:
    """Seconds that only grow; a test may skip some."""

    def __init__(self):
        self.skipped = 0.0

    def __call__(self):
        return time.monotonic() + self.skipped

    def skip(self, seconds):
        self.skipped += seconds


@pytest.fixture(scope="module")
def clock():
    return Clock()


@pytest.fixture(scope="module")
def state(clock):
    """What the page of a test module keeps, apart from that of other pages of this process."""
    from bus_hf.space.state import State

    return State(clock)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "a scan.png"
    Image.fromarray(phantom(np.random.default_rng(4), "malignant")[0]).save(path)
    return path
