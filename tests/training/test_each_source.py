import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from bus_hf.config import EACH_SOURCE
from bus_hf.data.phantoms import write_phantoms
from bus_hf.errors import BusError
from bus_hf.training.each_source import train
from bus_hf.training.lineage import record_of
from bus_hf.training.rerun import rerun
from bus_hf.training.splits import read_images, split
from tests.training.conftest import settings


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospitals")
    for seed, name in enumerate(("north", "south")):
        write_phantoms(folder / name, 6, seed + 3)
    return folder


@pytest.fixture
def config(hospitals, tmp_path):
    base = settings(hospitals / "north", tmp_path)
    data = (str(hospitals / "north"), str(hospitals / "south"))
    return replace(base, data=data, hold_out=EACH_SOURCE, epochs=1, versions=2, grey_exchange=0.0, balance_sources=True)


def test_each_source_is_held_out_once_and_what_ships_is_trained_on_everything(config, tmp_path):
    output = train(config)
    frame = pd.read_parquet(output / "out_of_fold.parquet")
    cases = read_images(config).cases
    assert set(frame["name"]) == {case.name for case in cases}
    assert frame.groupby(["name", "view"]).size().eq(1).all()
    assert frame.groupby("source")["fold"].nunique().eq(1).all()
    record = json.loads((output / "run.json").read_text())
    assert record["n_train"] == len(cases)
    for source in ("north", "south"):
        part = output / f"without_{source}"
        assert set(pd.read_parquet(part / "out_of_fold.parquet")["source"]) == {source}
        assert set(json.loads((part / "run.json").read_text())["sources"]) == {"north", "south"} - {source}
    before = (output / "without_north" / "run.json").stat().st_mtime_ns
    train(config)
    assert (output / "without_north" / "run.json").stat().st_mtime_ns == before
    with pytest.raises(BusError, match="trained on every image"):
        rerun(str(output / "checkpoint"), {"data": config.data, "output": str(tmp_path / "again")})
    # A start that a run gave which left each source out gives each network the one without its source.
    second = train(replace(config, init_from=str(output / "checkpoint"), output=str(tmp_path / "second")))
    start = record_of(str(second / "without_north" / "checkpoint"))["start"]
    assert start["earlier_run"]["sources"] == {"south": record["sources"]["south"]}
    with pytest.raises(BusError, match="hold_out"):
        train(replace(config, init_from=str(output / "checkpoint"), output=str(tmp_path / "leak"), hold_out="north"))


def test_an_interrupted_training_goes_on(config):
    once = replace(config, epochs=2, max_epochs_now=1)
    output = train(once)
    assert not (output / "run.json").exists()
    for _ in range(6):
        train(once)
    assert (output / "run.json").exists()


def test_near_duplicates_of_a_held_out_source_are_not_trained_on(config):
    images = read_images(config)
    north, south = (next(case for case in images.cases if case.source == name) for name in ("north", "south"))
    twin = replace(south, group=north.group)
    cases = [twin if case is south else case for case in images.cases]
    parts = split(replace(config, hold_out="north"), replace(images, cases=cases))
    assert {case.source for case in parts.held_out(0)} == {"north"}
    assert twin.name not in {case.name for case in parts.training(0)}
    assert len(parts.training(0)) == len(cases) - len(parts.held_out(0)) - 1


def test_one_source_or_an_unknown_one_is_refused(config, hospitals):
    with pytest.raises(BusError, match="of one source"):
        train(replace(config, data=(str(hospitals / "north"),)))
    with pytest.raises(BusError, match="no source 'west'"):
        train(replace(config, hold_out="west"))


def test_logits_of_an_image_stand_once(config):
    output = train(config)
    frame = pd.read_parquet(output / "without_south" / "out_of_fold.parquet")
    frame.iloc[5:].to_parquet(output / "without_south" / "out_of_fold.parquet")
    with pytest.raises(BusError, match="hold out every image once"):
        train(config)
    assert np.isfinite(frame["logit_0"]).all()
