"""Writes docs/hub.md anew: runs each of its commands against the Hub on loopback and puts what they print below them.

python -m tests.hub.document            (make docs)
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from bus_hf.data.phantoms import phantom, write_phantoms
from tests.hub.loopback import Hub

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "hub.md"
BLOCK = re.compile(r"```console\n\$ (?P<command>[^\n]*)\n.*?```", re.DOTALL)
# What every run prints otherwise: how long it took, where it lay.
_PASSING = re.compile(r"(\d+%\||it/s|step/s|image/s|images/s|examples/s|images \[|warn|Warning|UserWarning)")


def commands(text: str) -> list[str]:
    """The commands of the page, in order."""
    return [found["command"] for found in BLOCK.finditer(text)]


def main() -> None:
    """Run every command and write the page."""
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as scratch, Hub() as hub:
        folder = Path(scratch)
        for name in ("checkpoints", "examples", "configs", "train_accelerate.py"):
            (folder / name).symlink_to(ROOT / name)
        write_phantoms(folder / "images", 9, 0)
        cv2.imwrite(str(folder / "scan.png"), phantom(np.random.default_rng(3), "malignant")[0])
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "BUS_HF"))}
        settings = hub.settings(folder / "home") | {
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

        def printed(found: re.Match[str]) -> str:
            command = found["command"]
            print(f"$ {command}", file=sys.stderr, flush=True)
            done = subprocess.run(
                command,
                shell=True,
                cwd=folder,
                env=kept | settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=600,
                check=False,
            )
            lines = [line for line in re.split(r"[\n\r]", done.stdout) if line.strip() and not _PASSING.search(line)]
            said = "\n".join(lines).replace(hub.url, "https://huggingface.co").replace(str(folder), "~")
            return f"```console\n$ {command}\n{said}\n```" if said else f"```console\n$ {command}\n```"

        PAGE.write_text(BLOCK.sub(printed, text), encoding="utf-8")
        shutil.rmtree(folder / "runs", ignore_errors=True)


if __name__ == "__main__":
    main()
