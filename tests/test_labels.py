import pytest

from bus_hf.errors import BusError
from bus_hf.labels import LABEL_SETS, birads_category, histology_class, label_set


def test_one_logit_for_malignancy_and_one_a_class_else():
    assert [LABEL_SETS[name].num_logits for name in ("malignancy", "busi3", "histology")] == [1, 3, 4]


def test_the_malignant_class_is_last_in_every_set():
    assert [labels.classes[labels.cancer] for labels in LABEL_SETS.values()] == ["malignant", "malignant", "carcinoma"]


def test_unknown_set_lists_the_known_ones():
    with pytest.raises(BusError, match="malignancy, busi3, histology"):
        label_set("birads")


@pytest.mark.parametrize(
    ("entry", "pathology", "expected"),
    [
        ("Cyst", "benign", "cyst"),
        ("fibroadenoma ", "benign", "fibroadenoma"),
        ("lipoma", "benign", "other benign"),
        ("phyllodes tumor", "benign", "other benign"),
        ("phyllodes tumor", "malignant", None),
        ("lymphoma", "malignant", None),
        ("invasive ductal carcinoma", "malignant", "carcinoma"),
    ],
)
def test_histology_class(entry, pathology, expected):
    assert histology_class(entry, pathology) == expected


def test_unknown_benign_histology_is_an_error():
    with pytest.raises(KeyError):
        histology_class("something new", "benign")


@pytest.mark.parametrize(
    ("text", "category"), [("4", 4), ("4a", 4), (" 5", 5), ("2", 2), (None, 0), ("", 0), ("n/a", 0)]
)
def test_birads_category(text, category):
    assert birads_category(text) == category
