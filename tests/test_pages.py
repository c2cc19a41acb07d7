"""README.md and docs/: every command runs, and prints what stands there."""

import re
import shlex

import pytest

from bus_hf.cli import parser
from tests.pages import BLOCK, PAGES, ROOT, commands, place, printed, same

WITH_COMMANDS = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_every_command_prints_what_the_page_says(page):
    text = page.read_text(encoding="utf-8")
    with place() as where:
        for block in BLOCK.finditer(text):
            now = printed(block, where)
            assert "Traceback" not in now
            assert same(block[0], now), f"{page.name} is out of date (make docs):\n{block[0]}\n--- now ---\n{now}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_not_run_exist(page):
    """Those of blocks for the shell, which set up, train or serve for minutes."""
    text = page.read_text(encoding="utf-8")
    shell = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    for line in shell.splitlines():
        words = shlex.split(line, comments=True)
        words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if not words:
            continue
        if words[0].removeprefix(".venv/bin/") == "bus-hf":
            assert callable(parser().parse_args(words[1:]).run), line
        for word in words:
            if word.endswith((".py", ".yaml", ".sh")) and "/" not in word.removeprefix("configs/").removeprefix(
                "examples/"
            ):
                assert (ROOT / word).is_file(), line


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


def test_all_pages_have_commands_of_every_kind():
    words = {shlex.split(command)[0] for page in PAGES for command in commands(page.read_text(encoding="utf-8"))}
    assert {"bus-hf", "python"} <= words


@pytest.mark.parametrize(
    ("before", "after", "alike"),
    [
        ("AUROC 0.912", "AUROC 0.913", True),
        ("AUROC 0.912", "AUROC 0.512", False),
        ("Benign 0.1", "Malignant 0.1", False),
        (f"pushed {'a1' * 20}", f"pushed {'b2' * 20}", True),
        ("one", "one\ntwo", False),
    ],
)
def test_what_counts_as_the_same(before, after, alike):
    assert same(before, after) == alike
