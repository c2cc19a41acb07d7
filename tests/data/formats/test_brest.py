"""BrEaST: its spreadsheet names image, lesion mask, BI-RADS and diagnosis of each case."""

from collections import Counter

import numpy as np
import pytest

from bus_hf.data.dataset import cases, load
from bus_hf.data.formats import brest, detect
from bus_hf.errors import BusError
from tests.data import folders

pytestmark = pytest.mark.usefixtures("own_cache")
IMAGES = "BrEaST-Lesions_USG-images_and_masks"


def test_a_case_brings_its_facts_and_its_lesion_mask_alone(tmp_path, notes):
    part = load(folders.brest(tmp_path / "set"))["train"]
    assert part["name"][:] == ["brest/case001", "brest/case002", "brest/case003"]
    assert part["group"][:] == ["brest/case-1", "brest/case-2", "brest/case-3"]
    assert part["patient"][:] == ["1", "2", "3"]
    assert part["birads"][:] == ["4b", "5", "1"]
    assert part["histology"][:] == ["Fibroadenoma", "NST&DCIS", None]
    assert part["pathology"][:] == ["benign", "malignant", "normal"]
    assert part["label"][:] == [0, 1, 0]
    assert set(part["source"]) == {"brest"}
    first, second, normal = cases(part)
    np.testing.assert_array_equal(first.image, folders.scan(200))
    np.testing.assert_array_equal(second.mask, folders.mask() > 0)
    assert normal.mask is None
    assert notes() == []


def test_several_masks_of_a_lesion_are_united(tmp_path):
    row = (7, "case007.png", "case007_tumor1.png&case007_tumor2.png", None, 51, "4b", "Cyst", "benign")
    (record,) = brest.list_images(folders.brest(tmp_path / "set", [row]), "brest").records
    assert [path.name for path in record.masks] == ["case007_tumor1.png", "case007_tumor2.png"]


def test_rows_without_image_and_files_without_row_are_told(tmp_path):
    root = folders.brest(tmp_path / "set")
    (root / IMAGES / "case002.png").unlink()
    (root / IMAGES / "case001_tumor.png").unlink()
    folders.write(root / IMAGES / "case999.png", folders.scan(1))
    listing = brest.list_images(root, "brest")
    assert [record.name for record in listing.records] == ["brest/case001", "brest/case003"]
    stray, bare, missing = listing.notes
    assert f"1 files that are no images of the set were ignored ({IMAGES}/case999.png)" in stray
    assert f"1 images have no mask and are kept without one ({IMAGES}/case001.png)" in bare
    assert f"1 rows have no image in {IMAGES}/ (2); they are excluded" in missing


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([folders.BREST[0], folders.BREST[0]], "row 1 stands there twice"),
        ([(*folders.BREST[0][:-1], "unsure")], "row 1 has the pathology 'unsure'"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, rows, sentence):
    with pytest.raises(BusError, match=sentence):
        brest.list_images(folders.brest(tmp_path / "set", rows), "brest")


def test_a_table_that_is_none_is_one_sentence(tmp_path):
    root = folders.brest(tmp_path / "set", [(1, "case001.png")], ("CaseID", "Image_filename"))
    with pytest.raises(BusError, match="has no column Classification, Mask_other_filename, Mask_tumor_filename"):
        brest.list_images(root, "brest")
    next(root.glob("*.xlsx")).write_bytes(b"no spreadsheet")
    with pytest.raises(BusError, match=r"2023\.xlsx: the table can't be read"):
        brest.list_images(root, "brest")
    with pytest.raises(BusError, match="there is no table"):
        load(tmp_path, layout="brest")


def test_the_histology_set_excludes_it(tmp_path, notes):
    folders.brest(tmp_path / "brest")
    folders.busbra(tmp_path / "bra")
    assert set(load(tmp_path, label_set="histology")["train"]["source"]) == {"busbra"}
    assert "brest: 3 images have no class in the label set histology; they are excluded." in notes()


def test_the_real_cases_are_listed_whole(shared_data):
    ((root, layout),) = detect.find_roots(shared_data / "brest")
    listing = detect.list_roots([(root, layout)])
    assert layout == "brest"
    assert Counter(record.pathology for record in listing.records) == {"benign": 120, "malignant": 76, "normal": 4}
    assert listing.notes == ()
    assert len({record.group for record in listing.records}) == 200
    assert all(len(record.masks) == (record.pathology != "normal") for record in listing.records)
    assert {record.birads for record in listing.records} == {"1", "2", "3", "4a", "4b", "4c", "5"}


def test_real_masks_fit_their_images(shared_data, tmp_path, notes):
    root = shared_data / "brest"
    names = ("case002.png", "case002_tumor.png", "case022.png", "case022_tumor.png", "case045.png")
    (tmp_path / "set" / IMAGES).mkdir(parents=True)
    for path in (next(root.glob("*.xlsx")), *(root / IMAGES / name for name in names)):
        (tmp_path / "set" / path.relative_to(root)).symlink_to(path)
    lesion, other, normal = cases(load(tmp_path / "set")["train"])
    for case in (lesion, other):
        assert case.mask is not None
        assert case.mask.shape == case.image.shape
        assert 0 < case.mask.mean() < 0.5
    assert normal.mask is None
    assert len(notes()) == 1
