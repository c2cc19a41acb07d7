"""The examples in docstrings run and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("inference.detector", "inference.prediction", "views")


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_say(name, monkeypatch, tmp_path):
    # They open the ensemble that lies in the repository, and write into `FOLDER`.
    monkeypatch.chdir(ROOT)
    module = importlib.import_module(f"bus_hf.{name}")
    done = doctest.testmod(module, extraglobs={"FOLDER": tmp_path}, optionflags=doctest.ELLIPSIS)
    assert done.attempted > 0
    assert done.failed == 0
