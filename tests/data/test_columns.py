"""Classes of tables from elsewhere: text, numbers, capitals; errors name the columns that are there."""

import logging

import datasets
import numpy as np
import pytest

from bus_hf.data.dataset import load
from bus_hf.errors import BusError


def scan(seed):
    return np.random.default_rng(seed).gamma(2.0, 30.0, (60, 80)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Write a Parquet file with an image in each row and the given columns; returns its path."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def write(features=None, **columns):
        count = len(next(iter(columns.values())))
        rows = {"image": [scan(row) for row in range(count)], **columns}
        kinds = {"image": datasets.Image()} | (features or {})
        part = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds) if features else None)
        if not features:
            part = part.cast_column("image", datasets.Image())
        part.to_parquet(tmp_path / "table.parquet")
        return tmp_path / "table.parquet"

    return write


NAMED = datasets.ClassLabel(names=["Malignant", "Benign"])


@pytest.mark.parametrize(
    ("columns", "features"),
    [
        ({"label": ["malignant", "benign", "benign"]}, None),
        ({"label": ["Malignant", " BENIGN ", "benign"]}, None),
        ({"label": [1, 0, 0]}, None),
        ({"label": [1.0, 0.0, 0.0]}, None),
        ({"label": [True, False, False]}, None),
        ({"label": ["1", "0", "0"]}, None),
        ({"label": [0, 1, 1]}, {"label": NAMED}),
        ({"pathology": ["Malignant", "Benign", "NORMAL"]}, None),
        ({"pathology": [None] * 3, "label": ["malignant", "normal", "benign"]}, None),
    ],
)
def test_classes_are_read_however_they_are_written(table, columns, features, caplog):
    caplog.set_level(logging.WARNING, logger="bus_hf")
    part = load(table(features, **columns))["train"]
    assert part["label"][:] == [1, 0, 0]
    numbers = {str(value) for value in next(iter(columns.values()))} <= {"0", "1", "0.0", "1.0", "True", "False"}
    warned = "holds numbers without names; 0 is read as benign, 1 as malignant" in caplog.text
    assert warned == (numbers and features is None)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            {"label": ["cancer", "benign"]},
            r"rows of the class cancer in its column label; its columns are image .*, label",
        ),
        ({"label": [0, 2]}, r"rows of the class 0, 2 in its column label; its columns are .*label \(int64\)"),
        ({"diagnosis": ["benign", "malignant"]}, r"says no class; its columns are image .*, diagnosis \(string\)"),
        ({"label": ["benign", None]}, r"rows of the class None in its column label"),
        ({"label": [[0], [1]]}, r"rows of the class \[0\], \[1\] in its column label"),
    ],
)
def test_other_classes_are_refused_with_the_columns_that_are_there(table, columns, sentence):
    with pytest.raises(BusError, match=sentence):
        load(table(**columns))
