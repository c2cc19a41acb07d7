"""On a CPU members run from their graphs: as torch does, without torch, and from no file that was changed."""

import dataclasses
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bus_hf import BreastCancerDetector
from bus_hf.ensemble.folder import read_manifest
from bus_hf.errors import BusError
from bus_hf.inference.onnx_runtime import OnnxRuntime
from bus_hf.inference.runtime import open_runtime
from tests.conftest import ROOT

SIZES = {"test_efficientnet": 64, "test_resnet": 96}


def images(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.fixture
def folder(graphed_ensemble, tmp_path):
    """A copy of `graphed_ensemble` that may be changed."""
    return shutil.copytree(graphed_ensemble, tmp_path / "ensemble")


def opened(folder, device="cpu", **kwargs):
    return open_runtime(folder, read_manifest(folder), device=device, **kwargs)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_it_gives_what_torch_gives(graphed_ensemble, count):
    from bus_hf.inference.torch_runtime import TorchRuntime

    ours, torchs = (
        opened(graphed_ensemble),
        TorchRuntime(graphed_ensemble, read_manifest(graphed_ensemble), device="cpu"),
    )
    assert isinstance(ours, OnnxRuntime)
    for member, size in SIZES.items():
        assert ours.input_size(member) == size
        output, expected = (runtime(member, images(count, size)) for runtime in (ours, torchs))
        for field in dataclasses.fields(output):
            values, others = getattr(output, field.name), getattr(expected, field.name)
            assert (values is None) == (others is None)
            if values is not None:
                assert values.shape == others.shape
                assert values.dtype == np.float32
                assert np.abs(values - others).max() < 1e-4


def test_one_member_without_a_graph_and_torch_runs_all(graphed_ensemble):
    manifest = read_manifest(graphed_ensemble)
    bare = dataclasses.replace(manifest.members[1], graph_sha256=None)
    manifest = dataclasses.replace(manifest, members=(manifest.members[0], bare))
    assert type(open_runtime(graphed_ensemble, manifest, "cpu")).__name__ == "TorchRuntime"
    # What is not needed is not asked.
    assert type(open_runtime(graphed_ensemble, manifest, "cpu", members=["light"])).__name__ == "OnnxRuntime"


def test_the_device_is_chosen_without_torch_where_there_is_no_driver_of_a_gpu(monkeypatch, graphed_ensemble):
    monkeypatch.setattr("ctypes.CDLL", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no such library")))
    monkeypatch.setattr(sys, "platform", "linux2")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert isinstance(opened(graphed_ensemble, device=None), OnnxRuntime)


_READING = """
import sys
import numpy as np
from bus_hf import BreastCancerDetector
detector = BreastCancerDetector.from_pretrained(sys.argv[1], device="cpu")
image = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
print(detector.predict(image, heatmap=True).probability)
print(*sorted(sys.modules))
"""


def test_reading_imports_neither_torch_nor_timm_and_writes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    for path in sorted(before, reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", _READING, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    probability, modules = done.stdout.splitlines()
    heavy = {"torch", "timm", "safetensors", "onnx", "scipy", "pandas", "matplotlib", "transformers", "gradio"}
    assert heavy & set(modules.split()) == set()
    assert 0 < float(probability) < 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


_FORKING = """
import os, signal, sys
import numpy as np
from bus_hf import BreastCancerDetector
detector = BreastCancerDetector.from_pretrained(sys.argv[1], device="cpu")
image = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
before = detector.predict(image).probability
if os.fork() == 0:
    signal.alarm(30)
    os._exit(0 if detector.predict(image).probability == before else 3)
_, status = os.wait()
sys.exit(os.waitstatus_to_exitcode(status) if detector.predict(image).probability == before else 4)
"""


def test_a_forked_child_reads_and_so_does_its_parent_afterwards(graphed_ensemble):
    done = subprocess.run(
        [sys.executable, "-c", _FORKING, str(graphed_ensemble)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
    )
    assert done.returncode == 0, done.stderr


def test_several_threads_share_one(graphed_ensemble):
    runtime = opened(graphed_ensemble)
    batches = [images(3, 96, seed) for seed in range(8)]
    expected = [runtime("test_resnet", batch).logits for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda batch: runtime("test_resnet", batch).logits, batches))
    assert all((ours == theirs).all() for ours, theirs in zip(at_once, expected, strict=True))


@pytest.mark.parametrize("spoilt", [images(1, 32), images(1, 64).astype(np.float32), images(1, 64)[0]])
def test_other_squares_are_an_error_of_the_caller(graphed_ensemble, spoilt):
    with pytest.raises(ValueError, match="test_efficientnet reads uint8"):
        opened(graphed_ensemble)("test_efficientnet", spoilt)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_byte_is_refused_by_name(folder, place):
    path = folder / "test_resnet" / "graph.onnx"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(BusError, match=r"test_resnet/graph\.onnx: the file is not the one that the manifest names"):
        BreastCancerDetector.from_pretrained(folder, device="cpu")


def test_a_missing_or_truncated_graph_is_refused_by_name(folder, rehash):
    path = folder / "test_resnet" / "graph.onnx"
    path.write_bytes(path.read_bytes()[:-200])
    rehash(folder)
    with pytest.raises(BusError, match=r"test_resnet: graph\.onnx is damaged"):
        opened(folder)
    path.unlink()
    with pytest.raises(BusError, match=r"test_resnet: graph\.onnx is missing"):
        opened(folder)


def test_a_graph_of_other_weights_or_without_a_lesion_map_is_refused_by_name(folder, rehash):
    first, second = (folder / name / "graph.onnx" for name in SIZES)
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    rehash(folder)
    with pytest.raises(BusError, match=r"test_efficientnet: graph\.onnx points to bytes that are no tensor"):
        opened(folder)
    from bus_hf.inference.export import write_graph

    first.write_bytes(kept)
    write_graph(folder / "test_efficientnet")
    rehash(folder)
    with pytest.raises(BusError, match=r"test_efficientnet: graph\.onnx is not of the network that config\.json"):
        opened(folder)


def test_a_graph_of_another_input_size_is_refused_by_name(folder, rehash):
    path = folder / "test_resnet" / "config.json"
    path.write_text(path.read_text().replace("96", "64"))
    rehash(folder)
    runtime = opened(folder)
    with pytest.raises(BusError, match=r"test_resnet: graph\.onnx is not of the network that config\.json describes"):
        runtime("test_resnet", images(2, 64))
