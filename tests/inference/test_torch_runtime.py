"""The PyTorch runtime gives what timm gives, and says plainly what it cannot load."""

import dataclasses
import json
import resource
import shutil
import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
timm = pytest.importorskip("timm")

from safetensors.torch import load_file, save_file  # noqa: E402

from bus_hf.ensemble.folder import member_bytes, read_manifest  # noqa: E402
from bus_hf.errors import BusError  # noqa: E402
from bus_hf.inference import runtime as runtime_module  # noqa: E402
from bus_hf.inference.runtime import Outputs, open_runtime  # noqa: E402
from bus_hf.inference.torch_runtime import TorchRuntime  # noqa: E402
from tests.programs import python  # noqa: E402


def images(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)


def opened(folder, **kwargs):
    return open_runtime(folder, read_manifest(folder), device="cpu", **kwargs)


@pytest.fixture
def folder(tiny_ensemble, tmp_path):
    shutil.copytree(tiny_ensemble, tmp_path / "ensemble")
    return tmp_path / "ensemble"


@pytest.mark.parametrize(("member", "size"), [("test_efficientnet", 64), ("test_resnet", 96)])
def test_logits_are_those_of_timms_own_loader_and_preprocessing(folder, member, size, rehash):
    # Mean and std that differ from each other and between the channels.
    file = folder / member / "config.json"
    data = json.loads(file.read_text())
    data["pretrained_cfg"] |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    file.write_text(json.dumps(data))
    rehash(folder)
    runtime = opened(folder)
    assert runtime.input_size(member) == size
    batch = images(3, size)
    out = runtime(member, batch)

    model = timm.create_model(f"local-dir:{folder / member}", pretrained=True).eval()
    config = timm.data.resolve_model_data_config(model)
    colour = np.repeat(batch[..., None], 3, axis=-1).astype(np.float32) / 255
    colour = (colour - np.float32(config["mean"])) / np.float32(config["std"])
    with torch.inference_mode():
        expected = model(torch.from_numpy(colour).permute(0, 3, 1, 2)).numpy()
    assert out.logits.dtype == np.float32
    assert out.logits.shape == (3, 1)
    assert list(config["mean"]) == [0.485, 0.456, 0.406]
    assert np.allclose(out.logits, expected, atol=1e-4)
    assert np.ptp(out.logits) > 1e-3


def test_the_mean_of_the_cam_plus_the_bias_is_the_logit(tiny_ensemble):
    out = opened(tiny_ensemble)("test_resnet", images(2, 96))
    bias = load_file(tiny_ensemble / "test_resnet" / "model.safetensors")["fc.bias"].float().numpy()
    assert out.cams.shape == (2, 1, 3, 3)
    assert out.cams.dtype == np.float32
    assert np.allclose(out.cams.mean(axis=(2, 3)) + bias, out.logits, atol=1e-4)


def test_only_the_owner_of_the_lesion_map_gives_one(tiny_ensemble):
    runtime = opened(tiny_ensemble)
    lesion = runtime("test_efficientnet", images(2, 64)).lesion
    assert runtime("test_resnet", images(2, 96)).lesion is None
    assert lesion.shape == (2, 8, 8)
    assert lesion.dtype == np.float32
    assert 0 <= lesion.min() < lesion.max() <= 1


def test_the_cells_of_the_lesion_map_stand_where_they_belong(tiny_ensemble):
    runtime = opened(tiny_ensemble)
    batch = images(1, 64, seed=3)
    home = tiny_ensemble / "test_efficientnet"
    head = load_file(home / "lesion_head.safetensors")
    model = timm.create_model(f"local-dir:{home}", pretrained=True).eval()
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        features = model.forward_features((torch.from_numpy(batch)[:, None].float() / 255 - mean) / std)[0]
    weight, bias = head["weight"].float()[:, :, 0, 0], head["bias"].float()
    cells = torch.einsum("kc,chw->khw", weight, features) + bias[:, None, None]
    fine = int(len(bias) ** 0.5)
    by_hand = np.zeros((fine * cells.shape[1], fine * cells.shape[2]))
    for k in range(len(bias)):
        by_hand[k // fine :: fine, k % fine :: fine] = torch.sigmoid(cells[k]).numpy()
    assert np.allclose(runtime("test_efficientnet", batch).lesion[0], by_hand, atol=1e-4)


def test_an_image_reads_the_same_in_any_batch(tiny_ensemble):
    runtime = opened(tiny_ensemble)
    batch = images(5, 96)
    together = runtime("test_resnet", batch).logits
    alone = np.concatenate([runtime("test_resnet", batch[index : index + 1]).logits for index in range(5)])
    assert np.allclose(together, alone, atol=1e-5)


def test_half_weights_are_read_as_float32(tiny_ensemble):
    stored = load_file(tiny_ensemble / "test_resnet" / "model.safetensors")
    assert torch.float16 in {tensor.dtype for tensor in stored.values()}
    loaded = opened(tiny_ensemble)._members["test_resnet"].model
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    assert not loaded.training


def test_threads_share_one_runtime(tiny_ensemble):
    runtime = opened(tiny_ensemble)
    batches = [images(2, 96, seed) for seed in range(6)]
    expected = [runtime("test_resnet", batch).logits for batch in batches]
    result = [None] * len(batches)

    def read(index):
        for _ in range(5):
            result[index] = runtime("test_resnet", batches[index]).logits

    threads = [threading.Thread(target=read, args=(index,)) for index in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(result, expected, strict=True):
        assert np.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "wrong", [images(1, 64), images(1, 96).astype(np.float32), images(1, 96)[0], images(3, 96)[None]]
)
def test_other_arrays_are_refused(tiny_ensemble, wrong):
    with pytest.raises(ValueError, match="reads uint8"):
        opened(tiny_ensemble)("test_resnet", wrong)


def test_a_part_loads_only_itself_and_the_owner_of_the_map(tiny_ensemble, folder):
    shutil.rmtree(folder / "test_resnet")
    runtime = opened(folder, members="light")
    assert runtime("test_efficientnet", images(1, 64)).lesion is not None
    assert set(opened(tiny_ensemble, members=["test_resnet"])._members) == {"test_efficientnet", "test_resnet"}


def test_convnext_and_softmax_members_are_read(tmp_path, make_ensemble):
    make_ensemble(tmp_path, ("test_convnext",), "busi3")
    out = opened(tmp_path)("test_convnext", images(2, 64))
    assert out.logits.shape == (2, 3)
    assert out.cams.shape[:2] == (2, 3)
    assert np.isfinite(out.cams).all()


def edit_config(folder, **changes):
    file = folder / "test_resnet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def refused(rehash):
    """Return a function that opens an ensemble whose hostile manifest names the files as they are."""

    def sentence(folder, message):
        rehash(folder)
        return refused_as_it_is(folder, message)

    return sentence


def refused_as_it_is(folder, message):
    with pytest.raises(BusError, match=message) as caught:
        opened(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_an_unknown_architecture_lists_near_names(folder, refused):
    edit_config(folder, architecture="test_resnett")
    assert "test_resnet" in refused(folder, "no architecture 'test_resnett'").replace("test_resnett", "")


def test_an_architecture_that_names_a_repository_is_not_fetched(folder, refused):
    edit_config(folder, architecture="hf-hub:someone/evil")
    refused(folder, "architecture is")


def test_weights_of_another_architecture_are_refused(folder, refused):
    shutil.copy(folder / "test_efficientnet" / "model.safetensors", folder / "test_resnet")
    refused(folder, "test_resnet")


def test_a_pickle_named_safetensors_is_refused(folder, refused):
    torch.save({"weight": torch.zeros(1)}, folder / "test_resnet" / "model.safetensors")
    refused(folder, "model.safetensors")


def test_a_member_of_another_label_set_is_refused(folder, make_ensemble, tmp_path, refused):
    make_ensemble(tmp_path / "other", ("test_resnet",), "busi3")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "other" / "test_resnet" / name, folder / "test_resnet")
    refused(folder, "normal, benign, malignant.*label set 'malignancy'")


@pytest.mark.parametrize("changes", [{"label_names": ["benign"]}, {"num_classes": 2}])
def test_outputs_of_other_classes_are_refused(folder, changes, refused):
    edit_config(folder, **changes)
    refused(folder, "outputs .* are not those of the label set 'malignancy'")


@pytest.mark.parametrize("damage", ["missing", "garbage", "other member", "not square", "no bias"])
def test_a_lesion_head_that_does_not_fit_is_refused(folder, damage, refused):
    file = folder / "test_efficientnet" / "lesion_head.safetensors"
    head = load_file(file)
    channels = head["weight"].shape[1]
    if damage == "missing":
        file.unlink()
    elif damage == "garbage":
        file.write_bytes(b"\x80\x04nothing")
    elif damage == "other member":
        save_file({"weight": torch.zeros(16, channels + 1, 1, 1), "bias": torch.zeros(16)}, file)
    elif damage == "not square":
        save_file({"weight": torch.zeros(15, channels, 1, 1), "bias": torch.zeros(15)}, file)
    else:
        save_file({"weight": head["weight"]}, file)
    refused(folder, "lesion head|lesion_head")


@pytest.mark.parametrize("device", ["abacus", "cuda:99", ""])
def test_a_device_that_is_not_there_is_named(tiny_ensemble, device):
    with pytest.raises(BusError, match=f"no device '{device}'"):
        open_runtime(tiny_ensemble, read_manifest(tiny_ensemble), device=device)


def test_the_lesion_map_may_be_in_a_file_of_another_name(folder):
    home = folder / "test_efficientnet"
    (home / "lesion_head.safetensors").rename(home / "head.safetensors")
    manifest = read_manifest(folder)
    manifest = dataclasses.replace(
        manifest, lesion_map=dataclasses.replace(manifest.lesion_map, file="head.safetensors")
    )
    assert TorchRuntime(folder, manifest, device="cpu")("test_efficientnet", images(1, 64)).lesion is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_gpu_agrees_with_the_cpu(tiny_ensemble):
    manifest, batch = read_manifest(tiny_ensemble), images(4, 64)
    expected = opened(tiny_ensemble)("test_efficientnet", batch)
    exact = TorchRuntime(tiny_ensemble, manifest, device="cuda")("test_efficientnet", batch)
    half = TorchRuntime(tiny_ensemble, manifest, device="cuda", autocast=True)("test_efficientnet", batch)
    assert np.allclose(exact.logits, expected.logits, atol=1e-2)
    assert np.allclose(exact.lesion, expected.lesion, atol=1e-2)
    assert np.allclose(half.logits, expected.logits, atol=0.1)


_FORKING = """
import os, signal, sys
import numpy as np
import torch
torch.set_num_threads(2)
from bus_hf import BreastCancerDetector
detector = BreastCancerDetector.from_pretrained(sys.argv[1], device="cpu")
image = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
# Enough arithmetic for every thread of the pool.
torch.ones(512, 512) @ torch.ones(512, 512)
torch.ones(4_000_000).add_(1)
before = detector.predict(image).probability
if os.fork() == 0:
    signal.alarm(30)
    torch.ones(4_000_000).add_(1)
    os._exit(0 if abs(detector.predict(image).probability - before) < 1e-5 else 3)
_, status = os.wait()
after = detector.predict(image).probability
sys.exit(os.waitstatus_to_exitcode(status) if abs(after - before) < 1e-9 else 4)
"""


def test_a_forked_child_reads_and_so_does_its_parent_afterwards(tiny_ensemble):
    done = python(["-c", _FORKING, tiny_ensemble])
    assert done.returncode == 0, done.stderr


def test_a_forked_process_does_not_use_its_parents_gpu(folder):
    runtime = opened(folder)
    runtime.device, runtime._process = torch.device("cuda"), -1
    with pytest.raises(BusError, match="load the detector in the new process"):
        runtime("test_resnet", images(1, 96))


def spoil(path, value=None, **changes):
    """Rewrite a safetensors file with `value` as its first number, or tensors replaced."""
    tensors = load_file(path) | changes
    if value is not None:
        first = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.ndim)
        tensors[first].view(-1)[0] = value
    save_file(tensors, path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("file", ["test_resnet/model.safetensors", "test_efficientnet/lesion_head.safetensors"])
def test_weights_that_are_not_finite_are_refused(folder, refused, file, value):
    spoil(folder / file, value)
    refused(folder, "not finite")


def test_weights_that_overflow_give_an_error_and_no_answer(folder, rehash):
    file = folder / "test_resnet" / "model.safetensors"
    spoil(file, **{"fc.weight": torch.full(load_file(file)["fc.weight"].shape, 3e38)})
    rehash(folder)
    with pytest.raises(BusError, match="not a finite number"):
        opened(folder)("test_resnet", images(1, 96))


@pytest.mark.parametrize("outputs", [(np.nan, 0, 0), (0, np.inf, 0), (0, 0, -np.inf), (0, 0, np.nan)])
def test_no_runtime_can_give_what_is_not_finite(outputs):
    shapes = ((1, 1), (1, 1, 2, 2), (1, 4, 4))
    logits, cams, lesion = (np.full(*given, np.float32) for given in zip(shapes, outputs, strict=True))
    with pytest.raises(BusError, match="not a finite number"):
        Outputs(logits, cams, lesion)


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        (1 << 63).to_bytes(8, "little") + b"{}",
        (1 << 23).to_bytes(8, "little") + b"{" * (1 << 23),
        raw(b"[" * 100_000),
        raw(b"\xff\xfe"),
        raw([1]),
        raw({"a": 1}),
        raw({"a": ONE | {"shape": [1 << 60]}}, b"1234"),
        raw({"a": ONE | {"shape": [-1]}}, b"1234"),
        raw({"a": ONE | {"shape": [1.0]}}, b"1234"),
        raw({"a": ONE | {"shape": [1] * 9}}, b"1234"),
        raw({"a": ONE | {"dtype": "F8_E4M3"}}, b"1234"),
        raw({"a": ONE | {"dtype": ["F32"]}}, b"1234"),
        raw({"a": ONE | {"data_offsets": [0, 4, 8]}}, b"1234"),
        raw({"a": ONE}, b"12345"),
        raw({"a": ONE, "b": ONE}, b"1234"),
        raw({f"t{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(10_001)}),
        raw({}),
    ],
)
def test_headers_are_checked_before_anything_is_allocated(folder, refused, data):
    (folder / "test_resnet" / "model.safetensors").write_bytes(data)
    refused(folder, "damaged|not those of test_resnet")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "eva_giant_patch14_560"}, "not those of|no linear classifier|cannot build"),
        ({"architecture": "x" * 100_000}, "architecture is"),
        ({"architecture": ["resnet50"]}, "architecture is"),
        ({"model_args": {"in_chans": 4096}}, "model_args.in_chans is"),
        ({"model_args": {"in_chans": True}}, "model_args.in_chans is"),
        ({"model_args": {"global_pool": ["avg"]}}, "model_args.global_pool is"),
        ({"model_args": {"global_pool": None}}, "model_args.global_pool is"),
        ({"model_args": {"drop_rate": "1"}}, "model_args.drop_rate is"),
        ({"model_args": {"drop_path_rate": -3}}, "model_args.drop_path_rate is"),
        ({"model_args": {"pretrained": "yes"}}, "model_args.pretrained is"),
        (
            {"model_args": {"pretrained_cfg": {"url": "http://example.org"}}},
            "unknown key 'pretrained_cfg' in model_args",
        ),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "unknown key 'checkpoint_path' in model_args"),
        ({"model_args": ["in_chans"]}, "model_args is"),
        ({"model_args": None}, "model_args is null"),
        ({"num_classes": 10**400}, "outputs|num_classes"),
        (
            {"pretrained_cfg": {"input_size": [3, 4096, 4096], "mean": [0.5] * 3, "std": [0.5] * 3}},
            "is 4096;",
        ),
        (
            {"pretrained_cfg": {"input_size": [3, 64.0, 64.0], "mean": [0.5] * 3, "std": [0.5] * 3}},
            r"input_size\[1\] is 64.0",
        ),
        (
            {"pretrained_cfg": {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [1e-320] * 3}},
            "is 1e-320;",
        ),
        (
            {"pretrained_cfg": {"input_size": [3, 64, 64], "mean": [1e300] * 3, "std": [0.5] * 3}},
            "mean.* is 1e",
        ),
        ({"pretrained_cfg": {"input_size": [3, 64, 64], "mean": [float("nan")] * 3, "std": [0.5] * 3}}, "mean"),
        ({"pretrained_cfg": {"input_size": [3, 64, 64], "mean": [10**400] * 3, "std": [0.5] * 3}}, "mean"),
        ({"pretrained_cfg": []}, "pretrained_cfg is"),
    ],
)
def test_odd_configs_are_one_sentence(folder, refused, changes, sentence):
    edit_config(folder, **changes)
    refused(folder, sentence)


def test_a_network_that_its_weights_do_not_fit_is_not_allocated(folder, rehash):
    edit_config(folder, architecture="convnext_xxlarge")  # 3.4 GB in float32
    rehash(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused_as_it_is(folder, "not those of convnext_xxlarge")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_files_that_change_after_the_check_change_nothing(folder, monkeypatch, name):
    clean = opened(folder)("test_resnet", images(1, 96)).logits
    read, path = member_bytes, folder / "test_resnet" / name

    def exchanged(*given):
        result = read(*given)
        if given[2].name == "test_resnet":
            path.write_bytes(b"{}")
        return result

    monkeypatch.setattr(runtime_module, "member_bytes", exchanged)
    assert np.array_equal(opened(folder)("test_resnet", images(1, 96)).logits, clean)


def test_a_changed_mean_is_refused(folder):
    file = folder / "test_resnet" / "config.json"
    data = json.loads(file.read_text())
    data["pretrained_cfg"]["mean"] = [0.1, 0.1, 0.1]
    file.write_text(json.dumps(data))
    refused_as_it_is(folder, "config.json: the file is not the one that the manifest names")


def test_a_file_that_is_too_large_is_not_read(folder, rehash):
    with open(folder / "test_resnet" / "config.json", "ab") as file:
        file.truncate(3 << 30)
    refused_as_it_is(folder, r"config.json has 3,221,225,472 bytes")
