"""A cache of its own for each test that loads a data set, and what `bus_hf` logs meanwhile."""

import logging

import pytest


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def notes(caplog):
    """Return a function that lists the warnings of `bus_hf` so far."""
    caplog.set_level(logging.WARNING, logger="bus_hf")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("bus_hf")]
