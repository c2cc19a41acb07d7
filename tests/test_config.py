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


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("mixed_precision: no", "mixed_precision", "no"),
        ("mixed_precision: off", "mixed_precision", "no"),
        ("mixed_precision: 'no'", "mixed_precision", "no"),
        ("epochs: '14'", "epochs", 14),
        ("lr: '0.5'", "lr", 0.5),
        ("lr: 1", "lr", 1.0),
        ("resume: off", "resume", False),
        ("streaming: 'Yes'", "streaming", True),
        ("set_apart: [1, 2]", "set_apart", ("1", "2")),
    ],
)
def test_what_yaml_reads_as_another_type_is_taken_for_what_it_says(tmp_path, line, key, value):
    path = tmp_path / "c.yaml"
    path.write_text(line + "\n")
    assert getattr(from_yaml(path), key) == value


@pytest.mark.parametrize(
    "line",
    ["mixed_precision: yes", "backbone: on", "output: no", "teacher: no", "init: off", "trackers: no", "freeze: [no]"],
)
def test_a_truth_value_where_a_text_belongs_is_told_as_yaml_means_it(tmp_path, line):
    path = tmp_path / "c.yaml"
    path.write_text(line + "\n")
    with pytest.raises(BusError, match=f"{line.split(':')[0]} is .*"):
        from_yaml(path)


def test_the_sentence_on_truth_values_names_the_quotes(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("output: no\n")
    with pytest.raises(BusError, match=r"c\.yaml: output is False; .*YAML reads yes, no, on and off .* quotes"):
        from_yaml(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "1.5"),
        ("epochs", 1.5),
        ("lr", "nan"),
        ("weight_decay", float("nan")),
        ("clip_grad", float("inf")),
        ("drop_rate", 1.0),
        ("lesion_stride", 0),
        ("seed", -1),
        ("seed", 2**32),
        ("backbone", 50),
        ("resume", "maybe"),
    ],
)
def test_values_that_would_fail_later_are_refused(key, value):
    with pytest.raises(BusError, match=f"{key} is"):
        from_mapping({key: value}, "f.yaml")


def test_a_config_that_is_no_text_is_one_sentence(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BusError, match="not text in UTF-8"):
        from_yaml(path)
