"""What pushes send of the project itself: the same from a clone and from a wheel; and a wheel, built and installed."""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import cv2
import numpy as np
import pytest

from bus_hf.cli import COMMANDS
from bus_hf.data.phantoms import phantom, write_phantoms
from bus_hf.errors import BusError
from bus_hf.hub import upload_dataset, upload_metric, upload_space
from bus_hf.hub.project import from_wheel, project_files

ROOT = Path(__file__).resolve().parents[2]
# Read without running it: setup.py imports setuptools.
FILES = next(
    ast.literal_eval(node.value)
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FILES"
)


@pytest.fixture
def site(tmp_path):
    """A site-packages as an installed wheel leaves it."""
    folder = tmp_path / "site-packages"
    shutil.copytree(ROOT / "bus_hf", folder / "bus_hf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        target = folder / "bus_hf" / "hub" / "files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    return folder


def contents(upload):
    return {
        name: file if isinstance(file, bytes) else Path(file).read_bytes()
        for name, file in upload.files.items()
        if not name.endswith(".parquet")
    }


def test_a_wheel_sends_what_a_clone_sends(site, pinned, tmp_path):
    assert from_wheel(site)
    assert not from_wheel(ROOT)
    spaces = [contents(upload_space.plan("org/page", "org/tiny", home=home)) for home in (ROOT, site)]
    assert spaces[0] == spaces[1]
    metrics = [contents(upload_metric.plan("org/bus_screening", home)) for home in (ROOT, site)]
    assert metrics[0] == metrics[1]
    write_phantoms(tmp_path / "images", 6, 0)
    cards = []
    for home in (ROOT, site):
        shards = tmp_path / f"shards-{len(cards)}"
        shards.mkdir()
        plan = upload_dataset.plan([tmp_path / "images"], "org/data", shards, may_redistribute=True, home=home)
        cards.append(contents(plan))
    assert cards[0] == cards[1]


def test_installers_may_link_files_to_their_cache(site, pinned, tmp_path):
    for name in ("bus_hf/hub/files/app.py", "bus_hf/space/page.py"):
        os.link(site / name, tmp_path / Path(name).name)
    assert "app.py" in upload_space.plan("org/page", "org/tiny", home=site).files


def test_a_file_that_is_missing_is_one_sentence(site):
    (site / "bus_hf" / "hub" / "files" / "app.py").unlink()
    with pytest.raises(BusError, match=r"app\.py is not here; install bus-hf anew"):
        project_files(["app.py"], site)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Run commands of a wheel in an environment of its own, from an empty folder; other packages are those of here."""
    home = tmp_path_factory.mktemp("installed")
    source = home / "source"
    shutil.copytree(ROOT / "bus_hf", source / "bus_hf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, "setup.py", "pyproject.toml", "MANIFEST.in"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", home, source], check=True, timeout=300)
    (wheel,) = home.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    python = home / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "-q", "--no-deps", wheel], check=True, timeout=300)
    site = next((home / "venv" / "lib").glob("python*")) / "site-packages"
    # Adds the packages of a folder but not what its own .pth files name: an editable install of this clone is one.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    (home / "empty").mkdir()
    shutil.rmtree(source)

    def run(*arguments, **settings):
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "BUS_HF", "PYTHON"))}
        return subprocess.run(
            [home / "venv" / "bin" / "bus-hf", *map(str, arguments)],
            cwd=home / "empty",
            env=kept | settings,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return run


@pytest.mark.skipif("BUS_HF_TEST_INSTALL" not in os.environ, reason="builds a wheel; BUS_HF_TEST_INSTALL=1 does it")
class TestInstalled:
    def test_every_command_teaches(self, installed):
        groups = {name: getattr(module, "COMMANDS", ()) for name, module in COMMANDS.items()}
        for words in ([], *([name] for name in groups), *([name, below] for name in groups for below in groups[name])):
            done = installed(*words, "--help")
            assert done.returncode == 0, done.stderr
            assert " ".join(["usage: bus-hf", *words]) in done.stdout

    def test_predict_reads_an_image_with_the_ensemble_that_is_named(self, installed, tiny_ensemble, tmp_path):
        cv2.imwrite(str(tmp_path / "scan.png"), phantom(np.random.default_rng(0), "malignant")[0])
        done = installed("predict", "--ensemble", tiny_ensemble, tmp_path / "scan.png", "--json")
        assert done.returncode == 0, done.stderr
        assert 0 < json.loads(done.stdout)["probability"] < 1
        done = installed("predict", tmp_path / "scan.png")
        assert done.returncode == 2
        assert done.stderr == (
            "bus-hf: no ensemble comes with an installed bus-hf; name a folder or a Hub id with --ensemble or in "
            "$BUS_HF_ENSEMBLE.\n"
        )

    def test_train_and_build(self, installed, tmp_path):
        small = "--backbone test_efficientnet --init random --input_size 64 --epochs 1 --folds 2 --batch_size 16"
        small += " --num_workers 0 --drop_path_rate 0 --trackers"
        done = installed("train", "--phantoms", 30, "--output", tmp_path / "run", *small.split())
        assert done.returncode == 0, done.stderr
        done = installed("build", "ensemble", tmp_path / "run", "--to", tmp_path / "mine")
        assert done.returncode == 0, done.stderr
        assert "# " in (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")

    def test_every_push_finds_its_files(self, installed, hub, described, tmp_path):
        settings = hub.settings(tmp_path / "home")
        write_phantoms(tmp_path / "images", 6, 0)
        for words in (
            ["ensemble", described, "--to", "org/tiny"],
            ["dataset", tmp_path / "images", "--to", "org/data", "--may-redistribute"],
            ["space", "--to", "org/page", "--ensemble", "org/tiny"],
            ["metric", "--to", "org/bus_screening"],
        ):
            done = installed("push", *words, **settings)
            assert done.returncode == 0, done.stderr
        assert {"app.py", "requirements.txt", "bus_hf/space/page.py"} <= set(hub.repos["space", "org/page"].head.files)
