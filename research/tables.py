"""The tables of the protocols, by the list in tables.yaml: CSV files, and tables inside the protocols."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from bus_hf.build.fold_report import counted
from bus_hf.errors import BusError
from bus_hf.evaluation import stored_logits
from bus_hf.files import replace_file
from bus_hf.reporting.cards import replace_between
from bus_hf.reporting.markdown import estimate, markdown_table, signed
from bus_hf.views import VIEW_WEIGHTS
from research import comparison
from research.run import CHANGE

# The protocol that holds the table of decisions.
EARLIER = "ensembles_1_to_3.md"
# In the column `logits`: the row was made from logits that are stored. Otherwise it names a commit.
STORED = "stored"
_AND = " + "


class Trials:
    """The stored logits of finished trials in a folder, each read once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logits: dict[str, dict[str, pd.DataFrame]] = {}

    def logits(self, name: str) -> dict[str, pd.DataFrame]:
        """Held-out logits of a trial, by the source that each network trained on; BusError where it is not finished."""
        if name not in self._logits:
            home = self.folder / name
            if not (home / CHANGE).is_file():
                remedy = f"python -m research run {name} ..."
                raise BusError(f"no finished trial '{name}' is here", where=self.folder, remedy=remedy)
            self._logits[name] = {
                path.stem: counted(stored_logits.read(path), self.folder) for path in sorted(home.glob("*.parquet"))
            }
        return self._logits[name]

    def change(self, name: str) -> str:
        """What a trial changed."""
        return (self.folder / name / CHANGE).read_text(encoding="utf-8").strip()


def seeds(trials: Trials, sets: Sequence[str]) -> list[dict[str, Any]]:
    """Mean metrics of each set, whose trials differ in their seed, against the first set."""
    logits = {name: [trials.logits(trial) for trial in name.split(_AND)] for name in sets}
    rows = comparison.compare(logits, VIEW_WEIGHTS)
    # A set of one trial says what that trial changed.
    return [row | ({} if _AND in row["name"] else {"change": trials.change(row["name"])}) for row in rows]


def pooled(trials: Trials, sets: Sequence[str]) -> list[dict[str, Any]]:
    """Each set as one ensemble of equal weights, against the first set."""
    logits = {name: [comparison.pooled({trial: trials.logits(trial) for trial in name.split(_AND)})] for name in sets}
    return comparison.compare(logits, VIEW_WEIGHTS)


def views(trials: Trials, sets: Sequence[str]) -> list[dict[str, Any]]:
    """What all views, each group of views and each view of a trial give."""
    return comparison.compare_views(trials.logits(_single(sets)), VIEW_WEIGHTS)


def thresholds(trials: Trials, sets: Sequence[str]) -> list[dict[str, Any]]:
    """What the thresholds of a trial give on the source that they never saw."""
    name = _single(sets)
    return [{"name": name} | row for row in comparison.thresholds(trials.logits(name), VIEW_WEIGHTS)]


def heat_maps(trials: Trials, sets: Sequence[str]) -> list[dict[str, Any]]:
    """How the boxes and heat maps of trials lie on the drawn lesions."""
    rows = []
    for name in sets:
        for key, measured in comparison.heat_maps(trials.logits(name), VIEW_WEIGHTS).items():
            boxes = {f"box {metric}": measured["all"][f"box_{metric}"] for metric in ("iou", "hit_rate")}
            maps = {
                f"{metric}, malignant": measured["malignant"][metric] for metric in ("pointing_game", "energy_inside")
            }
            rows.append({"name": name, "measured": key, "n": measured["n"]} | boxes | maps)
    return rows


def weights(trials: Trials, sets: Sequence[str]) -> list[dict[str, Any]]:
    """Rules for the weights of members, fitted on one source and measured on the other."""
    names = _single(sets).split(_AND)
    return comparison.compare_rules(comparison.pooled({name: trials.logits(name) for name in names}), VIEW_WEIGHTS)


KINDS: dict[str, Callable[[Trials, Sequence[str]], list[dict[str, Any]]]] = {
    kind.__name__: kind for kind in (seeds, pooled, views, thresholds, heat_maps, weights)
}


def make(home: Path, names: Sequence[str] = (), readme: Path | None = None) -> int:
    """Make tables again from the stored logits; then those that stand in the protocols, where there are some.

    Args:
        home: holds tables.yaml and trials/, and gets tables/NAME.csv.
        names: of the tables; all where none is given.
        readme: Markdown file that gets the table of recipes between its recipes markers.

    Raises:
        BusError: a table is not listed, or a trial is neither stored nor in the table that stands.
    """
    plan = yaml.safe_load((home / "tables.yaml").read_text(encoding="utf-8"))
    trials = Trials(home / "trials")
    for name in names or plan["tables"]:
        if name not in plan["tables"]:
            raise BusError(f"no table '{name}' is listed", where=home / "tables.yaml", remedy="choose one of the list")
        frame = table(home, name, plan, trials)
        path = home / "tables" / f"{name}.csv"
        with replace_file(path) as part:
            frame.to_csv(part, index=False)
        print(f"written: {path}", file=sys.stderr)
    if plan.get("decisions"):
        _replace(home / EARLIER, "decisions", decisions(home, plan["decisions"]))
    if plan.get("recipes"):
        _replace(home / "README.md", "recipes", recipes(home, plan["recipes"]))
    if readme:
        _replace(readme, "recipes", recipes(home, plan["recipes"]))
    return 0


def read(home: Path, name: str) -> pd.DataFrame:
    """A table that was made."""
    return pd.read_csv(home / "tables" / f"{name}.csv", dtype={"logits": str}, keep_default_na=False, na_values=[""])


def table(home: Path, name: str, plan: Mapping[str, Any], trials: Trials) -> pd.DataFrame:
    """Rows of a table in the order of its list: of stored trials made anew, of others as they stand."""
    entry, removed = plan["tables"][name], plan.get("removed") or {}
    gone = [each for each in entry["sets"] if set(each.split(_AND)) & set(removed.get("trials", ()))]
    stored = [each for each in entry["sets"] if each not in gone]
    rows = KINDS[entry["kind"]](trials, stored)
    made = pd.DataFrame([_flat(row) | {"logits": STORED} for row in rows])
    if not gone:
        return made
    before = read(home, name) if (home / "tables" / f"{name}.csv").is_file() else pd.DataFrame({"name": []})
    lacking = sorted(set(gone) - set(before["name"]))
    if lacking:
        raise BusError(
            f"the logits of {', '.join(lacking)} are not stored, and table '{name}' has no such row",
            where=home / "tables",
            remedy=f"take trials/ of commit {removed['commit']}",
        )
    kept = before[before["name"].isin(gone)].assign(logits=str(removed["commit"]))
    both = pd.concat([made, kept], ignore_index=True)
    order = {each: place for place, each in enumerate(entry["sets"])}
    return both.sort_values("name", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def decisions(home: Path, entries: Sequence[Mapping[str, str]]) -> str:
    """Markdown table of what was decided, with the gain of each set in its table."""
    rows = []
    for entry in entries:
        frame = read(home, entry["table"])
        row = frame[frame["name"] == entry["set"]].iloc[0]
        gains = [signed(_estimate(row, key)) for key in ("gain", "gain_in_source", "gain_cross_source")]
        rows.append((entry["setting"], f"`{entry['set']}` in {entry['table']}", *gains, entry["decision"]))
    return markdown_table(("setting", "trials", "gain", "in-source", "cross-source", "decision"), rows)


def recipes(home: Path, entries: Sequence[Mapping[str, str]]) -> str:
    """Markdown table of what recipes give at hospitals that were left out, the first one to compare with."""
    frame = read(home, "hospitals").set_index("name")
    hospitals = [name for name in frame if str(name).count(" > ") and not str(name).endswith((" low", " high"))]
    rows = []
    for entry in entries:
        row = frame.loc[entry["set"]]
        areas = [estimate(_estimate(row, hospital)) for hospital in (*hospitals, "mean")]
        rows.append((entry["recipe"], row["networks"], *areas, signed(_estimate(row, "gain")), entry["decision"]))
    titles = [f"{hospital.split(' > ')[1]} left out" for hospital in hospitals]
    return markdown_table(("recipe", "networks", *titles, "mean", "gain", "decision"), rows)


def _single(sets: Sequence[str]) -> str:
    (name,) = sets
    return name


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without nesting: an estimate takes three columns, NAME, NAME low and NAME high."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if not isinstance(value, Mapping):
            flat[key] = value
        elif set(value) == {"value", "low", "high"}:
            flat |= {key: value["value"], f"{key} low": value["low"], f"{key} high": value["high"]}
        else:
            flat |= _flat(value)
    return flat


def _estimate(row: pd.Series, key: str) -> dict[str, float]:
    return {"value": row[key], "low": row[f"{key} low"], "high": row[f"{key} high"]}


def _replace(path: Path, marker: str, text: str) -> None:
    with replace_file(path) as part:
        part.write_text(replace_between(path.read_text(encoding="utf-8"), marker, text), encoding="utf-8")
