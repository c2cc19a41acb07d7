"""What pydantic refuses is one sentence: the first thing that is wrong, its place, and what to give."""

import json
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from bus_hf.errors import BusError
from bus_hf.validation import STRICT, load, plain_errors, validate

REMEDY = "write it again"


def even(value):
    if value % 2:
        raise ValueError("an even number")
    return value


Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=STRICT)
class Part:
    name: Annotated[str, Field(pattern="^[a-z]+$", description="lower-case letters")]
    rates: tuple[Share, Share] | None = None
    count: Annotated[int, AfterValidator(even)] = 0

    @model_validator(mode="after")
    def _rule(self):
        if self.name == "forbidden":
            raise BusError("the part is forbidden", remedy="leave it out")
        return self


@dataclass(frozen=True, config=STRICT)
class Whole:
    kind: Literal["a", "b"]
    parts: tuple[Part, ...]
    shares: dict[str, Share]
    size: Annotated[int, Field(ge=1, le=100_000)] = 1
    on: bool = True


def whole(**changes):
    return {"kind": "a", "parts": [{"name": "x"}], "shares": {"y": 0.5}} | changes


def refused(tmp_path, text):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(BusError) as caught:
        load(Whole, path, "")
    assert caught.value.where == str(path)
    return caught.value.what


@pytest.mark.parametrize(
    ("changes", "what", "remedy"),
    [
        ({"kind": "c"}, 'kind is "c"', "give 'a' or 'b'"),
        ({"size": 0}, "size is 0", "give a value from 1 to 100,000"),
        ({"size": 1.5}, "size is 1.5", "give a whole number"),
        ({"size": True}, "size is true", "give a whole number"),
        ({"on": 1}, "on is 1", "give true or false"),
        ({"shares": []}, "shares is []", "give an object"),
        ({"shares": {"y": 2}}, "shares.y is 2", "give a value from 0 to 1"),
        ({"shares": {"y": float("nan")}}, "shares.y is NaN", "give a finite number"),
        ({"shares": {"y": float("inf")}}, "shares.y is Infinity", "give a finite number"),
        ({"parts": "x" * 100}, 'parts is "' + "x" * 36 + "...", "give a list"),
        ({"parts": [3]}, "parts[0] is 3", "give an object"),
        ({"parts": [{"name": "X"}]}, 'parts[0].name is "X"', "give lower-case letters"),
        ({"parts": [{"name": "x", "rates": [0.5]}]}, "parts[0].rates is [0.5]", "give a list of 2"),
        ({"parts": [{"name": "x", "rates": [0.5] * 3}]}, "parts[0].rates is [0.5, 0.5, 0.5]", "give a list of 2"),
        ({"parts": [{"name": "x", "rates": [0, -1]}]}, "parts[0].rates[1] is -1", "give a value from 0 to 1"),
        ({"parts": [{"name": "x", "count": 3}]}, "parts[0].count is 3", "give an even number"),
        ({"parts": [{"name": "forbidden"}]}, "the part is forbidden", "leave it out"),
        ({"parts": [{}]}, "the key 'name' is missing in parts[0]", "add it"),
        ({"parts": [{"nam": "x"}]}, "unknown key 'nam' in parts[0]", "take it out, or update bus_hf if it is new"),
        ({"colour": 1}, "unknown key 'colour'", "take it out, or update bus_hf if it is new"),
    ],
)
def test_the_first_thing_that_is_wrong(changes, what, remedy):
    with pytest.raises(BusError) as caught:
        validate(Whole, json.dumps(whole(**changes)).encode(), "here")
    assert (caught.value.what, caught.value.remedy, caught.value.where) == (what, remedy, "here")


def test_what_is_right_is_made(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps(whole(parts=[{"name": "x", "rates": [0, 1]}])))
    made = load(Whole, tmp_path / "f.json", REMEDY)
    assert made == Whole("a", (Part("x", (0.0, 1.0)),), {"y": 0.5})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1]", "the file is [1]"),
        ("{", "the file is not valid JSON (line 1)"),
        ('{"parts": ' + "[" * 100_000, "the file is not valid JSON"),
        (json.dumps(whole())[:-1] + ', "kind": "b"}', "the key 'kind' stands twice in one object"),
        (json.dumps(whole(parts=[])).replace("[]", '[{"name": "x", "name": "y"}]'), "the key 'name' stands twice"),
        (json.dumps(whole()) + " " * (1 << 20), "the file is larger than 1 MiB"),
    ],
    ids=["list", "open", "deep", "doubled", "doubled inside", "large"],
)
def test_what_is_no_such_file(tmp_path, text, what):
    assert refused(tmp_path, text).startswith(what)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BusError, match=f"the file cannot be read .*; {REMEDY}"):
        load(Whole, tmp_path / "none.json", REMEDY)


def test_errors_of_code_are_told_in_the_same_words():
    with (
        pytest.raises(BusError, match=r"^here: size is 0; give a value from 1 to 100,000"),
        plain_errors(Whole, "here"),
    ):
        Whole("a", (), {}, size=0)


def test_a_part_that_cannot_be_made_by_itself_is_told_too():
    for make, what in ((lambda: Part("X"), r'\[0\] is "X"'), (lambda: Part(name="X"), 'name is "X"')):
        with pytest.raises(BusError, match=f"here: {what}; give "), plain_errors(Whole, "here"):
            make()
