"""Answers to requests that overtake one another, and settings of many files."""

from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest

from bus_hf.data.images import Scan
from bus_hf.errors import BusError
from bus_hf.space import html
from bus_hf.space.answers import Answers
from bus_hf.space.arguments import Settings
from bus_hf.space.state import State
from tests.predictions import RESULT


class Asking:
    """A detector in whose session something else is asked for while it runs."""

    def __init__(self, meanwhile):
        self.meanwhile = meanwhile

    def decode(self, upload):
        return Scan(np.zeros((32, 32), np.uint8), 0.0)

    def predict(self, scan, settings, name="the image"):
        self.meanwhile()
        raise BusError("this is the answer", remedy="look at it")


def visitor(tab="a tab"):
    return SimpleNamespace(cookies={}, session_hash=tab)


@pytest.mark.parametrize("what", ["upload", "example"])
@pytest.mark.parametrize("then", ["nothing", "upload", "example", "another tab's upload"])
def test_a_late_answer_to_an_earlier_request_is_not_shown(what, then):
    state = State()
    files = [{"path": state.uploads.add(name, b"x")} for name in ("first.png", "second.png")]
    meanwhile = {
        "nothing": lambda: None,
        "upload": lambda: answers.begin()(files[1], visitor()),
        "example": lambda: answers.begin("another")(None, visitor()),
        "another tab's upload": lambda: answers.begin()(files[1], visitor("another")),
    }[then]
    answers = Answers(Asking(meanwhile), state)
    if what == "upload":
        answers.begin()(files[0], visitor())
        shown = answers.upload(files[0], None, False, False, visitor())[1:]
    else:
        answers.begin("benign")(None, visitor())
        shown = answers.example("benign", "benign", 3)(None, False, False, visitor())
    late = then in ("upload", "example")
    assert (shown[0] == gr.skip()) == late
    assert ("this is the answer" in str(shown[0])) != late


def test_an_upload_that_another_one_followed_is_dropped_unread():
    state = State()
    first, second = ({"path": state.uploads.add(name, b"x")} for name in ("first.png", "second.png"))
    answers = Answers(None, state)
    for file in (first, second):
        answers.begin()(file, visitor())
    assert answers.upload(first, None, False, False, visitor())[1] == gr.skip()
    assert len(state.uploads) == 1


def test_settings_hold_for_many_files_too():
    recorded = []

    class Recording:
        def check(self, settings):
            recorded.append(settings)

        def decode(self, upload):
            return Scan(np.zeros((32, 32), np.uint8), 0.0)

        def predict(self, scan, settings, name="the image"):
            recorded.append(settings)
            raise BusError("this is the answer", remedy="look at it")

    state = State()
    files = [{"path": state.uploads.add(name, b"x")} for name in ("first.png", "second.png")]
    answers = Answers(Recording(), state)
    table, emptied = answers.batch(files, "a point", True, True, True, progress=lambda *_, **__: None)
    assert emptied is None
    assert table.count("this is the answer") >= 2
    wanted = Settings("a point", None, light=True, heatmap=True, lesion_type=True)
    assert set(recorded) == {wanted}
    assert len(state.uploads) == 0


def test_of_many_files_no_image_is_kept(monkeypatch):
    class Reading:
        def check(self, settings):
            pass

        def decode(self, upload):
            return Scan(np.zeros((100, 120), np.uint8), 0.0)

        def predict(self, scan, settings, name="the image"):
            return replace(RESULT, name=name)

    tables = []
    monkeypatch.setattr(html, "table", lambda *shown: tables.append(shown) or "")
    state = State()
    files = [{"path": state.uploads.add(name, b"x")} for name in ("first.png", "second.png")]
    Answers(Reading(), state).batch(files, None, False, False, True, progress=lambda *_, **__: None)
    ((results, pictures),) = tables
    assert [result.name for result in results] == ["first.png", "second.png"]
    assert all(result.grey is None and result.heatmap is None for result in results)
    assert all(picture.startswith("data:image/jpeg;base64,") for picture in pictures)
