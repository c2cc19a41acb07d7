import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from bus_hf.errors import BusError
from research import tables
from research.__main__ import main

HOME = Path(__file__).resolve().parents[2] / "research"
PLAN = yaml.safe_load((HOME / "tables.yaml").read_text(encoding="utf-8"))
VIEWS = ("whole", "flip", "wider", "lesion", "around")


def store(home, name, strength, seed):
    """A finished trial of two sources."""
    folder = home / "trials" / name
    folder.mkdir(parents=True)
    (folder / "change.txt").write_text(f"seed={seed}\n")
    labels = np.random.default_rng(99).integers(0, 2, 60)
    for place, trained in enumerate(("a", "b")):
        rng = np.random.default_rng(10 * seed + place)
        rows = [
            {
                "name": f"i{i:03}",
                "source": "a" if i < 30 else "b",
                "group": f"g{i // 2}",
                "label": labels[i],
                "member": "net",
                "view": view,
                "logit_0": strength * labels[i] + rng.normal(),
            }
            for i in range(60)
            for view in VIEWS
        ]
        pd.DataFrame(rows).to_parquet(folder / f"{trained}.parquet")


@pytest.fixture
def home(tmp_path):
    for seed, (name, strength) in enumerate((("base", 0.5), ("better", 1.5), ("old", 1.0))):
        store(tmp_path, name, strength, seed)
    return tmp_path


def plan(home, **others):
    entries = {"tables": {"all": {"kind": "seeds", "sets": ["base", "old", "better"]}}, **others}
    (home / "tables.yaml").write_text(yaml.safe_dump(entries))


def test_rows_of_removed_logits_stay_as_they_were_and_say_where_the_logits_are(home):
    plan(home)
    tables.make(home)
    before = tables.read(home, "all")
    assert before["logits"].tolist() == ["stored"] * 3
    shutil.rmtree(home / "trials" / "old")
    plan(home, removed={"commit": "12e4567", "trials": ["old"]})
    for _ in range(2):
        tables.make(home)
        after = tables.read(home, "all")
        assert after["logits"].tolist() == ["stored", "12e4567", "stored"]
        pd.testing.assert_frame_equal(after.drop(columns="logits"), before.drop(columns="logits"))


def test_a_row_that_nothing_stands_for_is_an_error(home):
    plan(home, removed={"commit": "12e4567", "trials": ["old"]})
    with pytest.raises(BusError, match="logits of old are not stored, and table 'all' has no such row"):
        tables.make(home)
    plan(home)
    shutil.rmtree(home / "trials" / "old")
    with pytest.raises(BusError, match="no finished trial 'old'"):
        tables.make(home)
    with pytest.raises(BusError, match="no table 'other'"):
        tables.make(home, ["other"])


def test_a_trial_that_diverged_is_in_no_table(home, capsys):
    path = home / "trials" / "old" / "b.parquet"
    frame = pd.read_parquet(path)
    frame.loc[3, "logit_0"] = np.nan
    frame.to_parquet(path)
    plan(home)
    assert main(["tables", "--home", str(home)]) == 2
    assert "not finite" in capsys.readouterr().err


def test_decisions_stand_in_the_page_with_the_gain_of_their_row(home):
    entry = {"setting": "stronger", "table": "all", "set": "better", "decision": "kept"}
    plan(home, decisions=[entry])
    (home / tables.EARLIER).write_text("x\n<!-- decisions:start -->\n<!-- decisions:end -->\n")
    tables.make(home)
    row = tables.read(home, "all").set_index("name").loc["better"]
    text = (home / tables.EARLIER).read_text()
    assert f"| stronger | `better` in all | {row['gain']:+.3f} ({row['gain low']:+.3f} to" in text
    assert row["gain low"] > 0


def test_recipes_at_left_out_hospitals_stand_in_the_pages(home):
    first = home / "trials" / "base"
    for source in ("a", "b"):
        frame = pd.read_parquet(first / f"{source}.parquet")
        for name, shift in (("left", 0.0), ("left-seed1", 0.1)):
            target = home / "trials" / name
            target.mkdir(exist_ok=True)
            (target / "change.txt").write_text("none\n")
            # Of the second seed one network is missing.
            if (name, source) != ("left-seed1", "b"):
                moved = frame.assign(logit_0=frame["logit_0"] + shift * frame["label"])
                moved[moved["source"] == source].to_parquet(target / f"without_{source}.parquet")
    sets = ["left", "left + left-seed1"]
    entries = [{"recipe": name, "set": name, "decision": "kept"} for name in sets]
    listed = {"tables": {"hospitals": {"kind": "seeds", "sets": sets}}, "recipes": entries}
    (home / "tables.yaml").write_text(yaml.safe_dump(listed))
    page = home / "page.md"
    for path in (home / "README.md", page):
        path.write_text("<!-- recipes:start -->\n<!-- recipes:end -->\n")
    assert main(["tables", "--home", str(home), "--readme", str(page)]) == 0
    assert page.read_text() == (home / "README.md").read_text()
    lines = page.read_text().splitlines()
    assert lines[1].split(" | ")[:4] == ["| recipe", "networks", "a left out", "b left out"]
    assert [line.split(" | ")[1] for line in lines[3:5]] == ["2", "3"]
    made = tables.read(home, "hospitals").set_index("name")
    assert made.loc["left + left-seed1", "without_b > b"] == made.loc["left", "without_b > b"]


def test_every_trial_of_the_list_is_stored_or_said_to_be_removed():
    stored = {path.parent.name for path in HOME.glob("trials/*/change.txt")}
    removed = set(PLAN["removed"]["trials"])
    listed = {trial for entry in PLAN["tables"].values() for each in entry["sets"] for trial in each.split(" + ")}
    assert stored | removed == listed
    assert not stored & removed
    for name, entry in PLAN["tables"].items():
        frame = tables.read(HOME, name)
        # Rules and views are rows of one set.
        if entry["kind"] in ("seeds", "pooled", "heat_maps"):
            assert list(dict.fromkeys(frame["name"])) == entry["sets"]
        gone = [bool(set(str(each).split(" + ")) & removed) for each in frame["name"]]
        assert (frame["logits"] == PLAN["removed"]["commit"]).tolist() == gone


def test_a_table_that_stands_is_made_again_from_the_stored_logits():
    made = tables.table(HOME, "thresholds", PLAN, tables.Trials(HOME / "trials"))
    pd.testing.assert_frame_equal(made, tables.read(HOME, "thresholds"), atol=1e-6, check_dtype=False)


def test_the_page_is_short_and_the_protocols_hold_their_tables():
    text = (HOME / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert tables.recipes(HOME, PLAN["recipes"]).strip() in text
    earlier = (HOME / tables.EARLIER).read_text(encoding="utf-8")
    assert tables.decisions(HOME, PLAN["decisions"]) in earlier
