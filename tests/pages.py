"""The commands of README.md and docs/: run in an empty folder against a Hub on loopback, with generated images.

python -m tests.pages                    write every page anew with what its commands print (make docs)
python -m tests.pages docs/hub.md        that page alone
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path

import numpy as np
from PIL import Image

from bus_hf.data.phantoms import Kind, phantom, write_phantoms
from tests.hub.loopback import Hub
from tests.programs import python

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"```(?P<kind>console|pycon)\n(?P<body>.*?)```", re.DOTALL)
# What lies beside the commands, as in a clone.
_CLONE = ("checkpoints", "configs", "examples", "metrics", "train_accelerate.py")
# Progress bars and warnings, which every run prints otherwise.
_PASSING = re.compile(
    r"(\d+%\||it/s|step/s|images?/s|examples/s\b|images \[|reading: \d+ of|opening \d|[Ww]arn|requested torchvision)"
)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
_SETTING = re.compile(r"[A-Z_]+=\S*")
# What a command begins with -> what Python is given in its place.
_PROGRAMS: dict[str, list[str]] = {"bus-hf": ["-m", "bus_hf.cli"], "python": []}
_SECONDS = 600


@dataclass(frozen=True)
class Place:
    """A folder to run commands in, with the Hub that they reach."""

    folder: Path
    environment: dict[str, str]
    hub: str

    def run(self, command: str) -> str:
        """What a command prints, on both channels, without what passes."""
        words = shlex.split(command)
        settings = dict(word.split("=", 1) for word in takewhile(_SETTING.fullmatch, words))
        program, *arguments = words[len(settings) :]
        if "|" in words or program not in _PROGRAMS:
            return self._plain(self._shell(command))
        return self._plain(self._python([*_PROGRAMS[program], *arguments], settings))

    def session(self, statements: list[str]) -> list[str]:
        """What each statement of a Python session prints."""
        program = (
            "import code, sys\nshell = code.InteractiveConsole()\n"
            f"for statement in {statements!r}:\n"
            "    shell.runsource(statement, symbol='single')\n    print('\\0', flush=True)\n"
        )
        return [self._plain(text) for text in self._python(["-c", program], {}).split("\0\n")]

    def _python(self, arguments: list[str], settings: dict[str, str]) -> str:
        environment = self.environment | settings
        return python(arguments, environment, folder=self.folder, timeout=_SECONDS, together=True).stdout

    def _shell(self, command: str) -> str:
        return subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_SECONDS,
            check=False,
        ).stdout

    def _plain(self, text: str) -> str:
        lines = [line.rstrip() for line in re.split(r"[\n\r]", text) if line.strip() and not _PASSING.search(line)]
        return "\n".join(lines).replace(self.hub, "https://huggingface.co").replace(str(self.folder), "~")


@contextlib.contextmanager
def place() -> Iterator[Place]:
    """An empty folder with a scan, labelled images and a table of labels, all of them generated."""
    with tempfile.TemporaryDirectory() as scratch, Hub() as hub:
        folder = Path(scratch)
        for name in _CLONE:
            (folder / name).symlink_to(ROOT / name)
        shutil.copyfile(ROOT / "examples" / "scan.png", folder / "scan.png")
        write_phantoms(folder / "images", 9, 0)
        _flat(folder / "scans")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "BUS_HF"))}
        settings = hub.settings(folder / "home") | {
            "COLUMNS": "100",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        yield Place(folder, kept | settings, hub.url)


def _flat(folder: Path) -> None:
    """A folder of 22 images without classes, and the table that names them; two patients of each class have two."""
    folder.mkdir()
    rng = np.random.default_rng(7)
    rows = ["name,label,patient"]
    for number in range(22):
        kind: Kind = "malignant" if number % 2 else "benign"
        Image.fromarray(phantom(rng, kind)[0]).save(folder / f"{number:03}.png")
        rows.append(f"{number:03}.png,{kind},p{number % 2 if number < 4 else number:03}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def commands(text: str) -> list[str]:
    """The commands of a page, in order, without those typed into Python."""
    return [
        line[2:]
        for block in BLOCK.finditer(text)
        if block["kind"] == "console"
        for line in block["body"].splitlines()
        if line.startswith("$ ")
    ]


def blocks(text: str) -> list[list[tuple[str, str]]]:
    """Every block of a page as its (command, output) pairs; of a Python session a command is a whole statement."""
    return [_pairs(block["body"], "$ " if block["kind"] == "console" else ">>> ") for block in BLOCK.finditer(text)]


def _pairs(body: str, prompt: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for line in body.splitlines():
        if line.startswith(prompt):
            pairs.append((line[len(prompt) :], ""))
        elif prompt == ">>> " and line.startswith("...") and pairs:
            pairs[-1] = (f"{pairs[-1][0]}\n{line[4:]}", "")
        elif pairs:
            command, output = pairs[-1]
            pairs[-1] = (command, f"{output}\n{line}".strip("\n"))
    return pairs


def printed(block: re.Match[str], where: Place) -> str:
    """A block with what its commands print now."""
    if block["kind"] == "console":
        pairs = [(f"$ {command}", where.run(command)) for command, _ in _pairs(block["body"], "$ ")]
    else:
        statements = [command for command, _ in _pairs(block["body"], ">>> ")]
        typed = [f">>> {statement}".replace("\n", "\n... ") for statement in statements]
        pairs = list(
            zip(typed, where.session([f"{one}\n" if "\n" in one else one for one in statements]), strict=False)
        )
    lines = [line for command, output in pairs for line in (command, output) if line]
    return "\n".join([f"```{block['kind']}", *lines, "```"])


def same(before: str, after: str) -> bool:
    """Whether two outputs say the same: words alike, numbers within 2 % or 0.02, commits whatever they are."""
    words = [_NUMBER.sub("#", _COMMIT.sub("@", text)) for text in (before, after)]
    old, new = ([float(one) for one in _NUMBER.findall(_COMMIT.sub("@", text))] for text in (before, after))
    return words[0] == words[1] and bool(np.allclose(old, new, rtol=0.02, atol=0.02))


def main(names: list[str]) -> None:
    """Run every command and write the pages."""
    for page in [Path(name).resolve() for name in names] or PAGES:
        text = page.read_text(encoding="utf-8")
        if not BLOCK.search(text):
            continue
        print(page.relative_to(ROOT), file=sys.stderr, flush=True)
        with place() as where:
            page.write_text(BLOCK.sub(partial(printed, where=where), text), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
