import csv
import logging
import os
from collections import Counter

import cv2
import datasets
import numpy as np
import pytest

from bus_hf.data import dataset as ds
from bus_hf.data import layouts, tables
from bus_hf.data.dataset import BusDataset, cases, load
from bus_hf.errors import BusError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def notes(caplog):
    caplog.set_level(logging.WARNING, logger="bus_hf")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("bus_hf")]


def _scan(seed, shape=(60, 80)):
    """A grey picture with the grain of an ultrasound image."""
    return np.random.default_rng(seed).gamma(2.0, 30.0, shape).clip(0, 255).astype(np.uint8)


def _write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def _mask(shape=(60, 80), top=10, left=20, height=20, width=30):
    out = np.zeros(shape, np.uint8)
    out[top : top + height, left : left + width] = 255
    return out


def _busi(root, counts=(("benign", 2), ("malignant", 2), ("normal", 1)), seed=0):
    for index, (name, count) in enumerate(counts):
        for number in range(1, count + 1):
            _write(root / name / f"{name} ({number}).png", _scan(seed + 10 * index + number))
            mask = np.zeros((60, 80), np.uint8) if name == "normal" else _mask(left=number)
            _write(root / name / f"{name} ({number})_mask.png", mask)
    return root


BUSBRA = [
    ("bus_0001-l", "1", "fibroadenoma", "benign", "3"),
    ("bus_0001-r", "1", "cyst", "benign", "2"),
    ("bus_0002-l", "2", "invasive ductal carcinoma", "malignant", "5"),
    ("bus_0003-s", "3", "lymphoma", "malignant", "5"),
]


def _busbra(root, rows=BUSBRA):
    root.mkdir(parents=True, exist_ok=True)
    with (root / "bus_data.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Side"])
        table.writerows([*row, "GE Logiq 7", "left"] for row in rows)
    with (root / "5-fold-cv.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ID", "Pathology", "kFold"])
        table.writerows([row[0], row[3], 1 + index] for index, row in enumerate(rows[:3]))
    for index, (ident, *_) in enumerate(rows):
        _write(root / "Images" / f"{ident}.png", _scan(100 + index))
        _write(root / "Masks" / f"{ident.replace('bus_', 'mask_')}.png", _mask())
    return root


def _lesion(case):
    assert case.mask is not None
    return case.mask


def _labels(part):
    names = part.features["label"].names
    return {name: names[label] for name, label in zip(part["name"], part["label"], strict=True)}


# Layouts


def test_class_folders_are_read_with_their_masks(tmp_path, notes):
    part = load(_busi(tmp_path / "BUSI"))["train"]
    assert part.features == tables.features("malignancy")
    assert _labels(part) == {
        "busi/benign/benign (1)": "benign",
        "busi/benign/benign (2)": "benign",
        "busi/malignant/malignant (1)": "malignant",
        "busi/malignant/malignant (2)": "malignant",
        "busi/normal/normal (1)": "benign",
    }
    assert part["pathology"][:] == ["benign"] * 2 + ["malignant"] * 2 + ["normal"]
    assert part["group"][:] == part["name"][:]
    assert set(part["source"]) == {"busi"}
    assert part["patient"][:] == part["birads"][:] == part["histology"][:] == part["device"][:] == [None] * 5
    assert not notes()
    found = cases(part)
    assert [case.label for case in found] == [0, 0, 1, 1, 0]
    np.testing.assert_array_equal(found[1].image, _scan(2))
    np.testing.assert_array_equal(found[1].mask, _mask(left=2) > 0)
    assert _lesion(found[1]).dtype == bool
    assert not _lesion(found[4]).any()


def test_the_seed_layout_has_two_splits(tmp_path):
    _busi(tmp_path / "data" / "training_set", (("benign", 3), ("malignant", 2)))
    _busi(tmp_path / "data" / "testing_set", (("benign", 1), ("malignant", 1)), seed=50)
    found = load(tmp_path / "data")
    assert {split: len(part) for split, part in found.items()} == {"train": 5, "test": 2}
    assert found["test"]["name"][:] == [
        "data/testing_set/benign/benign (1)",
        "data/testing_set/malignant/malignant (1)",
    ]


def test_the_seed_layout_without_a_testing_set_has_one_split(tmp_path):
    _busi(tmp_path / "data" / "training_set", (("benign", 1), ("malignant", 1)))
    assert list(load(tmp_path / "data")) == ["train"]


def test_the_kaggle_folder_is_found_in_the_folder_it_is_unpacked_in(tmp_path):
    _busi(tmp_path / "download" / "Dataset_BUSI_with_GT")
    assert set(load(tmp_path / "download")["train"]["source"]) == {"busi"}


def test_class_folders_may_be_capitalised_and_hold_jpeg(tmp_path):
    _write(tmp_path / "x" / "Benign" / "a.JPG", _scan(1))
    _write(tmp_path / "x" / "Benign" / "a_mask.png", _mask())
    _write(tmp_path / "x" / "Malignant" / "b.bmp", _scan(2))
    part = load(tmp_path / "x")["train"]
    assert _labels(part) == {"x/Benign/a": "benign", "x/Malignant/b": "malignant"}
    assert [case.mask is None for case in cases(part)] == [False, True]


def test_busbra_brings_patients_histology_and_official_folds(tmp_path, notes):
    part = load(_busbra(tmp_path / "bra"))["train"]
    assert part["name"][:] == [f"busbra/{row[0]}" for row in BUSBRA]
    assert part["group"][:] == ["busbra/case-1", "busbra/case-1", "busbra/case-2", "busbra/case-3"]
    assert part["patient"][:] == ["1", "1", "2", "3"]
    assert part["birads"][:] == ["3", "2", "5", "5"]
    assert part["histology"][2] == "invasive ductal carcinoma"
    assert part["device"][0] == "GE Logiq 7"
    assert part["fold"][:] == [1, 2, 3, None]
    assert part["label"][:] == [0, 0, 1, 1]
    assert _lesion(cases(part)[0]).sum() == 600
    assert not notes()


def test_several_roots_are_joined(tmp_path):
    part = load(_busi(tmp_path / "busi"), _busbra(tmp_path / "bra"))["train"]
    assert part["source"][:] == ["busi"] * 5 + ["busbra"] * 4
    assert part.features == tables.features("malignancy")
    below = load(tmp_path)["train"]
    assert sorted(below["name"]) == sorted(part["name"])


def test_two_folders_of_one_name_keep_their_images_apart(tmp_path):
    part = load(_busi(tmp_path / "a" / "scans"), _busi(tmp_path / "b" / "scans", seed=50))["train"]
    assert set(part["source"]) == {"scans", "scans-2"}
    assert len(set(part["name"])) == 10


def test_the_builder_has_a_config_for_each_layout(tmp_path):
    assert list(BusDataset.builder_configs) == ["busi", "busbra", "joined"]
    for name, root in (("busi", _busi(tmp_path / "busi")), ("busbra", _busbra(tmp_path / "bra"))):
        builder = BusDataset(config_name=name, data_dir=str(root))
        builder.download_and_prepare()
        assert set(builder.as_dataset(split="train")["source"]) == {name}


def test_a_layout_can_be_demanded(tmp_path):
    with pytest.raises(BusError, match=r"bus_data.csv: the table can't be read"):
        load(_busi(tmp_path / "busi"), layout="busbra")
    with pytest.raises(BusError, match="no layout 'coco'; choose auto or one of busi, busbra"):
        load(tmp_path / "busi", layout="coco")


def test_images_come_in_the_order_of_their_numbers(tmp_path):
    part = load(_busi(tmp_path / "busi", (("benign", 11),)))["train"]
    assert part["name"][:] == [f"busi/benign/benign ({number})" for number in range(1, 12)]


# Masks


def test_several_masks_are_united(tmp_path):
    root = tmp_path / "busi"
    _write(root / "benign" / "benign (1).png", _scan(1))
    for ending, left in (("_mask", 0), ("_mask_1", 30), ("_mask_2", 50)):
        _write(root / "benign" / f"benign (1){ending}.png", _mask(left=left, width=10))
    (case,) = cases(load(root)["train"])
    np.testing.assert_array_equal(np.flatnonzero(_lesion(case).any(0)), [*range(10), *range(30, 40), *range(50, 60)])


def test_a_mask_of_another_size_is_resized_and_said(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    _write(
        root / "benign" / "benign (2)_mask.png", cv2.resize(_mask(left=2), (40, 30), interpolation=cv2.INTER_NEAREST)
    )
    case = cases(load(root)["train"])[1]
    np.testing.assert_array_equal(case.mask, _mask(left=2) > 0)
    (note,) = notes()
    assert "benign (2)_mask.png: the mask is 40 x 30 and its image 80 x 60" in note


def test_images_without_masks_are_kept_and_said_once(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    for name in ("benign/benign (1)", "malignant/malignant (2)", "normal/normal (1)"):
        (root / f"{name}_mask.png").unlink()
    part = load(root)["train"]
    assert [row["mask"] is None for row in part] == [True, False, False, True, True]
    assert [case.mask is None for case in cases(part)] == [True, False, False, True, True]
    (note,) = notes()
    assert "2 images have no mask" in note
    assert "benign/benign (1).png, malignant/malignant (2).png" in note


def test_a_mask_without_its_image_is_ignored_and_said(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    (root / "benign" / "benign (1).png").unlink()
    assert "busi/benign/benign (1)" not in load(root)["train"]["name"][:]
    (note,) = notes()
    assert "1 masks have no image and were ignored (benign/benign (1)_mask.png); add the image" in note


def test_an_unreadable_mask_leaves_its_image(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    (root / "benign" / "benign (1)_mask.png").write_bytes(b"not a mask")
    assert cases(load(root)["train"])[0].mask is None
    (note,) = notes()
    assert "benign (1)_mask.png" in note
    assert note.endswith("The image is kept without this mask.")


def test_an_all_black_mask_teaches_no_lesion_only_where_there_is_none(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    _write(root / "malignant" / "malignant (1)_mask.png", np.zeros((60, 80), np.uint8))
    found = {case.name: case for case in cases(load(root)["train"])}
    assert found["busi/malignant/malignant (1)"].mask is None
    assert not _lesion(found["busi/normal/normal (1)"]).any()
    (note,) = notes()
    assert "malignant (1)_mask.png: the mask is all black" in note


def test_a_black_mask_in_a_table_is_no_mask_either(tmp_path):
    part = load(_busi(tmp_path / "busi"))["train"].cast_column("mask", datasets.Image(decode=False))
    row = part[2] | {"mask": {"bytes": cv2.imencode(".png", np.zeros((60, 80), np.uint8))[1].tobytes(), "path": None}}
    row["image"] = {"bytes": cv2.imencode(".png", _scan(1))[1].tobytes(), "path": None}
    assert ds.case(row).mask is None
    assert ds.case(row | {"pathology": "normal"}).mask is not None


# What is wrong with a folder


def test_stray_files_are_ignored_with_one_warning(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    (root / "benign" / "Thumbs.db").write_bytes(b"x")
    (root / "benign" / "notes.txt").write_text("x")
    (root / "README.md").write_text("what this is")
    (root / "benign" / "gone.png").symlink_to(root / "nowhere.png")
    _write(root / "other" / "lump.png", _scan(1))
    assert len(load(root)["train"]) == 5
    stray, broken = notes()
    assert "2 files that are no images of the set were ignored (other, benign/notes.txt)" in stray
    assert "1 links that lead nowhere, or files that cannot be read, were left out (benign/gone.png); mend" in broken


def test_an_unreadable_image_is_left_out_and_named(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    (root / "benign" / "benign (2).png").write_bytes(b"")
    assert "busi/benign/benign (2)" not in load(root)["train"]["name"][:]
    (note,) = notes()
    assert "benign (2).png" in note
    assert note.endswith("It is left out.")


def test_warnings_come_again_from_the_cache(tmp_path, notes, caplog):
    root = _busi(tmp_path / "busi")
    (root / "benign" / "benign (2).png").write_bytes(b"")
    load(root)
    first = notes()
    caplog.clear()
    load(root)
    assert notes() == first != []


def test_a_name_that_is_there_twice_is_kept_once(tmp_path, notes):
    root = _busi(tmp_path / "busi")
    _write(root / "benign" / "benign (1).jpg", _scan(90))
    assert len(load(root)["train"]) == 5
    (note,) = notes()
    assert "1 images have the name of another one" in note


def test_only_unreadable_images_are_an_error(tmp_path):
    (tmp_path / "x" / "benign").mkdir(parents=True)
    (tmp_path / "x" / "benign" / "a.png").write_bytes(b"")
    with pytest.raises(BusError, match="none of the 1 images can be read"):
        load(tmp_path / "x")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: root.mkdir(), "holds no images in a known layout; give folders named benign"),
        (lambda root: _write(root / "a.png", _scan(1)), "holds no images in a known layout"),
        (lambda root: (root / "benign").mkdir(parents=True), "no image in the busi layout; check that this is the fo"),
        (lambda root: _write(root / "benign" / "a_mask.png", _mask()), "no image in the busi layout"),
        (lambda root: None, "there is no such folder; check the path"),
    ],
)
def test_a_folder_with_nothing_usable_is_an_error_that_names_it(tmp_path, make, sentence):
    make(tmp_path / "nothing")
    with pytest.raises(BusError, match=sentence) as caught:
        load(tmp_path / "nothing")
    assert caught.value.where == str(tmp_path / "nothing")


def test_no_root_and_a_root_given_twice_are_errors(tmp_path):
    with pytest.raises(BusError, match="no data is given"):
        load()
    with pytest.raises(BusError, match="given twice"):
        load(_busi(tmp_path / "busi"), tmp_path / "busi")


def test_busbra_rows_without_image_and_files_without_row_are_said(tmp_path, notes):
    root = _busbra(tmp_path / "bra")
    (root / "Images" / "bus_0001-l.png").unlink()
    (root / "Masks" / "mask_0002-l.png").unlink()
    _write(root / "Images" / "bus_9999-l.png", _scan(1))
    assert load(root)["train"]["name"][:] == ["busbra/bus_0001-r", "busbra/bus_0002-l", "busbra/bus_0003-s"]
    said = "\n".join(notes())
    assert len(notes()) == 4
    assert "1 rows have no image in Images/ (bus_0001-l)" in said
    assert "1 masks have no image and were ignored (Masks/mask_0001-l.png)" in said
    assert "1 images have no mask and are kept without one (Images/bus_0002-l.png)" in said
    assert "1 files that are no images of the set were ignored (Images/bus_9999-l.png)" in said


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("bus_0001-l", "1", "cyst", "unsure", "3")], "row bus_0001-l has the pathology 'unsure'"),
        ([BUSBRA[0], BUSBRA[0]], "row bus_0001-l stands there twice"),
    ],
)
def test_a_wrong_busbra_row_is_named(tmp_path, rows, sentence):
    with pytest.raises(BusError, match=sentence):
        load(_busbra(tmp_path / "bra", rows))


def test_a_busbra_table_without_a_column_is_an_error(tmp_path):
    root = _busbra(tmp_path / "bra")
    (root / "bus_data.csv").write_text("ID,Pathology\nbus_0001-l,benign\n")
    with pytest.raises(BusError, match=r"bus_data.csv: the table has no column Case"):
        load(root)


# Label sets


def test_busi3_tells_normals_apart_and_leaves_busbra_out(tmp_path, notes):
    part = load(_busi(tmp_path / "busi"), _busbra(tmp_path / "bra"), label_set="busi3")["train"]
    assert part.features["label"].names == ["normal", "benign", "malignant"]
    assert sorted(_labels(part).values()) == ["benign", "benign", "malignant", "malignant", "normal"]
    assert notes() == ["busbra: 4 images have no class in the label set busi3; they are left out."]


def test_histology_reads_busbra_and_says_what_is_left_out(tmp_path, notes):
    part = load(_busi(tmp_path / "busi"), _busbra(tmp_path / "bra"), label_set="histology")["train"]
    assert _labels(part) == {
        "busbra/bus_0001-l": "fibroadenoma",
        "busbra/bus_0001-r": "cyst",
        "busbra/bus_0002-l": "carcinoma",
    }
    assert notes() == [
        "busbra: 1 images have no class in the label set histology; they are left out.",
        "busi: 5 images have no class in the label set histology; they are left out.",
    ]


def test_unknown_histologies_are_one_error_that_lists_them(tmp_path):
    rows = [(f"bus_000{i}-l", str(i), entry, "benign", "2") for i, entry in enumerate(("zebra", "cyst", "abscess?"))]
    with pytest.raises(BusError, match=r"does not know abscess\?, zebra"):
        load(_busbra(tmp_path / "bra", rows), label_set="histology")


def test_a_label_set_without_any_row_is_an_error(tmp_path):
    with pytest.raises(BusError, match="busi: no image has a class of the label set histology"):
        load(_busi(tmp_path / "busi"), label_set="histology")
    with pytest.raises(BusError, match="there is no label set 'tnm'"):
        load(tmp_path / "busi", label_set="tnm")


# Cache


def test_the_cache_is_used_until_a_file_changes(tmp_path, monkeypatch):
    root = _busi(tmp_path / "busi")
    load(root)
    read = []
    whole = ds.BusDataset._generate_examples

    def counted(self, rows):
        read.append(1)
        return whole(self, rows)

    monkeypatch.setattr(BusDataset, "_generate_examples", counted)
    load(root)
    assert not read
    _write(root / "benign" / "benign (3).png", _scan(70))
    assert len(load(root)["train"]) == 6
    assert len(read) == 1


def test_a_file_written_anew_is_read_anew(tmp_path):
    root = _busi(tmp_path / "busi")
    load(root)
    path = _write(root / "benign" / "benign (1)_mask.png", _mask(left=40))
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(cases(load(root)["train"])[0].mask, _mask(left=40) > 0)


def test_nothing_is_written_into_the_data(tmp_path):
    root = _busi(tmp_path / "busi")
    before = sorted(root.rglob("*"))
    cases(load(root)["train"])
    assert sorted(root.rglob("*")) == before


# Parquet and the Hub


def _same(first, second):
    assert first.features == second.features
    assert first.remove_columns(["image", "mask"])[:] == second.remove_columns(["image", "mask"])[:]
    for one, other in zip(cases(first), cases(second), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert (one.mask is None) == (other.mask is None)
        if one.mask is not None:
            np.testing.assert_array_equal(one.mask, other.mask)


def test_parquet_keeps_rows_and_features_without_the_folder(tmp_path):
    root = _busi(tmp_path / "busi")
    (root / "benign" / "benign (1)_mask.png").unlink()
    part = load(root, _busbra(tmp_path / "bra"))["train"]
    out = tmp_path / "tables" / "data"
    out.mkdir(parents=True)
    part.to_parquet(out / "train-00000-of-00001.parquet")
    expected = datasets.load_dataset("parquet", data_files=str(out / "train-00000-of-00001.parquet"))["train"]
    for path in root.rglob("*.png"):
        path.rename(path.with_suffix(".moved"))
    _same(load(tmp_path / "tables")["train"], expected)
    _same(load(out / "train-00000-of-00001.parquet")["train"], expected)
    assert str(root) not in (out / "train-00000-of-00001.parquet").read_bytes().decode("latin1")
    for path in root.rglob("*.moved"):
        path.rename(path.with_suffix(".png"))
    _same(part, expected)


def test_parquet_takes_another_label_set_and_joins_folders(tmp_path, notes):
    folder = tmp_path / "tables"
    folder.mkdir()
    load(_busi(tmp_path / "busi"))["train"].to_parquet(folder / "train.parquet")
    part = load(folder, label_set="busi3")["train"]
    assert part.features == tables.features("busi3")
    assert part["label"][:] == [1, 1, 2, 2, 0]
    both = load(folder, _busbra(tmp_path / "bra"))["train"]
    assert sorted(set(both["source"])) == ["busbra", "busi"]
    with pytest.raises(BusError, match="5 images are there twice, busi/benign"):
        load(folder, tmp_path / "busi")


def test_rows_of_a_table_without_a_class_are_left_out_and_said(tmp_path, notes):
    tables = tmp_path / "tables"
    tables.mkdir()
    load(_busi(tmp_path / "busi"), _busbra(tmp_path / "bra"))["train"].to_parquet(tables / "train.parquet")
    part = load(tables, label_set="histology")["train"]
    assert _labels(part) == {
        "busbra/bus_0001-l": "fibroadenoma",
        "busbra/bus_0001-r": "cyst",
        "busbra/bus_0002-l": "carcinoma",
    }
    assert len(notes()) == 2


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "train.parquet").write_bytes(b"not parquet")
    with pytest.raises(BusError, match=r"tables: the Parquet files can't be read; write them anew"):
        load(tmp_path / "tables")


def test_a_hub_id_is_loaded_by_datasets(tmp_path, monkeypatch):
    hub = datasets.DatasetDict({"train": load(_busi(tmp_path / "busi"))["train"]})
    asked = []

    def answer(name):
        asked.append(name)
        return hub

    monkeypatch.setattr(datasets, "load_dataset", answer)
    _same(load("someone/bus")["train"], hub["train"])
    assert asked == ["someone/bus"]


def test_a_plain_hub_table_of_images_and_classes_is_adopted(monkeypatch):
    columns = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["Malignant", "Benign"])}
    )
    rows = {"image": [_scan(1), _scan(2), _scan(3)], "label": [0, 1, 1]}
    table = datasets.Dataset.from_dict(rows, features=columns, split="train")
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": table}))
    part = load("someone/breasts")["train"]
    assert part.features == tables.features("malignancy")
    assert part["label"][:] == [1, 0, 0]
    assert part["pathology"][:] == ["malignant", "benign", "benign"]
    assert part["name"][:] == part["group"][:] == [f"breasts/train-{row}" for row in range(3)]
    assert cases(part)[0].mask is None
    np.testing.assert_array_equal(cases(part)[2].image, _scan(3))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"text": ["a"]}, "the table has no image column"),
        ({"image": [_scan(1)], "pathology": ["unsure"]}, "rows of the class unsure"),
        ({"image": [_scan(1)]}, r"says no class; its columns are image .*; give a column pathology or label"),
    ],
)
def test_a_hub_table_of_something_else_is_refused(monkeypatch, columns, sentence):
    features = datasets.Features(
        {key: datasets.Image() if key == "image" else datasets.Value("string") for key in columns}
    )
    table = datasets.Dataset.from_dict(columns, features=features, split="train")
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": table}))
    with pytest.raises(BusError, match=sentence):
        load("someone/breasts")


def test_a_hub_id_out_of_reach_is_one_sentence(monkeypatch):
    def fail(name):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(BusError, match="someone/bus: it is neither a folder here nor a data set that can be reached"):
        load("someone/bus")


def test_a_path_that_is_missing_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: pytest.fail("asked the Hub"))
    for root in ("./data/busi", "/data/busi", "../shared/data/busi", "a/b/c"):
        with pytest.raises(BusError, match="there is no such folder"):
            load(root)


# The real data


def test_the_shared_data_are_listed_whole_and_without_a_complaint(shared_data):
    listing = layouts.scan(layouts.find_roots(shared_data))
    assert Counter((record.source, record.pathology) for record in listing.records) == {
        ("busi", "benign"): 350,
        ("busi", "malignant"): 168,
        ("busi", "normal"): 107,
        ("busbra", "benign"): 1014,
        ("busbra", "malignant"): 486,
    }
    assert listing.notes == ()
    assert len({record.name for record in listing.records}) == 2125
    assert all(record.masks for record in listing.records)
    assert sum(len(record.masks) > 1 for record in listing.records if record.source == "busi") == 12
    patients = {record.group for record in listing.records if record.source == "busbra"}
    assert len(patients) < 1500
    assert {record.fold for record in listing.records if record.source == "busbra"} == {1, 2, 3, 4, 5}


def test_the_normals_of_busi_are_read_whole(shared_data, tmp_path, notes):
    (tmp_path / "busi").mkdir()
    (tmp_path / "busi" / "normal").symlink_to(shared_data / "busi" / "normal")
    found = cases(load(tmp_path / "busi", label_set="busi3")["train"])
    assert len(found) == 107
    assert {case.label for case in found} == {0}
    assert not any(_lesion(case).any() for case in found)
    assert not notes()
