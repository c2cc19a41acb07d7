"""Other people's code: every file of examples/ is run against the Hub on loopback, and gives what ours gives."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from bus_hf.data.phantoms import phantom, write_phantoms
from bus_hf.models import load_member
from tests.hub.loopback import TOKEN

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def pushed(client, described):
    assert client("-m", "bus_hf.cli", "push", "ensemble", described, "--to", "org/tiny").returncode == 0
    return "org/tiny-test_resnet"


@pytest.fixture
def square(tmp_path, described):
    """An image of the member's own input size, so that no resampling differs, and our probability of its whole view."""
    image = phantom(np.random.default_rng(0), "malignant", (96, 96))[0]
    path = tmp_path / "scan.png"
    cv2.imwrite(str(path), image)
    net = load_member(described / "test_resnet")
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    batch = (torch.from_numpy(np.array(Image.open(path))).float() / 255).expand(3, 96, 96)
    with torch.inference_mode():
        return path, torch.sigmoid(net(((batch - mean) / std)[None])).item()


@pytest.mark.parametrize("name", ["hub_weights.py", "timm_hub.py", "transformers_pipeline.py"])
def test_an_example_reads_the_member_as_we_do(name, pushed, square, client):
    path, expected = square
    done = client(EXAMPLES / name, pushed, path)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_need_nothing_of_ours(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            assert not any(name.split(".")[0] == "bus_hf" for name in names)


@pytest.mark.slow
def test_fine_tuning_starts_from_the_pushed_weights(hub, pushed, tmp_path):
    write_phantoms(tmp_path / "images", 9, 0)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
    }
    small = ["--epochs", "1", "--input_size", "64", "--folds", "3", "--batch_size", "8", "--num_workers", "0"]
    small += ["--drop_path_rate", "0", "--trackers"]
    # accelerate lies beside the Python that runs the tests.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["sh", "examples/fine_tune.sh", pushed, "test_resnet", tmp_path / "images", tmp_path / "run", *small],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    start = json.loads((tmp_path / "run" / "run.json").read_text())["start"]
    assert (start["kind"], start["source"], start["fresh"]) == ("checkpoint", pushed, 0)
