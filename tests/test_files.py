"""Whole or not at all: whatever happens inside the block, the old state or the new one stands there."""

import os
import subprocess
import sys
import textwrap

import pytest

from bus_hf import files
from bus_hf.errors import BusError


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def beside(folder):
    return sorted(path.name for path in folder.iterdir())


def _twice(path):
    """Delete a file, then once more, which is an error."""
    path.unlink()
    path.unlink()


def _half(path):
    """Write, then break."""
    path.write_text("half")
    _twice(path.with_name("absent"))


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    for text in ("one", "two"):
        with files.replace_file(path) as part:
            part.write_text(text)
            assert part.parent == path.parent
        assert path.read_text() == text
    assert beside(path.parent) == ["table.csv"]


def test_an_error_leaves_a_file_as_it_was(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), files.replace_file(path) as part:
        _half(part)
    assert path.read_text() == "old"
    assert beside(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_as_a_whole(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    folder = tmp_path / "made"
    for names in (("a", "b"), ("b", "c")):
        with files.replace_folder(folder) as part:
            for name in names:
                (part / name).write_text(name)
            assert not folder.exists() or sorted(tree(folder)) == ["a", "b"]
        assert tuple(tree(folder)) == names or set(tree(folder)) == set(names)
    assert beside(tmp_path) == ["made"]


def test_a_folder_that_is_kept_begins_as_it_is(tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a").write_text("old")
    (folder / "b").write_text("old")
    with files.replace_folder(folder, keep=True) as part:
        (part / "a").write_text("new")
    assert tree(folder) == {"a": "new", "b": "old"}
    with pytest.raises(FileNotFoundError), files.replace_folder(folder, keep=True) as part:
        _twice(part / "b")
    assert tree(folder) == {"a": "new", "b": "old"}
    assert beside(tmp_path) == ["made"]


def test_a_link_keeps_leading_to_what_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with files.replace_folder(tmp_path / "link") as part:
        (part / "a").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert tree(tmp_path / "real") == {"a": "new"}


def test_what_a_killed_process_left_is_cleared_and_that_of_a_living_one_is_not(tmp_path):
    code = """
        import os, signal, sys
        from bus_hf.files import replace_folder
        with replace_folder(sys.argv[1]) as part:
            (part / "half").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = tmp_path / "made"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(folder)], check=False)
    assert len(beside(tmp_path)) == 1
    living = tmp_path / f".made.part-{os.getppid()}"
    living.mkdir()
    other = tmp_path / ".made too.part-1"
    other.mkdir()
    with files.replace_folder(folder) as part:
        (part / "whole").write_text("whole")
    assert tree(folder) == {"whole": "whole"}
    assert beside(tmp_path) == sorted([".made too.part-1", living.name, "made"])


def test_a_kill_between_two_renames_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(files.ctypes, "CDLL", lambda *_, **__: object())
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "a").write_text("old")
    # The first of the two has happened.
    folder.rename(tmp_path / ".made.before")
    with files.replace_folder(folder, keep=True) as part:
        assert tree(part) == {"a": "old"}
        (part / "b").write_text("new")
    assert tree(folder) == {"a": "old", "b": "new"}
    assert beside(tmp_path) == ["made"]


def test_an_error_names_the_folder_and_not_what_lies_beside_it(tmp_path):
    def fail(part):
        raise BusError("it is wrong", where=part / "a.json", remedy="mend it")

    with (
        pytest.raises(BusError, match=f"^{tmp_path}/made/a.json: it is wrong"),
        files.replace_folder(tmp_path / "made") as part,
    ):
        fail(part)
    assert beside(tmp_path) == []
