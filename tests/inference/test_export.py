"""A graph gives what its network gives, for every backbone of the project, and holds no weights."""

import shutil

import numpy as np
import onnx
import pytest
import timm
import torch

from bus_hf.ensemble.graph import embed
from bus_hf.errors import BusError
from bus_hf.inference import export
from bus_hf.inference.export import write_graph
from bus_hf.inference.onnx_runtime import open_session
from bus_hf.labels import LABEL_SETS
from bus_hf.models import TrainingNet, class_activation, input_size, lesion_logits, load_member, save_member
from bus_hf.tensors import tensors
from tests.conftest import ROOT

LIGHT = "tf_efficientnet_lite0"
BACKBONES = (LIGHT, "efficientnet_b0", "efficientnet_b1", "resnet50", "densenet121", "convnext_tiny")


def member(folder, name):
    """The shipped member of a backbone, or one of random weights."""
    shipped = ROOT / "checkpoints" / name
    if not shipped.is_dir():
        torch.manual_seed(0)
        net = TrainingNet(timm.create_model(name, num_classes=1).eval())
        save_member(folder, net.backbone, LABEL_SETS["malignancy"], 64, net.lesion_head)
        return folder
    for file in ("config.json", "model.safetensors", "lesion_head.safetensors"):
        shutil.copyfile(shipped / file, folder / file)
    return folder


def session(home):
    files = {file.name: file.read_bytes() for file in home.glob("*.safetensors")}
    return open_session(embed((home / "graph.onnx").read_bytes(), files, home), home)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_graph_gives_what_torch_gives_for_any_batch(tmp_path, name):
    home = member(tmp_path, name)
    write_graph(home, "lesion_head.safetensors" if name == LIGHT else None)
    graph, model, size = session(home), load_member(home), input_size(home)
    head = tensors((home / "lesion_head.safetensors").read_bytes(), home / "lesion_head.safetensors")
    for count in (1, 2, 3, 5):
        images = np.random.default_rng(count).normal(size=(count, 3, size, size)).astype(np.float32)
        with torch.inference_mode():
            features = model.forward_features(torch.from_numpy(images))
            expected = [model.forward_head(features), class_activation(model, features)]
            if name == LIGHT:
                expected.append(lesion_logits(features, head["weight"], head["bias"]).sigmoid())
        outputs = graph.run(None, {"images": images})
        for output, value in zip(outputs, expected, strict=True):
            assert output.shape == value.shape
            assert np.abs(output - value.numpy()).max() < 1e-4 * max(1.0, float(value.abs().max()))


@pytest.fixture
def tiny_member(tmp_path):
    torch.manual_seed(0)
    backbone = timm.create_model("test_efficientnet", num_classes=1).eval()
    save_member(tmp_path / "member", backbone, LABEL_SETS["malignancy"], 64)
    return tmp_path / "member"


def test_a_graph_holds_no_weights_and_no_path_of_this_machine(tiny_member):
    write_graph(tiny_member)
    data = (tiny_member / "graph.onnx").read_bytes()
    graph = onnx.load_from_string(data).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["images", "logits", "cam"]
    assert {
        entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"
    } == {"model.safetensors"}
    assert not any(tensor.raw_data or tensor.float_data for tensor in graph.initializer)
    assert len(data) < (tiny_member / "model.safetensors").stat().st_size
    assert b".py" not in data
    assert str(ROOT).encode() not in data


def test_the_same_member_gives_the_same_graph(tiny_member):
    write_graph(tiny_member)
    first = (tiny_member / "graph.onnx").read_bytes()
    write_graph(tiny_member)
    assert (tiny_member / "graph.onnx").read_bytes() == first


def test_floats_of_full_precision_are_not_cast(tmp_path):
    save_member(
        tmp_path, timm.create_model("test_resnet", num_classes=1).eval(), LABEL_SETS["malignancy"], 64, half=False
    )
    write_graph(tmp_path)
    assert "Cast" not in {
        node.op_type for node in onnx.load(tmp_path / "graph.onnx", load_external_data=False).graph.node
    }


def test_a_graph_that_differs_from_its_network_is_not_written(monkeypatch, tiny_member):
    exported = export._exported

    def wrong(network, size):
        model = exported(network, size)
        next(node for node in model.graph.node if node.op_type == "BatchNormalization").attribute[0].f = 0.5
        return model

    monkeypatch.setattr(export, "_exported", wrong)
    with pytest.raises(BusError, match=r"test_efficientnet cannot be written as graph\.onnx; use the member as it is"):
        write_graph(tiny_member)
    assert not (tiny_member / "graph.onnx").exists()
