import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError
from bus_hf.labels import LABEL_SETS
from bus_hf.models import TrainingNet, class_activation, create, lesion_logits, load_member, save_member

EXACT = ("test_efficientnet", "test_resnet", "densenet121", "tf_efficientnet_lite0")


@pytest.mark.parametrize("architecture", EXACT)
def test_mean_of_the_activation_map_is_the_logit(architecture):
    torch.manual_seed(0)
    model = create(architecture, 3).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        cam = class_activation(model, model.forward_features(images))
        logits = model(images)
    expected = cam.mean((2, 3)) + model.get_classifier().bias
    assert cam.shape == (2, 3, 3, 3)
    assert torch.allclose(expected, logits, atol=1e-4)


def test_convnext_map_norms_each_place():
    model = create("test_convnext", 2).eval()
    with torch.inference_mode():
        features = model.forward_features(torch.randn(1, 3, 64, 64))
        cam = class_activation(model, features)
        # At a single place, pooling does nothing and the approximation is exact.
        one = features[:, :, :1, :1]
        assert torch.allclose(
            class_activation(model, one)[:, :, 0, 0] + model.head.fc.bias, model.forward_head(one), atol=1e-5
        )
    assert cam.shape[:2] == (1, 2)


def test_lesion_head_refines_the_stride():
    net = TrainingNet(create("test_resnet", 1), lesion_stride=8)
    output = net(torch.randn(2, 3, 64, 64))
    assert output.lesion.shape == (2, 8, 8)
    assert output.logits.shape == (2, 1)


def test_lesion_logits_of_a_plain_head_is_a_convolution():
    features, weight, bias = torch.randn(1, 5, 3, 4), torch.randn(1, 5, 1, 1), torch.randn(1)
    expected = (features * weight).sum(1) + bias
    assert torch.allclose(lesion_logits(features, weight, bias), expected, atol=1e-5)


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("architecture", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_a_member_is_a_plain_timm_folder(tmp_path, architecture, half):
    torch.manual_seed(1)
    net = TrainingNet(create(architecture, 1, drop_rate=0.2)).eval()
    save_member(tmp_path, net.backbone, LABEL_SETS["malignancy"], 96, net.lesion_head, half=half)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        ours = load_member(tmp_path)(images)
        theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval().float()(images)
        before = net.backbone(images)
    assert torch.equal(ours, theirs)
    assert torch.allclose(ours, before, atol=0.05 if half else 1e-6)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == architecture
    assert config["label_names"] == ["malignant"]
    assert config["pretrained_cfg"]["input_size"] == [3, 96, 96]
    assert (tmp_path / "lesion_head.safetensors").is_file()


def test_unknown_architecture_names_near_ones():
    with pytest.raises(BusError, match="resnet50"):
        create("resnet5O", 1)


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_member(tmp_path, create("test_resnet", 1), LABEL_SETS["malignancy"], 96)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": "test_efficientnet"}))
    with pytest.raises(BusError, match="not those of test_efficientnet"):
        load_member(tmp_path)


@pytest.mark.parametrize("damage", ["truncate", "text", "missing"])
def test_damaged_weights_are_one_sentence(tmp_path, damage):
    save_member(tmp_path, create("test_resnet", 1), LABEL_SETS["malignancy"], 96)
    path = tmp_path / "model.safetensors"
    if damage == "truncate":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("not weights")
    else:
        path.unlink()
    with pytest.raises(BusError, match=r"model\.safetensors is (damaged|missing)"):
        load_member(tmp_path)


def test_a_folder_without_config_is_one_sentence(tmp_path):
    with pytest.raises(BusError, match=r"no timm config\.json"):
        load_member(tmp_path)


def test_transformers_reads_a_member_as_it_lies(tmp_path):
    from transformers import pipeline

    torch.manual_seed(2)
    net = create("test_resnet", 1, drop_rate=0.2).eval()
    torch.nn.init.normal_(net.get_classifier().weight, std=1.0)
    save_member(tmp_path, net, LABEL_SETS["malignancy"], 96)
    square = phantom(np.random.default_rng(0), "malignant", (96, 96))[0]
    mean, std = (torch.tensor(net.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    batch = ((torch.from_numpy(square).float() / 255).expand(3, 96, 96) - mean) / std
    with torch.inference_mode():
        expected = torch.sigmoid(load_member(tmp_path)(batch[None])).item()
    (answer,) = pipeline("image-classification", model=str(tmp_path), dtype=torch.float32)(
        Image.fromarray(square).convert("RGB")
    )
    assert answer["label"] == "malignant"
    assert answer["score"] == pytest.approx(expected, abs=1e-4)
