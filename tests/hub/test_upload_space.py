"""The Space that is pushed: what it holds, what it names, that it starts on its own; and the metric."""

import ast
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bus_hf.cli import main
from bus_hf.data.phantoms import phantom
from bus_hf.hub import upload_space
from bus_hf.reporting import sentences

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import evaluate
metric = evaluate.load("org/bus_screening")
print(metric.compute(predictions=[0.9, 0.2, 0.7, 0.1], references=[1, 0, 1, 0])["auroc"])
"""
START = """
import sys
from pathlib import Path
# Not among the Space's requirements: whoever imports them is told that they are not there.
absent = ("accelerate", "albumentations", "datasets", "evaluate", "matplotlib", "scipy", "sklearn", "transformers")
sys.modules.update(dict.fromkeys(absent))
sys.path.insert(0, ".")
import bus_hf
assert Path(bus_hf.__file__).parent == Path("bus_hf").resolve(), bus_hf.__file__
from app import demo
print(sorted(demo.get_api_info()["named_endpoints"]))
shown = str(demo.get_config_file())
assert "7 images (7 of busi), 3 epochs from weights of a test" in shown, "the page tells nothing of its ensemble"
"""


PUSH_SPACE = ["-m", "bus_hf.cli", "push", "space", "--to", "org/page", "--ensemble", "org/tiny", "--datasets", "org/d"]


@pytest.fixture
def space(hub, client, described):
    """The Space org/page as the Hub holds it after a push."""
    assert client("-m", "bus_hf.cli", "push", "ensemble", described, "--to", "org/tiny").returncode == 0
    done = client(*PUSH_SPACE)
    assert done.returncode == 0, done.stderr
    return hub.repos["space", "org/page"]


def test_the_space_names_its_ensemble_and_preloads_it_at_its_commits(space, hub, client):
    assert space.variables == {"BUS_HF_ENSEMBLE": "org/tiny", "BUS_HF_REVISION": hub.model("org/tiny").head.oid}
    front = yaml.safe_load(space.head.files["README.md"][0].decode().split("---")[1])
    assert front["sdk"] == "gradio"
    assert front["app_file"] == "app.py"
    assert front["models"] == ["org/tiny", "org/tiny-test_efficientnet", "org/tiny-test_resnet"]
    assert front["datasets"] == ["org/d"]
    first, *members = [line.split() for line in front["preload_from_hub"]]
    assert first[::2] == ["org/tiny", hub.model("org/tiny").head.oid]
    assert first[1].split(",")[:3] == ["ensemble.json", "report.json", "training.json"]
    text = space.head.files["README.md"][0].decode()
    assert "[The card of org/tiny]" in text
    assert "Members and ensemble, cross-fitted" not in text, "metrics of another ensemble"
    assert [(name, commit) for name, _, commit in members] == [
        (name, hub.model(name).head.oid) for name in front["models"][1:]
    ]
    assert "lesion_head.safetensors" in members[0][1]
    assert "lesion_head.safetensors" not in members[1][1]
    before = space.head.oid
    again = client(*PUSH_SPACE)
    assert "unchanged" in again.stdout
    assert space.head.oid == before


def test_what_is_pushed_starts_in_an_empty_directory(space, hub, client, tmp_path):
    folder = tmp_path / "deployed"
    for path, (content, _) in space.head.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    names = set(space.head.files)
    assert not [name for name in names if "test" in name or "training/" in name or name.endswith(".safetensors")]
    assert {"app.py", "requirements.txt", "README.md", "bus_hf/space/page.py", "bus_hf/space/style.css"} <= names
    (folder / "start.py").write_text(START)
    done = subprocess.run(
        [sys.executable, "start.py"],
        cwd=folder,
        env={
            "PATH": "/usr/bin:/bin",
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
            "BUS_HF_ENSEMBLE": "org/tiny",
            "GRADIO_ANALYTICS_ENABLED": "False",
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "/predict" in done.stdout


@pytest.mark.skipif("BUS_HF_TEST_INSTALL" not in os.environ, reason="installs gigabytes; BUS_HF_TEST_INSTALL=1 does it")
def test_what_is_pushed_reads_an_image_with_its_own_requirements_alone(space, hub, tmp_path):
    folder = tmp_path / "deployed"
    for path, (content, _) in space.head.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", folder / "requirements.txt"], check=True, timeout=900)
    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "accelerate" not in installed
    assert "albumentations" not in installed
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "BUS_HF"))}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"BUS_HF_ENSEMBLE": "org/tiny", "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    serving = subprocess.Popen([python, "app.py"], cwd=folder, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(120):
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                break
            assert serving.poll() is None, "the page stopped"
            time.sleep(1)
        Image.fromarray(phantom(np.random.default_rng(3), "malignant")[0]).save(tmp_path / "scan.png")
        done = subprocess.run(
            [python, ROOT / "examples" / "space_http.py", url, tmp_path / "scan.png"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        probability, verdict = done.stdout.strip().split(" ", 1)
        assert 0 < float(probability) < 1
        assert verdict in (sentences.SUSPICIOUS, sentences.CLEAR, sentences.UNSURE)
    finally:
        serving.terminate()
        serving.wait(30)


def test_every_module_that_the_page_imports_is_sent_and_training_is_not():
    files = {path.relative_to(ROOT).as_posix() for path in upload_space.imported(ROOT)}
    assert "bus_hf/reporting/card.md" in files
    assert not [file for file in files if file.startswith(("bus_hf/training", "bus_hf/cli"))]
    for file in files:
        if not file.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("bus_hf"):
                path = str(node.module).replace(".", "/")
                assert {f"{path}.py", f"{path}/__init__.py"} & files, f"{file} imports {node.module}"


def test_the_metric_is_loaded_from_its_space(hub, client):
    pushed = client("-m", "bus_hf.cli", "push", "metric", "--to", "org/bus_screening", "--json")
    assert pushed.returncode == 0, pushed.stderr
    assert json.loads(pushed.stdout)[0]["changed"]
    assert set(hub.repos["space", "org/bus_screening"].head.files) >= {"bus_screening.py", "README.md"}
    loaded = client("-c", LOAD, PYTHONPATH=str(ROOT))
    assert loaded.returncode == 0, loaded.stderr
    assert "1.0" in loaded.stdout


def test_dry_runs_and_wrong_names(capsys):
    assert main(["push", "metric", "--to", "org/bus_screening", "--dry-run"]) == 0
    assert "bus_screening.py" in capsys.readouterr().out
    assert main(["push", "metric", "--to", "org/other", "--dry-run"]) == 2
    assert "write owner/bus_screening" in capsys.readouterr().err
    assert main(["push", "space", "--to", "page", "--ensemble", "org/tiny"]) == 2
    assert "no Hub id" in capsys.readouterr().err
