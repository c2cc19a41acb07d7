"""Which layout a folder has: found by names, one sentence where there is none."""

from collections import Counter

import pytest

from bus_hf.data.dataset import load
from bus_hf.data.formats import detect
from bus_hf.errors import BusError
from tests.data.folders import busi, mask, scan, write

pytestmark = pytest.mark.usefixtures("own_cache")


def test_masks_of_an_operating_systems_copy_are_no_second_data_set(tmp_path):
    write(tmp_path / "download" / "benign" / "a.png", scan(1))
    write(tmp_path / "__MACOSX" / "benign" / "b.png", scan(2))
    assert [root.name for root, _ in detect.find_roots(tmp_path)] == ["download"]


@pytest.mark.parametrize("name", ["busi.zip", "busi.tar.gz", "busi.7z"])
def test_packed_data_are_asked_to_be_unpacked(tmp_path, name):
    path = tmp_path / "data" / name
    path.parent.mkdir()
    path.write_bytes(b"PK\3\4")
    with pytest.raises(BusError, match="this is a packed folder; unzip it"):
        load(path)
    with pytest.raises(BusError, match=f"no images in a known layout; unzip {name}"):
        load(path.parent)


def test_a_file_given_as_data_is_told(tmp_path):
    with pytest.raises(BusError, match="this is a file, not a folder"):
        load(write(tmp_path / "benign" / "a.png", scan(1)))


def test_the_kaggle_folder_is_found_in_the_folder_it_is_unpacked_in(tmp_path):
    busi(tmp_path / "download" / "Dataset_BUSI_with_GT")
    assert set(load(tmp_path / "download")["train"]["source"]) == {"busi"}


def test_two_folders_of_one_name_keep_their_images_apart(tmp_path):
    part = load(busi(tmp_path / "a" / "scans"), busi(tmp_path / "b" / "scans", seed=50))["train"]
    assert set(part["source"]) == {"scans", "scans-2"}
    assert len(set(part["name"])) == 10


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: root.mkdir(), "holds no images in a known layout; give folders named benign"),
        (lambda root: write(root / "a.png", scan(1)), "holds no images in a known layout"),
        (lambda root: (root / "benign").mkdir(parents=True), "no image in the busi layout; check that this is the fo"),
        (lambda root: write(root / "benign" / "a_mask.png", mask()), "no image in the busi layout"),
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
        load(busi(tmp_path / "busi"), tmp_path / "busi")


def test_the_shared_data_are_listed_whole_and_without_a_complaint(shared_data):
    listing = detect.list_roots(detect.find_roots(shared_data))
    assert Counter((record.source, record.pathology) for record in listing.records) == {
        ("busi", "benign"): 350,
        ("busi", "malignant"): 168,
        ("busi", "normal"): 107,
        ("busbra", "benign"): 1014,
        ("busbra", "malignant"): 486,
        ("brest", "benign"): 120,
        ("brest", "malignant"): 76,
        ("brest", "normal"): 4,
    }
    assert listing.notes == ()
    assert len({record.name for record in listing.records}) == 2325
    assert all(record.masks for record in listing.records if record.source != "brest")
    assert sum(len(record.masks) > 1 for record in listing.records if record.source == "busi") == 12
    patients = {record.group for record in listing.records if record.source == "busbra"}
    assert len(patients) < 1500
    assert {record.fold for record in listing.records if record.source == "busbra"} == {1, 2, 3, 4, 5}
