"""The test of a module lies where its module does: `bus_hf/ROOM/X.py` is tested by `tests/ROOM/test_X.py`.

Of `research/X.py` it is `tests/research/test_X.py`.

A module with many tests may have `test_X_ASPECT.py` beside that.
"""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "bus_hf"

# What tests several modules, a command, or the repository.
CROSS_CUTTING = {
    "cli/test_cli.py",
    "cli/test_names.py",
    "cuda/test_training.py",
    "evaluation/test_edges.py",
    "hostile/test_hostile.py",
    "hub/test_examples.py",
    "hub/test_pull.py",
    "space/test_api.py",
    "space/test_browser.py",
    "space/test_serving.py",
    "test_kills.py",
    "test_doctests.py",
    "test_layers.py",
    "test_mirror.py",
    "test_pages.py",
    "test_repository.py",
    "test_train_accelerate.py",
    "training/test_finite.py",
    "training/test_same_data.py",
    "training/test_split.py",
}


def has_module(path, package):
    """Whether a test file, relative to the tests, is named after a module of the package, whole or up to an aspect."""
    words = path.stem.removeprefix("test_").split("_")
    names = ["_".join(words[:end]) for end in range(len(words), 0, -1)]
    return any((package / path.parent / f"{name}.py").is_file() for name in names)


@pytest.mark.parametrize("path", sorted(path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")), ids=str)
def test_a_test_file_lies_where_its_module_does(path):
    home = TESTS.parent if path.parts[0] == "research" else PACKAGE
    assert path.as_posix() in CROSS_CUTTING or has_module(path, home), "move it, or name it in CROSS_CUTTING"


@pytest.mark.parametrize("name", sorted(CROSS_CUTTING))
def test_the_list_names_files_that_are_there_and_that_no_module_is_named_after(name):
    assert (TESTS / name).is_file()
    assert not has_module(Path(name), PACKAGE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("room/test_module.py", True),
        ("room/test_module_aspect.py", True),
        ("test_module.py", False),
        ("other/test_module.py", False),
        ("room/test_mod.py", False),
    ],
)
def test_a_file_elsewhere_is_seen(tmp_path, name, expected):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "module.py").touch()
    assert has_module(Path(name), tmp_path) == expected
