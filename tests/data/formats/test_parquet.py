"""Parquet files and tables of the Hub: their columns, and their images, which are bytes and never a path."""

import io
import sys

import datasets
import numpy as np
import pytest
from PIL import Image

from bus_hf.data import streaming
from bus_hf.data.columns import features
from bus_hf.data.dataset import case, cases, load
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError
from tests.data.folders import busbra, busi, labels_by_name, scan

pytestmark = pytest.mark.usefixtures("own_cache")

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


def test_a_table_without_images_names_its_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.Dataset.from_dict({"file": ["a"], "label": ["benign"]}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(BusError, match="the table has no image column; its columns are file, label;"):
        load(tmp_path / "table.parquet")


def _same(first, second):
    assert first.features == second.features
    assert first.remove_columns(["image", "mask"])[:] == second.remove_columns(["image", "mask"])[:]
    for one, other in zip(cases(first), cases(second), strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert (one.mask is None) == (other.mask is None)
        if one.mask is not None:
            np.testing.assert_array_equal(one.mask, other.mask)


def test_parquet_keeps_rows_and_features_without_the_folder(tmp_path):
    root = busi(tmp_path / "busi")
    (root / "benign" / "benign (1)_mask.png").unlink()
    part = load(root, busbra(tmp_path / "bra"))["train"]
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
    load(busi(tmp_path / "busi"))["train"].to_parquet(folder / "train.parquet")
    part = load(folder, label_set="busi3")["train"]
    assert part.features == features("busi3")
    assert part["label"][:] == [1, 1, 2, 2, 0]
    both = load(folder, busbra(tmp_path / "bra"))["train"]
    assert sorted(set(both["source"])) == ["busbra", "busi"]
    with pytest.raises(BusError, match="5 images are there twice, busi/benign"):
        load(folder, tmp_path / "busi")


def test_rows_of_a_table_without_a_class_are_excluded_and_said(tmp_path, notes):
    tables = tmp_path / "tables"
    tables.mkdir()
    load(busi(tmp_path / "busi"), busbra(tmp_path / "bra"))["train"].to_parquet(tables / "train.parquet")
    part = load(tables, label_set="histology")["train"]
    assert labels_by_name(part) == {
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
    hub = datasets.DatasetDict({"train": load(busi(tmp_path / "busi"))["train"]})
    asked = []

    def answer(name):
        asked.append(name)
        return hub

    monkeypatch.setattr(datasets, "load_dataset", answer)
    _same(load("someone/bus")["train"], hub["train"])
    assert asked == ["someone/bus"]


def test_a_plain_hub_table_of_images_and_classes_is_adopted(monkeypatch):
    given = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["Malignant", "Benign"])})
    rows = {"image": [scan(1), scan(2), scan(3)], "label": [0, 1, 1]}
    table = datasets.Dataset.from_dict(rows, features=given, split="train")
    monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict({"train": table}))
    part = load("someone/breasts")["train"]
    assert part.features == features("malignancy")
    assert part["label"][:] == [1, 0, 0]
    assert part["pathology"][:] == ["malignant", "benign", "benign"]
    assert part["name"][:] == part["group"][:] == [f"breasts/train-{row}" for row in range(3)]
    assert cases(part)[0].mask is None
    np.testing.assert_array_equal(cases(part)[2].image, scan(3))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"text": ["a"]}, "the table has no image column"),
        ({"image": [scan(1)], "pathology": ["unsure"]}, "rows of the class unsure"),
        ({"image": [scan(1)]}, r"says no class; its columns are image .*; give a column pathology or label"),
    ],
)
def test_a_hub_table_of_something_else_is_refused(monkeypatch, columns, sentence):
    kinds = datasets.Features(
        {key: datasets.Image() if key == "image" else datasets.Value("string") for key in columns}
    )
    table = datasets.Dataset.from_dict(columns, features=kinds, split="train")
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
