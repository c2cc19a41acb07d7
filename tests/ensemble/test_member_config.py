"""What serving takes from a member's `config.json`, and that whatever is wrong there is one sentence."""

import json
import re
import shutil

import pytest

from bus_hf.ensemble.member_config import member_config
from bus_hf.errors import BusError


@pytest.fixture
def folder(tiny_ensemble, tmp_path):
    """A copy of the tiny ensemble that may be damaged."""
    shutil.copytree(tiny_ensemble, tmp_path / "ensemble")
    return tmp_path / "ensemble"


def test_the_config_of_a_member_is_read_without_its_weights(folder):
    config = member_config(folder / "test_efficientnet")
    assert config.architecture == "test_efficientnet"
    assert config.num_logits == 1
    assert config.label_names == ("malignant",)
    assert config.input_size == 64
    assert len(config.mean) == len(config.std) == 3


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("architecture",), 7, "architecture is 7"),
        (("num_classes",), ..., "the key 'num_classes' is missing"),
        (("pretrained_cfg",), ..., "the key 'pretrained_cfg' is missing"),
        (("pretrained_cfg", "mean"), [0.5], "mean"),
        (("pretrained_cfg", "std"), [0.5, 0.5, 0], "pretrained_cfg.std[2] is 0"),
        (("pretrained_cfg", "input_size"), [3, 64, 96], "3x64x96"),
        (("pretrained_cfg", "input_size"), [1, 64, 64], "input_size[0] is 1"),
        (("pretrained_cfg", "input_size"), [3, 1000000, 1000000], "1000000"),
        (("pretrained_cfg", "input_size"), [3, "a", "a"], "input_size"),
        (("model_args",), {"drop_rate": 1.5}, "model_args.drop_rate is 1.5"),
        (("model_args",), {"global_pool": "max"}, 'model_args.global_pool is "max"'),
        (("pretrained_cfg", "mean"), [0.5, 0.5, 123.0], "pretrained_cfg.mean[2] is 123.0"),
        (("architecture",), "../resnet", 'architecture is "../resnet"'),
        (("label_names",), ..., "the key 'label_names' is missing"),
        (("model_args",), {"checkpoint_path": "x.pth"}, "checkpoint_path"),
        (("model_args",), {"num_classes": 1, "features_only": True}, "features_only"),
        (("model_args",), 7, "model_args is 7"),
        (("label_names",), "malignant", "label_names"),
    ],
)
def test_a_wrong_config_is_one_sentence(folder, path, value, message):
    file = folder / "test_resnet" / "config.json"
    data = json.loads(file.read_text())
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    file.write_text(json.dumps(data))
    with pytest.raises(BusError, match=re.escape(message)) as caught:
        member_config(folder / "test_resnet")
    assert "config.json" in str(caught.value)
