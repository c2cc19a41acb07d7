import os

import cv2
import datasets
import numpy as np
import pytest

from bus_hf.data import columns
from bus_hf.data import dataset as ds
from bus_hf.data.dataset import BusDataset, cases, load
from bus_hf.errors import BusError
from tests.data.folders import busbra, busi, labels_by_name, mask, scan, write

pytestmark = pytest.mark.usefixtures("own_cache")


def _lesion(case):
    assert case.mask is not None
    return case.mask


# Layouts


def test_class_folders_are_read_with_their_masks(tmp_path, notes):
    part = load(busi(tmp_path / "BUSI"))["train"]
    assert part.features == columns.features("malignancy")
    assert labels_by_name(part) == {
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
    result = cases(part)
    assert [case.label for case in result] == [0, 0, 1, 1, 0]
    np.testing.assert_array_equal(result[1].image, scan(2))
    np.testing.assert_array_equal(result[1].mask, mask(left=2) > 0)
    assert _lesion(result[1]).dtype == bool
    assert not _lesion(result[4]).any()


def test_the_seed_layout_has_two_splits(tmp_path):
    busi(tmp_path / "data" / "training_set", (("benign", 3), ("malignant", 2)))
    busi(tmp_path / "data" / "testing_set", (("benign", 1), ("malignant", 1)), seed=50)
    result = load(tmp_path / "data")
    assert {split: len(part) for split, part in result.items()} == {"train": 5, "test": 2}
    assert result["test"]["name"][:] == [
        "data/testing_set/benign/benign (1)",
        "data/testing_set/malignant/malignant (1)",
    ]


def test_the_seed_layout_without_a_testing_set_has_one_split(tmp_path):
    busi(tmp_path / "data" / "training_set", (("benign", 1), ("malignant", 1)))
    assert list(load(tmp_path / "data")) == ["train"]


def test_class_folders_may_be_capitalised_and_hold_jpeg(tmp_path):
    write(tmp_path / "x" / "Benign" / "a.JPG", scan(1))
    write(tmp_path / "x" / "Benign" / "a_mask.png", mask())
    write(tmp_path / "x" / "Malignant" / "b.bmp", scan(2))
    part = load(tmp_path / "x")["train"]
    assert labels_by_name(part) == {"x/Benign/a": "benign", "x/Malignant/b": "malignant"}
    assert [case.mask is None for case in cases(part)] == [False, True]


def test_several_roots_are_joined(tmp_path):
    part = load(busi(tmp_path / "busi"), busbra(tmp_path / "bra"))["train"]
    assert part["source"][:] == ["busi"] * 5 + ["busbra"] * 4
    assert part.features == columns.features("malignancy")
    below = load(tmp_path)["train"]
    assert sorted(below["name"]) == sorted(part["name"])


def test_the_builder_has_a_config_for_each_layout(tmp_path):
    assert list(BusDataset.builder_configs) == ["busi", "busbra", "brest", "joined"]
    for name, root in (("busi", busi(tmp_path / "busi")), ("busbra", busbra(tmp_path / "bra"))):
        builder = BusDataset(config_name=name, data_dir=str(root))
        builder.download_and_prepare()
        assert set(builder.as_dataset(split="train")["source"]) == {name}


def test_a_layout_can_be_demanded(tmp_path):
    with pytest.raises(BusError, match=r"bus_data.csv: the table can't be read"):
        load(busi(tmp_path / "busi"), layout="busbra")
    with pytest.raises(BusError, match="no layout 'coco'; choose auto or one of busbra, brest, busi"):
        load(tmp_path / "busi", layout="coco")


def test_images_come_in_the_order_of_their_numbers(tmp_path):
    part = load(busi(tmp_path / "busi", (("benign", 11),)))["train"]
    assert part["name"][:] == [f"busi/benign/benign ({number})" for number in range(1, 12)]


# Masks


def test_several_masks_are_united(tmp_path):
    root = tmp_path / "busi"
    write(root / "benign" / "benign (1).png", scan(1))
    for ending, left in (("_mask", 0), ("_mask_1", 30), ("_mask_2", 50)):
        write(root / "benign" / f"benign (1){ending}.png", mask(left=left, width=10))
    (case,) = cases(load(root)["train"])
    np.testing.assert_array_equal(np.flatnonzero(_lesion(case).any(0)), [*range(10), *range(30, 40), *range(50, 60)])


def test_a_mask_of_another_size_is_resized_and_said(tmp_path, notes):
    root = busi(tmp_path / "busi")
    write(root / "benign" / "benign (2)_mask.png", cv2.resize(mask(left=2), (40, 30), interpolation=cv2.INTER_NEAREST))
    case = cases(load(root)["train"])[1]
    np.testing.assert_array_equal(case.mask, mask(left=2) > 0)
    (note,) = notes()
    assert "benign (2)_mask.png: the mask is 40 x 30 and its image 80 x 60" in note


def test_images_without_masks_are_kept_and_said_once(tmp_path, notes):
    root = busi(tmp_path / "busi")
    for name in ("benign/benign (1)", "malignant/malignant (2)", "normal/normal (1)"):
        (root / f"{name}_mask.png").unlink()
    part = load(root)["train"]
    assert [row["mask"] is None for row in part] == [True, False, False, True, True]
    assert [case.mask is None for case in cases(part)] == [True, False, False, True, True]
    (note,) = notes()
    assert "2 images have no mask" in note
    assert "benign/benign (1).png, malignant/malignant (2).png" in note


def test_a_mask_without_its_image_is_ignored_and_said(tmp_path, notes):
    root = busi(tmp_path / "busi")
    (root / "benign" / "benign (1).png").unlink()
    assert "busi/benign/benign (1)" not in load(root)["train"]["name"][:]
    (note,) = notes()
    assert "1 masks have no image and were ignored (benign/benign (1)_mask.png); add the image" in note


def test_an_unreadable_mask_leaves_its_image(tmp_path, notes):
    root = busi(tmp_path / "busi")
    (root / "benign" / "benign (1)_mask.png").write_bytes(b"not a mask")
    assert cases(load(root)["train"])[0].mask is None
    (note,) = notes()
    assert "benign (1)_mask.png" in note
    assert note.endswith("The image is kept without this mask.")


def test_an_all_black_mask_teaches_no_lesion_only_where_there_is_none(tmp_path, notes):
    root = busi(tmp_path / "busi")
    write(root / "malignant" / "malignant (1)_mask.png", np.zeros((60, 80), np.uint8))
    result = {case.name: case for case in cases(load(root)["train"])}
    assert result["busi/malignant/malignant (1)"].mask is None
    assert not _lesion(result["busi/normal/normal (1)"]).any()
    (note,) = notes()
    assert "malignant (1)_mask.png: the mask is all black" in note


def test_a_black_mask_in_a_table_is_no_mask_either(tmp_path):
    part = load(busi(tmp_path / "busi"))["train"].cast_column("mask", datasets.Image(decode=False))
    row = part[2] | {"mask": {"bytes": cv2.imencode(".png", np.zeros((60, 80), np.uint8))[1].tobytes(), "path": None}}
    row["image"] = {"bytes": cv2.imencode(".png", scan(1))[1].tobytes(), "path": None}
    assert ds.case(row).mask is None
    assert ds.case(row | {"pathology": "normal"}).mask is not None


# What is wrong with a folder


def test_stray_files_are_ignored_with_one_warning(tmp_path, notes):
    root = busi(tmp_path / "busi")
    (root / "benign" / "Thumbs.db").write_bytes(b"x")
    (root / "benign" / "notes.txt").write_text("x")
    (root / "README.md").write_text("what this is")
    (root / "benign" / "gone.png").symlink_to(root / "nowhere.png")
    write(root / "other" / "lump.png", scan(1))
    assert len(load(root)["train"]) == 5
    stray, broken = notes()
    assert "2 files that are no images of the set were ignored (other, benign/notes.txt)" in stray
    assert "1 links that lead nowhere, or files that cannot be read, were excluded (benign/gone.png); mend" in broken


def test_an_unreadable_image_is_excluded_and_named(tmp_path, notes):
    root = busi(tmp_path / "busi")
    (root / "benign" / "benign (2).png").write_bytes(b"")
    assert "busi/benign/benign (2)" not in load(root)["train"]["name"][:]
    (note,) = notes()
    assert "benign (2).png" in note
    assert note.endswith("It is excluded.")


def test_warnings_come_again_from_the_cache(tmp_path, notes, caplog):
    root = busi(tmp_path / "busi")
    (root / "benign" / "benign (2).png").write_bytes(b"")
    load(root)
    first = notes()
    caplog.clear()
    load(root)
    assert notes() == first != []


def test_a_name_that_is_there_twice_is_kept_once(tmp_path, notes):
    root = busi(tmp_path / "busi")
    write(root / "benign" / "benign (1).jpg", scan(90))
    assert len(load(root)["train"]) == 5
    (note,) = notes()
    assert "1 images have the name of another one" in note


def test_only_unreadable_images_are_an_error(tmp_path):
    (tmp_path / "x" / "benign").mkdir(parents=True)
    (tmp_path / "x" / "benign" / "a.png").write_bytes(b"")
    with pytest.raises(BusError, match="none of the 1 images can be read"):
        load(tmp_path / "x")


# Label sets


def test_busi3_tells_normals_apart_and_excludes_busbra(tmp_path, notes):
    part = load(busi(tmp_path / "busi"), busbra(tmp_path / "bra"), label_set="busi3")["train"]
    assert part.features["label"].names == ["normal", "benign", "malignant"]
    assert sorted(labels_by_name(part).values()) == ["benign", "benign", "malignant", "malignant", "normal"]
    assert notes() == ["busbra: 4 images have no class in the label set busi3; they are excluded."]


def test_histology_reads_busbra_and_says_what_is_excluded(tmp_path, notes):
    part = load(busi(tmp_path / "busi"), busbra(tmp_path / "bra"), label_set="histology")["train"]
    assert labels_by_name(part) == {
        "busbra/bus_0001-l": "fibroadenoma",
        "busbra/bus_0001-r": "cyst",
        "busbra/bus_0002-l": "carcinoma",
    }
    assert notes() == [
        "busbra: 1 images have no class in the label set histology; they are excluded.",
        "busi: 5 images have no class in the label set histology; they are excluded.",
    ]


def test_unknown_histologies_are_one_error_that_lists_them(tmp_path):
    rows = [(f"bus_000{i}-l", str(i), entry, "benign", "2") for i, entry in enumerate(("zebra", "cyst", "abscess?"))]
    with pytest.raises(BusError, match=r"does not know abscess\?, zebra"):
        load(busbra(tmp_path / "bra", rows), label_set="histology")


def test_a_label_set_without_any_row_is_an_error(tmp_path):
    with pytest.raises(BusError, match="busi: no image has a class of the label set histology"):
        load(busi(tmp_path / "busi"), label_set="histology")
    with pytest.raises(BusError, match="there is no label set 'tnm'"):
        load(tmp_path / "busi", label_set="tnm")


# Cache


def test_the_cache_is_used_until_a_file_changes(tmp_path, monkeypatch):
    root = busi(tmp_path / "busi")
    load(root)
    read = []
    whole = ds.BusDataset._generate_examples

    def counted(self, rows):
        read.append(1)
        return whole(self, rows)

    monkeypatch.setattr(BusDataset, "_generate_examples", counted)
    load(root)
    assert not read
    write(root / "benign" / "benign (3).png", scan(70))
    assert len(load(root)["train"]) == 6
    assert len(read) == 1


def test_a_file_written_anew_is_read_anew(tmp_path):
    root = busi(tmp_path / "busi")
    load(root)
    path = write(root / "benign" / "benign (1)_mask.png", mask(left=40))
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(cases(load(root)["train"])[0].mask, mask(left=40) > 0)


def test_nothing_is_written_into_the_data(tmp_path):
    root = busi(tmp_path / "busi")
    before = sorted(root.rglob("*"))
    cases(load(root)["train"])
    assert sorted(root.rglob("*")) == before


# The real data


def test_the_normals_of_busi_are_read_whole(shared_data, tmp_path, notes):
    (tmp_path / "busi").mkdir()
    (tmp_path / "busi" / "normal").symlink_to(shared_data / "busi" / "normal")
    result = cases(load(tmp_path / "busi", label_set="busi3")["train"])
    assert len(result) == 107
    assert {case.label for case in result} == {0}
    assert not any(_lesion(case).any() for case in result)
    assert not notes()
