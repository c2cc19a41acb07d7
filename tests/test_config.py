import pytest

from bus_hf.config import TrainConfig, from_mapping, from_yaml, to_mapping
from bus_hf.errors import BusError


def test_mapping_round_trip():
    config = TrainConfig(data=("a", "b"), lr=0.5, init_from="x", freeze=("layer1",))
    assert from_mapping(to_mapping(config), "here") == config


def test_unknown_setting_is_named_with_a_near_one():
    with pytest.raises(BusError, match=r"f\.yaml: unknown setting 'backbon'.*'backbone'"):
        from_mapping({"backbon": "x"}, "f.yaml")


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("epochs", "many", "int"),
        ("epochs", True, "int"),
        ("lr", "fast", "float"),
        ("resume", 1, "bool"),
        ("data", 3, "list"),
    ],
)
def test_wrong_type_is_named(key, value, kind):
    with pytest.raises(BusError, match=f"{key} is .*{kind}"):
        from_mapping({key: value}, "f.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [("input_size", 100), ("fold", 5), ("init", "magic"), ("ema_decay", 1.0), ("mixed_precision", "fp8")],
)
def test_value_out_of_range_is_refused(key, value):
    with pytest.raises(BusError, match=str(value)):
        from_mapping({key: value}, "f.yaml")


def test_yaml_scientific_notation_without_a_dot(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("lr: 1e-3\ndata: one\n")
    assert from_yaml(path) == TrainConfig(lr=1e-3, data=("one",))


@pytest.mark.parametrize("text", ["- a list\n", "lr: [unclosed\n"])
def test_broken_yaml_is_one_sentence(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(BusError, match=r"c\.yaml: the config is not"):
        from_yaml(path)


def test_missing_yaml(tmp_path):
    with pytest.raises(BusError, match="cannot be read"):
        from_yaml(tmp_path / "none.yaml")


def test_flags_go_before_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("epochs: 3\nbackbone: resnet50\n")
    assert from_mapping({"epochs": 5}, "command line", from_yaml(path)) == TrainConfig(epochs=5, backbone="resnet50")
