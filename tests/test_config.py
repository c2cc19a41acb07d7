import dataclasses

import pytest

from bus_hf.config import TrainConfig, from_mapping, from_yaml, settings_by_group, to_mapping
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
        ("epochs", "many", "a whole number"),
        ("epochs", True, "a number"),
        ("lr", "fast", "a finite number"),
        ("resume", 1, "true or false"),
        ("data", 3, "a list of texts"),
        ("backbone", 50, "a text"),
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


@pytest.mark.parametrize(
    ("key", "value", "bounds"),
    [
        ("lr", 50, "lr is 50; give a value from 0 to 10"),
        ("epoch_images", -1, "epoch_images is -1; give a value from 0 to 10,000,000"),
        ("ema_decay", 1.0, "ema_decay is 1.0; give a value from 0 to 0.999999"),
        ("input_size", 100, "input_size is 100; give a multiple of 32 from 32 to 1,024"),
        ("input_size", 1056, "input_size is 1056; give a value from 32 to 1,024"),
        ("init", "magic", "init is \"magic\"; give 'auto', 'timm', 'package' or 'random'"),
        ("fold", 5, "fold 5 of 5 does not exist; count folds from 0 to 4"),
        ("set_apart", ["0"], "set_apart is 0; give folds from 0 to 4 other than fold 0"),
        ("teacher", "x", "teacher, teacher_weight and feature_weight do not go together"),
    ],
)
def test_a_refused_value_is_one_sentence_with_its_bounds(key, value, bounds):
    with pytest.raises(BusError) as caught:
        from_mapping({key: value}, "f.yaml")
    assert str(caught.value).startswith(f"f.yaml: {bounds}")
    assert "\n" not in str(caught.value)


def test_every_number_has_bounds():
    # A number without bounds is a value that fails later.
    for group in settings_by_group().values():
        for name, setting in group.items():
            if setting.annotation in (int, float):
                assert {"Ge", "Le"} <= {type(bound).__name__ for bound in setting.metadata}, name


def test_a_config_cannot_be_made_wrong_or_changed():
    with pytest.raises(ValueError, match="lr"):
        TrainConfig(lr=-1)
    with pytest.raises(ValueError, match="fold 7"):
        dataclasses.replace(TrainConfig(), fold=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0


def test_a_doubled_setting_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("lr: 0.1\nepochs: 3\nlr: 0.2\n")
    with pytest.raises(BusError, match=r"c\.yaml: the key 'lr' stands twice"):
        from_yaml(path)


def test_an_empty_text_takes_back_the_folds_of_a_config():
    base = TrainConfig(folds_from="folds.csv")
    assert from_mapping({"folds_from": ""}, "command line", base).folds_from is None


def test_yaml_scientific_notation_without_a_dot(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("lr: 1e-3\ndata: one\n")
    assert from_yaml(path) == TrainConfig(lr=1e-3, data=("one",))


@pytest.mark.parametrize("text", ["- a list\n", "lr: [unclosed\n", "[" * 5_000])
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
    with pytest.raises(BusError, match=r"c\.yaml: output is false; give a text in quotes, .*YAML reads"):
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
