import numpy as np
import pytest

from bus_hf.errors import BusError
from bus_hf.inference.overlay import heat_colours, overlay
from bus_hf.views import Box


@pytest.fixture
def grey():
    return np.full((120, 160), 90, np.uint8)


def test_nothing_to_draw_is_the_image(grey):
    assert (overlay(grey) == 90).all()
    heat = np.ones(grey.shape, np.float32)
    assert (overlay(grey, heat, opacity=0.0) == 90).all()
    assert (overlay(grey, np.zeros_like(heat)) == 90).all()


def test_heat_grows_with_evidence_and_opacity(grey):
    heat = np.zeros(grey.shape, np.float32)
    heat[:, 80:] = 0.3
    heat[:, 120:] = 1.0
    picture = overlay(grey, heat, opacity=0.5).astype(int)
    change = np.abs(picture - 90).sum(2)
    assert change[:, :80].max() == 0
    assert change[:, 120:].mean() > change[:, 80:120].mean() > 0
    assert np.abs(overlay(grey, heat, opacity=1.0).astype(int) - 90).sum() > np.abs(picture - 90).sum()


def test_heat_is_brighter_for_more_evidence():
    ramp = np.linspace(0, 1, 50, dtype=np.float32)[None]
    colours = heat_colours(ramp)[0].astype(int)
    assert (np.diff(colours[:, :3].sum(1)) >= 0).all()
    assert colours[0, 3] == 0
    assert colours[-1, 3] == 255


def test_box_is_white_on_black_on_its_edge_alone(grey):
    picture = overlay(grey, box=Box(40, 30, 60, 50))
    line = picture[30, 40:100]
    assert (line == 255).all(1).any()
    assert (line == 0).all(1).any()
    assert (picture[45:65, 55:85] == 90).all()
    assert (picture[:20] == 90).all()


def test_box_may_touch_the_border(grey):
    assert overlay(grey, box=Box(0, 0, 160, 120)).shape == (120, 160, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_heat_map_that_is_not_finite_is_not_drawn(value):
    heat = np.zeros((8, 8), np.float32)
    heat[3, 3] = value
    for draw in (heat_colours, lambda heat: overlay(np.zeros((8, 8), np.uint8), heat)):
        with pytest.raises(BusError, match="not a finite number"):
            draw(heat)
