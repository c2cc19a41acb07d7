from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bus_hf.config import TrainConfig, from_mapping
from bus_hf.data.phantoms import write_phantoms
from bus_hf.errors import BusError
from bus_hf.training.held_out import read_boxes
from bus_hf.training.splits import split


@pytest.fixture(scope="module")
def two_sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    write_phantoms(folder / "one", 8, 0)
    write_phantoms(folder / "two", 8, 1)
    return TrainConfig(data=(str(folder / "one"), str(folder / "two")), folds=4)


def names(cases):
    return {case.name for case in cases}


def test_every_image_is_trained_on_or_held_out(two_sources):
    data = split(two_sources)
    train, held_out = names(data.training(1)), names(data.held_out(1))
    assert not train & held_out
    assert len(train | held_out) + data.excluded == 48
    assert names(data.validation(1)) == held_out


def test_folds_set_apart_are_nowhere_and_the_others_as_before(two_sources):
    whole, part = split(two_sources), split(replace(two_sources, fold=1, set_apart=("0",)))
    apart = names(whole.held_out(0))
    assert apart
    assert not apart & names(part.cases)
    assert names(part.held_out(1)) == names(whole.held_out(1))
    assert names(part.training(1)) == names(whole.training(1)) - apart


def test_a_source_that_is_not_trained_on_is_read_whole(two_sources):
    data = split(replace(two_sources, train_sources=("one",)))
    train, held_out = data.training(0), data.held_out(0)
    assert {case.source for case in train} == {"one"}
    assert {case.source for case in held_out} == {"one", "two"}
    assert not names(train) & names(held_out)
    assert names(train) | names(held_out) == names(data.cases)
    assert names(data.validation(0)) < names(held_out)


def test_folds_of_a_file_are_kept_and_only_the_rest_is_assigned(two_sources, tmp_path):
    data = split(two_sources)
    path = tmp_path / "folds.csv"
    rows = [(case.name, (fold + 1) % 4) for case, fold in zip(data.cases, data.folds, strict=True)]
    pd.DataFrame(rows, columns=["name", "fold"]).to_csv(path, index=False)
    moved = split(replace(two_sources, folds_from=str(path), split_seed=5))
    assert names(moved.held_out(1)) == names(data.held_out(0))
    one = [row for row in rows if row[0].startswith("one/")]
    pd.DataFrame(one, columns=["name", "fold"]).to_csv(path, index=False)
    part = split(replace(two_sources, folds_from=str(path)))
    of_one = {name for name, fold in one if fold == 2}
    assert of_one == {name for name in names(part.held_out(2)) if name.startswith("one/")}
    assert {case.source for case in part.held_out(2)} == {"one", "two"}
    held = [(name, 2 if case.label else fold) for case, (name, fold) in zip(data.cases, rows, strict=True)]
    pd.DataFrame(held, columns=["name", "fold"]).to_csv(tmp_path / "benign.csv", index=False)
    with pytest.raises(BusError, match="fold 0 holds no image of the class malignant"):
        split(replace(two_sources, folds_from=str(tmp_path / "benign.csv")))
    # A single group that the file lacks finds a fold.
    pd.DataFrame([row for row in rows if row[0] != one[0][0]], columns=["name", "fold"]).to_csv(path, index=False)
    assert len(split(replace(two_sources, folds_from=str(path))).cases) == len(rows)
    assert names(split(replace(two_sources, folds_from="")).held_out(0)) == names(data.held_out(0))
    with pytest.raises(BusError, match="folds are not 0 to 4"):
        split(replace(two_sources, folds_from=str(path), folds=5))


def test_unknown_sources_and_folds_are_refused(two_sources):
    with pytest.raises(BusError, match=r"no source 'three'.*one, two"):
        split(replace(two_sources, train_sources=("three",)))
    for folds in (("0",), ("7",), ("x",)):
        with pytest.raises(BusError, match="set_apart"):
            from_mapping({"fold": 0, "set_apart": folds}, "here")


def test_boxes_of_another_member(two_sources, tmp_path):
    held_out = split(two_sources).held_out(0)[:2]
    rows = [
        {"name": case.name, "member": member, "view": view, "box_x": x, "box_y": 2.0, "box_w": 3.0, "box_h": 4.0}
        for member, x in (("light", 1.0), ("other", 9.0))
        for case in held_out
        for view in ("whole", "flip")
    ]
    frame = pd.DataFrame(rows)
    frame.loc[frame["name"] == held_out[1].name, ["box_x", "box_y", "box_w", "box_h"]] = np.nan
    frame.to_parquet(tmp_path / "oof.parquet")
    boxes = read_boxes(tmp_path / "oof.parquet", held_out)
    assert boxes == {held_out[0].name: (1.0, 2.0, 3.0, 4.0), held_out[1].name: None}
    frame[frame["name"] == held_out[0].name].to_parquet(tmp_path / "part.parquet")
    with pytest.raises(BusError, match="1 of 2 held-out images have no entry"):
        read_boxes(tmp_path / "part.parquet", held_out)
    with pytest.raises(BusError, match="no out-of-fold logits"):
        read_boxes(tmp_path / "none.parquet", held_out)


def _moved(folder, split_name):
    """Phantoms under training_set/ and testing_set/, or under one of them."""
    write_phantoms(folder / split_name, 6, 0)
    return TrainConfig(data=(str(folder),), folds=3)


def test_a_test_split_alone_is_one_sentence(tmp_path):
    config = _moved(tmp_path / "data", "testing_set")
    with pytest.raises(BusError, match="only images of the split test, and none to train on"):
        split(config)


def test_a_test_split_beside_the_training_is_left_aside_and_told(tmp_path):
    config = _moved(tmp_path / "data", "training_set")
    write_phantoms(tmp_path / "data" / "testing_set", 2, 5)
    data = split(config)
    assert len(data.cases) + data.excluded == 18
    assert data.notes == ("6 images of the split test are neither trained on nor held out",)


@pytest.mark.parametrize(
    ("label_set", "kinds", "word"),
    [
        ("malignancy", ("malignant",), "class malignant has 0 groups"),
        ("malignancy", ("benign", "normal"), "class benign has 0 groups"),
        ("busi3", ("normal",), "class normal has 0 groups"),
        ("busi3", ("malignant",), "class malignant has 0 groups"),
    ],
)
def test_a_class_without_images_is_said_in_every_label_set(tmp_path, label_set, kinds, word):
    import shutil

    write_phantoms(tmp_path / "data", 6, 0)
    for kind in kinds:
        shutil.rmtree(tmp_path / "data" / kind)
    with pytest.raises(BusError, match=word):
        split(TrainConfig(data=(str(tmp_path / "data"),), folds=3, label_set=label_set))


def test_nothing_to_train_on_is_said(two_sources, tmp_path):
    with pytest.raises(BusError, match="no image to train on of the class benign and malignant"):
        split(replace(two_sources, fold=0, set_apart=("1", "2", "3")))
    data = split(two_sources)
    # One source alone holds every malignant image to train on: the other's lie in the fold that is held out.
    rows = [
        (case.name, 0 if case.label and case.source == "one" else 1 + fold % 3 if case.source == "one" else fold)
        for case, fold in zip(data.cases, data.folds, strict=True)
    ]
    pd.DataFrame(rows, columns=["name", "fold"]).to_csv(tmp_path / "f.csv", index=False)
    config = replace(two_sources, folds_from=str(tmp_path / "f.csv"), train_sources=("one",))
    with pytest.raises(BusError, match="no image to train on of the class malignant"):
        split(config)


def test_an_empty_fold_is_said(two_sources, tmp_path):
    data = split(two_sources)
    known = [("elsewhere", 0), *((case.name, 1 + n % 3) for n, case in enumerate(data.cases))]
    pd.DataFrame(known, columns=["name", "fold"]).to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(BusError, match="fold 0 holds no image of the class benign and malignant"):
        split(replace(two_sources, folds_from=str(tmp_path / "f.csv")))
