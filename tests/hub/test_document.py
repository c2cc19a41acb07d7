"""docs/hub.md: its commands exist, and each stands there with what it printed."""

import re
import shlex

from bus_hf.cli import parser
from tests.hub.document import BLOCK, PAGE, ROOT, commands


def test_every_command_is_one():
    found = commands(PAGE.read_text(encoding="utf-8"))
    assert len(found) >= 12
    for command in found:
        words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
        if words[0] == "bus-hf":
            assert callable(parser().parse_args(words[1:]).run)
        elif words[1] != "-c":
            assert (ROOT / words[1]).is_file(), command


def test_every_command_shows_what_it_printed():
    text = PAGE.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        assert found[0].count("\n") > 2, f"{found['command']} stands without its output; run make docs"
    assert "Traceback" not in text
    for name in ("push ensemble", "push dataset", "push metric", "push space"):
        assert f"bus-hf {name} " in text
