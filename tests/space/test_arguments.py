"""Arguments of a request."""

import pytest

from bus_hf.errors import BusError
from bus_hf.space.arguments import parse_box


def test_box_text():
    assert parse_box("") is None
    assert parse_box(" 1, 2.5,3 ,4") == (1, 2.5, 3, 4)
    assert parse_box([1, 2.5, 3, 4]) == (1, 2.5, 3, 4)
    with pytest.raises(BusError, match="leave it empty"):
        parse_box("a box")
