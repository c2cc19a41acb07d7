"""A table's images are its own bytes: a path in it is refused, and the file that it names is not opened."""

import io
import sys

import datasets
import numpy as np
import pytest
from PIL import Image

from bus_hf.data import streaming
from bus_hf.data.dataset import case, load
from bus_hf.data.phantoms import phantom
from bus_hf.data.tables import features
from bus_hf.errors import BusError

OPENED: list[str] = []
sys.addaudithook(lambda event, arguments: OPENED.append(str(arguments[0])) if event == "open" else None)


def png(seed):
    buffer = io.BytesIO()
    Image.fromarray(phantom(np.random.default_rng(seed), "benign", (64, 80))[0]).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(png(9))
    return path


def table(path, column, cell, whole):
    """Write a Parquet file of two rows, whose second one has `cell` in `column`; all columns of ours, or the least."""
    rows = [{"image": {"bytes": png(n)}, "mask": None, "pathology": "benign", "name": f"t/{n}"} for n in range(2)]
    rows[1][column] = cell
    columns = features("malignancy") if whole else {k: features("malignancy")[k] for k in rows[0]}
    rest = {"label": 0, "group": "g", "source": "t", "fold": 0}
    if whole:
        rows = [{key: {**rest, **row}.get(key) for key in columns} for row in rows]
    datasets.Dataset.from_list(rows, features=datasets.Features(columns)).to_parquet(path)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("column", ["image", "mask"])
@pytest.mark.parametrize("data", [None, b""])
def test_a_path_in_a_table_is_refused_unopened(tmp_path, secret, column, whole, data):
    path = tmp_path / "table.parquet"
    table(path, column, {"bytes": data, "path": str(secret)}, whole)
    OPENED.clear()
    with pytest.raises(BusError, match=f"the table does not hold the {column} of row 1, but a path; write the table"):
        load(path)
    assert not [name for name in OPENED if "secret" in name]


def test_a_stream_refuses_a_path_too(tmp_path, secret, monkeypatch):
    path = tmp_path / "table.parquet"
    table(path, "image", {"bytes": None, "path": str(secret)}, True)
    read = datasets.load_dataset
    monkeypatch.setattr(
        streaming.datasets, "load_dataset", lambda _, **given: read("parquet", data_files=str(path), **given)
    )
    OPENED.clear()
    with pytest.raises(BusError, match="does not hold the image of t/1, but a path"):
        streaming.stream("owner/name")
    assert not [name for name in OPENED if "secret" in name]


def test_masks_as_text_are_refused(tmp_path, secret):
    path = tmp_path / "table.parquet"
    columns = {"image": datasets.Image(), "mask": datasets.Value("string"), "pathology": datasets.Value("string")}
    row = {"image": {"bytes": png(1)}, "mask": str(secret), "pathology": "benign"}
    datasets.Dataset.from_list([row], features=datasets.Features(columns)).to_parquet(path)
    with pytest.raises(BusError, match="column mask holds no images"):
        load(path)


def test_a_row_of_nothing():
    row = dict.fromkeys(features("malignancy")) | {"name": "t/0", "pathology": "benign", "label": 0}
    empty = {"bytes": None, "path": None}
    # No mask is drawn: that is no path.
    assert case(row | {"image": {"bytes": png(0), "path": None}, "mask": empty}).mask is None
    for image in (None, empty):
        with pytest.raises(BusError, match=r"^the table does not hold the image of t/0; write the table anew"):
            case(row | {"image": image})
