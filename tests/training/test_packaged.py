import hashlib

import pytest
import torch
from safetensors.torch import save_file

from bus_hf.errors import BusError
from bus_hf.models import create
from bus_hf.training.packaged import PACKAGED, PackagedWeights, copy_by_position, packaged_file, packaged_tensors


@pytest.fixture(autouse=True)
def separate_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))


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

    monkeypatch.setattr("bus_hf.training.packaged.save_file", meanwhile)
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
