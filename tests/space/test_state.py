"""What a page keeps, and how long."""

import numpy as np

from bus_hf.space.state import KeptImages


def test_a_session_keeps_one_image_for_a_time():
    now = [0.0]
    images = KeptImages(lambda name: True, seconds=10, sessions=2, clock=lambda: now[0])
    first, second = np.zeros((2, 2)), np.ones((2, 2))
    a, b, c = (("cookie", name) for name in "abc")
    images.put(a, first)
    images.put(a, second)
    assert images.get(a) is second
    assert images.get(b) is None
    now[0] = 9
    assert images.get(a) is second
    now[0] = 18
    assert images.get(a) is second
    now[0] = 29
    assert images.get(a) is None
    for name in (a, b, c):
        images.put(name, first)
    assert [images.get(name) is first for name in (a, b, c)] == [False, True, True]


def test_the_image_of_a_closed_tab_is_dropped_within_a_minute():
    now, tabs = [0.0], {"open", "closed"}
    images = KeptImages(tabs.__contains__, clock=lambda: now[0])
    for name in ("open", "closed"):
        images.put(("", name), np.zeros((2, 2)))
    for now[0] in range(0, 100, 5):
        images.sweep()
    tabs.remove("closed")
    for now[0] in range(100, 160, 5):
        images.sweep()
    assert images.get(("", "closed")) is None
    assert images.get(("", "open")) is not None
