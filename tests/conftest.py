"""What tests share: the real images, where they are, and tiny ensembles with random weights.

No test reaches the Hub, and none reads or fills the caches of whoever runs it.
"""

import os
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from bus_hf.ensemble.folder import sha256, write_manifest
from bus_hf.ensemble.manifest import SCHEMA, Abstain, Ensemble, FittedOn, LesionMap, Member, OperatingPoint
from bus_hf.filenames import LESION_HEAD

ROOT = Path(__file__).resolve().parents[1]

# Set before any test imports a library that reads them once: torch, huggingface_hub, datasets, gradio, matplotlib.
_CACHES = Path(tempfile.mkdtemp(prefix="bus-hf-tests-"))
os.environ |= {
    "HF_HOME": str(_CACHES / "huggingface"),
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_TEMP_DIR": str(_CACHES / "gradio"),
    "MPLBACKEND": "Agg",
    # Several test processes that each take every core only wait for one another.
    "OMP_NUM_THREADS": "1",
}
if sys.platform == "linux":
    # Processes of one training meet on the loopback, whatever the machine's name resolves to.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
for _name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "BUS_HF_ENSEMBLE"):
    os.environ.pop(_name, None)


def pytest_unconfigure():
    shutil.rmtree(_CACHES, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real images; tests that need them are skipped where it is absent."""
    folder = Path(os.environ.get("BUS_HF_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"the real images are not there ({folder}; BUS_HF_SHARED_DATA names another folder)")
    return folder


@pytest.fixture(scope="session")
def blank_plots():
    """Return a context in which plots are blank: the same files, without the drawing that takes most of the time."""
    from PIL import Image

    def savefig(figure, path, **options):
        Image.new("L", (8, 8)).save(path, "PNG")

    @contextmanager
    def blank():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("matplotlib.figure.Figure.savefig", savefig)
            yield

    return blank


@pytest.fixture(scope="session")
def make_ensemble():
    """Return a function that writes an ensemble folder of timm's test models and returns its manifest."""

    def make(
        folder, architectures=("test_efficientnet", "test_resnet"), label_set="malignancy", sizes=(64, 96), **changes
    ):
        import timm
        import torch
        from scipy.special import logit as log_odds

        from bus_hf import labels, models

        classes = labels.label_set(label_set)
        members = []
        for index, (name, size) in enumerate(zip(architectures, sizes, strict=False)):
            torch.manual_seed(index)
            backbone = timm.create_model(name, pretrained=False, num_classes=classes.num_logits)
            net = models.TrainingNet(backbone).eval()
            torch.nn.init.normal_(net.lesion_head.weight, std=0.5)
            models.save_member(folder / name, backbone.eval(), classes, size, net.lesion_head if index == 0 else None)
            weights = sha256(folder / name / "model.safetensors")
            config = sha256(folder / name / "config.json")
            members.append(Member(name, name, None, None, weights, 1 / len(architectures), config_sha256=config))
        first = architectures[0]
        head = folder / first / LESION_HEAD
        settings = {
            "schema": SCHEMA,
            "name": "tiny",
            "version": "0.0.1",
            "label_set": label_set,
            "labels": classes.classes,
            "positive": classes.positive,
            "members": tuple(members),
            "views": {"whole": 0.2, "flip": 0.2, "wider": 0.1, "lesion": 0.25, "around": 0.25},
            "lesion_map": LesionMap(first, head.name, sha256(head), 0.01, 0.01),
            "temperature": 1.5,
            "bias": 0.1 if classes.positive else 0.0,
            "operating_points": (
                OperatingPoint("miss_5_in_100", log_odds(0.3), (0.95, 0.93, 0.97), (0.7, 0.6, 0.8)),
                OperatingPoint("balanced", log_odds(0.5), (0.9, 0.85, 0.95), (0.8, 0.7, 0.9)),
            ),
            "default_operating_point": "miss_5_in_100",
            "abstain": Abstain(log_odds(0.25), log_odds(0.35), 0.9, 0.05, "of a test"),
            "light": first,
            "fitted_on": FittedOn({"phantoms": 10}, 10, 0.5, None),
            "lesion_type": None,
        }
        manifest = Ensemble(**(settings | changes))
        write_manifest(manifest, folder)
        return manifest

    return make


@pytest.fixture(scope="session")
def tiny_ensemble(tmp_path_factory, make_ensemble):
    """An ensemble folder of two members with random weights; not to be changed."""
    folder = tmp_path_factory.mktemp("ensemble")
    make_ensemble(folder)
    return folder


@pytest.fixture(scope="session")
def graphed_ensemble(tmp_path_factory, make_ensemble):
    """`tiny_ensemble` with the graphs of its members; not to be changed."""
    from bus_hf.build import graphs

    folder = tmp_path_factory.mktemp("graphed") / "ensemble"
    make_ensemble(folder)
    graphs.add(folder)
    return folder


@pytest.fixture(scope="session")
def rehash():
    """Return a function that gives the manifest of a folder the hashes of the files as they are now."""

    def again(folder):
        import hashlib
        import json

        path = folder / "ensemble.json"
        data = json.loads(path.read_text())
        second = data["lesion_type"]

        def digest(file):
            return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "0" * 64

        for member in [*data["members"], *([second["member"]] if second else [])]:
            member["sha256"] = digest(folder / member["path"] / "model.safetensors")
            member["config_sha256"] = digest(folder / member["path"] / "config.json")
            if member.get("graph_sha256"):
                member["graph_sha256"] = digest(folder / member["path"] / "graph.onnx")
        head = data["lesion_map"]
        head["sha256"] = digest(folder / head["member"] / head["file"])
        path.write_text(json.dumps(data))

    return again


def pytest_collection_modifyitems(items):
    """Files with the most slow tests first, so that no process is left with a long one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
