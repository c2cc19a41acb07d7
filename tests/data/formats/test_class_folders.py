"""Class folders as people lay them out: masks here and there, splits, links, litter."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from bus_hf.cli.shared import images_in
from bus_hf.data.dataset import cases, load, to_train_on
from bus_hf.data.formats import detect
from bus_hf.data.phantoms import phantom, write_phantoms
from bus_hf.errors import BusError

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def write(tmp_path):
    """Write scans at these paths below a folder, and their masks at those of the second argument."""

    def lay(*images, masks=(), seed=0):
        for row, name in enumerate([*images, *masks]):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = "malignant" if "malignant" in name else "benign"
            image, mask = phantom(np.random.default_rng(seed + row), kind, (96, 128))
            Image.fromarray(mask if name in masks else image).save(path)
        return tmp_path / "set"

    return lay


def listed(root):
    result = detect.list_roots(detect.find_roots(root))
    at = result.records[0].source
    return {
        record.name.removeprefix(f"{at}/"): [path.relative_to(root).as_posix() for path in record.masks]
        for record in result.records
    }, result.notes


@pytest.mark.parametrize(
    "mask", ["a_gt", "a-mask", "mask_a", "a_tumor", "a_seg", "a_masks", "a_lesion", "a_label", "a_segmentation_1"]
)
def test_a_mask_beside_its_image_is_used(write, mask):
    assert listed(write("benign/a.png", masks=[f"benign/{mask}.png"])) == ({"benign/a": [f"benign/{mask}.png"]}, ())


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("benign/a.png", "benign/masks/a.png"),
        ("benign/images/a.png", "benign/masks/a.png"),
        ("benign/a.png", "benign_mask/a.png"),
        ("images/benign/a.png", "masks/benign/a.png"),
        ("benign/a.png", "GT/a_gt.png"),
        ("benign/img_1.png", "ground_truth/mask_1.jpg"),
        ("train/benign/a.png", "train/Masks/benign/a.png"),
        ("train/images/benign/a.png", "train/labels/benign/a.png"),
        ("benign/train/a.png", "benign/train/annotations/a_mask.png"),
    ],
)
def test_a_mask_in_a_folder_of_masks_is_used(write, image, mask):
    assert listed(write(image, masks=[mask])) == ({image.removesuffix(".png"): [mask]}, ())


def test_a_mask_that_may_be_of_two_images_is_told_and_given_to_none(write):
    result, notes = listed(write("benign/1.png", "malignant/1.png", masks=["masks/1.png"]))
    assert result == {"benign/1": [], "malignant/1": []}
    assert "1 masks have no image and were ignored (masks/1.png)" in notes[0]


def test_other_findings_teach_nothing_and_masks_without_an_image_are_told(write):
    masks = ["benign/a_tumor.png", "benign/a_other1.png", "benign/b_gt.png"]
    result, notes = listed(write("benign/a.png", masks=masks))
    assert result == {"benign/a": ["benign/a_tumor.png"]}
    assert "1 masks have no image and were ignored (benign/b_gt.png)" in notes[0]
    assert "1 masks are of other findings than lesions and were ignored (benign/a_other1.png)" in notes[1]


def test_images_that_look_like_masks_by_their_names_stay(write):
    result, _ = listed(write("benign/tumor.png", "benign/gt.png", "malignant/left_lesion.png", "malignant/roi.png"))
    assert sorted(result) == ["benign/gt", "benign/tumor", "malignant/left_lesion", "malignant/roi"]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (("train", "val", "test"), ("train", "validation", "test")),
        (("Train", "Valid", "TEST"), ("train", "validation", "test")),
        (("training_set", "testing_set"), ("train", "test")),
        (("training", "validation"), ("train", "validation")),
    ],
)
@pytest.mark.parametrize("order", ["{split}/{kind}", "{kind}/{split}", "images/{split}/{kind}"])
def test_splits_that_folders_name_stay_apart(write, folders, splits, order):
    places = [order.format(split=split, kind=kind) for split in folders for kind in ("benign", "malignant")]
    result = load(write(*(f"{place}/x.png" for place in places)))
    assert tuple(result) == splits
    assert all(len(part) == 2 for part in result.values())
    assert len(to_train_on(result, "set")) == 2


def test_only_a_test_split_is_said_before_training(write):
    result = load(write("testing_set/benign/a.png", "testing_set/malignant/b.png"))
    assert list(result) == ["test"]
    with pytest.raises(BusError, match="set: there are only images of the split test, and none to train on"):
        to_train_on(result, "set")


def test_what_systems_leave_behind_is_passed_over(write, notes):
    root = write("benign/a.png", "malignant/b.png")
    (root / "__MACOSX" / "benign").mkdir(parents=True)
    for name in ("__MACOSX/benign/._a.png", "benign/._a.png", "benign/.DS_Store", "Thumbs.db", "malignant/Thumbs.db"):
        (root / name).write_bytes(b"\0")
    assert len(load(root)["train"]) == 2
    assert [note for note in notes() if "no mask" not in note] == []
    assert len(images_in(root).images) == 2


def test_a_change_behind_a_link_is_seen(write, tmp_path):
    write("pool/one/a.png", "pool/two/b.png", seed=3)
    pool, root = tmp_path / "set" / "pool", tmp_path / "linked"
    root.mkdir()
    (root / "benign").symlink_to(pool / "one")
    (root / "malignant").mkdir()
    (root / "malignant" / "c.png").symlink_to(pool / "two" / "b.png")
    before = cases(load(root)["train"])
    assert [case.name for case in before] == ["linked/benign/a", "linked/malignant/c"]
    shutil.copy(pool / "two" / "b.png", pool / "one" / "d.png")
    assert len(load(root)["train"]) == 3
    Image.fromarray(255 - before[1].image).save(pool / "two" / "b.png")
    np.testing.assert_array_equal(cases(load(root)["train"])[2].image, 255 - before[1].image)
    # Another target, no newer and no longer than the last one.
    (root / "malignant" / "c.png").unlink()
    (root / "malignant" / "c.png").symlink_to(pool / "one" / "a.png")
    np.testing.assert_array_equal(cases(load(root)["train"])[2].image, before[0].image)


def test_links_that_go_round_end_and_a_folder_linked_twice_is_read_once(write, notes):
    root = write("train/benign/a.png", "train/malignant/b.png")
    (root / "train" / "malignant" / "images").symlink_to(root)
    (root / "test").symlink_to(root / "train")
    result = load(root)
    assert {split: len(part) for split, part in result.items()} == {"train": 2}
    assert any("lead to folders that are read already" in note and "test" in note for note in notes())


def test_predict_and_load_read_the_same_files(write):
    root = write("benign/a.png", "malignant/b.png", masks=["benign/a_tumor.png", "masks/b.png", "malignant/b-mask.png"])
    (root / "malignant" / "linked.png").symlink_to(root / "benign" / "a.png")
    (root / "malignant" / "gone.png").symlink_to(root / "nowhere.png")
    result = images_in(root)
    assert {path.relative_to(root).with_suffix("").as_posix() for path in result.images} == set(listed(root)[0])
    assert "3 files are masks by their names and were not read" in result.notes[0]
    (lost,) = result.lost
    assert lost.endswith("gone.png: the link leads nowhere; mend or delete it.")


def test_real_folders_give_their_images_and_no_mask(shared_data):
    counts = Counter()
    for name in ("busi", "busbra", "brest"):
        result = images_in(shared_data / name)
        counts[name] = len(result.images)
        assert not result.lost
    assert counts == {"busi": 625, "busbra": 1500, "brest": 200}


def test_phantoms_are_read_as_before(tmp_path):
    write_phantoms(tmp_path / "set", 2)
    result, notes = listed(tmp_path / "set")
    assert len(result) == 6
    assert all(len(masks) == 1 for masks in result.values())
    assert notes == ()
