"""BUS-BRA: its table names patient, BI-RADS, histology, device and the official folds."""

import pytest

from bus_hf.data.dataset import cases, load
from bus_hf.errors import BusError
from tests.data import folders
from tests.data.folders import BUSBRA

pytestmark = pytest.mark.usefixtures("own_cache")


def test_it_brings_patients_histology_and_official_folds(tmp_path, notes):
    part = load(folders.busbra(tmp_path / "bra"))["train"]
    assert part["name"][:] == [f"busbra/{row[0]}" for row in BUSBRA]
    assert part["group"][:] == ["busbra/case-1", "busbra/case-1", "busbra/case-2", "busbra/case-3"]
    assert part["patient"][:] == ["1", "1", "2", "3"]
    assert part["birads"][:] == ["3", "2", "5", "5"]
    assert part["histology"][2] == "invasive ductal carcinoma"
    assert part["device"][0] == "GE Logiq 7"
    assert part["fold"][:] == [1, 2, 3, None]
    assert part["label"][:] == [0, 0, 1, 1]
    assert cases(part)[0].mask.sum() == 600
    assert not notes()


def test_rows_without_image_and_files_without_row_are_told(tmp_path, notes):
    root = folders.busbra(tmp_path / "bra")
    (root / "Images" / "bus_0001-l.png").unlink()
    (root / "Masks" / "mask_0002-l.png").unlink()
    folders.write(root / "Images" / "bus_9999-l.png", folders.scan(1))
    assert load(root)["train"]["name"][:] == ["busbra/bus_0001-r", "busbra/bus_0002-l", "busbra/bus_0003-s"]
    text = "\n".join(notes())
    assert len(notes()) == 4
    assert "1 rows have no image in Images/ (bus_0001-l)" in text
    assert "1 masks have no image and were ignored (Masks/mask_0001-l.png)" in text
    assert "1 images have no mask and are kept without one (Images/bus_0002-l.png)" in text
    assert "1 files that are no images of the set were ignored (Images/bus_9999-l.png)" in text


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("bus_0001-l", "1", "cyst", "unsure", "3")], "row bus_0001-l has the pathology 'unsure'"),
        ([BUSBRA[0], BUSBRA[0]], "row bus_0001-l stands there twice"),
    ],
)
def test_a_wrong_row_is_named(tmp_path, rows, sentence):
    with pytest.raises(BusError, match=sentence):
        load(folders.busbra(tmp_path / "bra", rows))


def test_a_table_without_a_column_is_an_error(tmp_path):
    root = folders.busbra(tmp_path / "bra")
    (root / "bus_data.csv").write_text("ID,Pathology\nbus_0001-l,benign\n")
    with pytest.raises(BusError, match=r"bus_data.csv: the table has no column Case"):
        load(root)
