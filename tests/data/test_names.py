"""What names say: masks, splits, litter, archives."""

from pathlib import Path

import pytest

from bus_hf.data import names
from bus_hf.errors import BusError


@pytest.mark.parametrize(
    "name",
    [
        "x_gt",
        "x-mask",
        "mask_x",
        "x_seg",
        "x_masks",
        "x_mask_1",
        "benign (1)_mask_2",
        "X_GT",
        "x.mask",
        "gt-x",
        "x_ground_truth",
        "groundtruth_x",
        "x segmentation",
        "x_annotation",
        "mask",
        "mask1",
        "x_tumor_mask",
    ],
)
def test_names_of_masks(name):
    assert names.sort_out([Path(f"{name}.png")]) == ([], [Path(f"{name}.png")])


@pytest.mark.parametrize("name", ["tumor", "gt", "damask", "x_masked_area", "lesion_3", "left_tumor", "seg"])
def test_names_that_may_be_images(name):
    assert names.sort_out([Path(f"{name}.png")]) == ([Path(f"{name}.png")], [])


@pytest.mark.parametrize("folder", ["Masks", "GT", "ground_truth", "benign_mask", "labels", "annotations", "v2_masks"])
def test_whatever_lies_in_a_folder_of_masks_is_one(folder):
    assert names.mask_folder(folder) is not None


@pytest.mark.parametrize(
    "folder",
    ["Dataset_BUSI_with_GT", "BrEaST-Lesions_USG-images_and_masks", "Images", "seg-project"],
)
def test_folders_that_hold_more_than_masks(folder):
    assert names.mask_folder(folder) is None


def test_a_weak_word_makes_a_mask_only_beside_its_image():
    files = [Path(f"{name}.png") for name in ("case1", "case1_tumor", "case1_other1", "case2_tumor", "tumor", "gt")]
    images, masks = names.sort_out(files)
    assert [path.stem for path in images] == ["case1", "case2_tumor", "tumor", "gt"]
    assert [path.stem for path in masks] == ["case1_tumor", "case1_other1"]


def test_masks_find_their_images():
    images = [Path(f"{name}.png") for name in ("a", "img_07", "b_image", "7", "left_1", "right_1")]
    stems = ("a-mask", "mask_a", "a_tumor_mask", "mask_07", "b_mask", "mask_1", "c_gt", "a_other2")
    result, unused = names.match([Path(f"{stem}.png") for stem in stems], images)
    assert {image.stem: [path.stem for path in its] for image, its in result.items()} == {
        "a": ["a-mask", "mask_a", "a_tumor_mask"],
        "img_07": ["mask_07"],
        "b_image": ["b_mask"],
    }
    assert [path.stem for path in unused] == ["mask_1", "c_gt", "a_other2"]


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training_set", "train"),
        ("TRAIN", "train"),
        ("val", "validation"),
        ("Valid", "validation"),
        ("validation-set", "validation"),
        ("test", "test"),
        ("testing_set", "test"),
        ("tests", None),
        ("contest", None),
    ],
)
def test_splits(folder, split):
    assert names.split_of(folder) == split


@pytest.mark.parametrize("name", ["__MACOSX", ".DS_Store", "._x.png", "Thumbs.db", "desktop.ini", ".hidden.png"])
def test_litter(name):
    assert names.is_litter(name)
    assert not names.is_image_name(Path(name))


@pytest.mark.parametrize("name", ["data.zip", "data.tar.gz", "data.rar", "DATA.7Z", "data.tgz"])
def test_a_packed_folder_has_to_be_unpacked(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(BusError, match=r"this is a packed folder; unzip it"):
        names.check_unpacked(tmp_path / name)
    names.check_unpacked(tmp_path)
