"""`bus-hf trial` and `bus-hf trials`: one change at a time, read in-source and cross-source, and the table of all."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bus_hf.cli import shared
from bus_hf.config import MACHINE
from bus_hf.errors import BusError
from bus_hf.filenames import LOGITS
from bus_hf.files import replace_file, settle

if TYPE_CHECKING:
    import pandas as pd

_TRIAL = """\
  bus-hf trial baseline --data DATA/busi DATA/busbra
  bus-hf trial larger --data DATA/busi DATA/busbra --set input_size=160
  bus-hf trial no-lesion-term --data DATA/busi DATA/busbra --set lesion_weight=0 inside_weight=0
  bus-hf trial on-its-boxes --data DATA/busi DATA/busbra --set boxes=trials/baseline/{source}.parquet"""
_TRIAL_NOTES = """\
One network a source is trained by the config, each reads its own held-out fold and all images of the other sources, and
the logits are kept in trials/NAME/. {source} in a value stands for the source that is trained on. A trial that was
stopped goes on when it is started again in the same way."""

_TRIALS = """\
  bus-hf trials
  bus-hf trials --base scanner --log LOG.md
  bus-hf trials --looks full --log LOG.md              what each look and view of it gives
  bus-hf trials --thresholds full --log LOG.md         what its thresholds give on the source it never saw
  bus-hf trials --base full --together full+full-seed1 --log LOG.md           what they give when they vote together
  bus-hf trials --repeats full+full-seed1 taught+taught-seed1 --log LOG.md    means of what differs by its seed
  bus-hf trials --heat full no-inside --log LOG.md                            how heat maps lie on lesions
  bus-hf trials --votes full+full-b0+full-resnet50 --log LOG.md               how their votes should be found"""
_TRIALS_NOTES = """\
Nothing is trained. Trials are compared with one of them (--base), all on the same resamples of groups. In a log the
part between the lines <!-- trials:start --> and <!-- trials:end --> is replaced, or that of another table. An interval
covers the choice of images, not the chance of a training: what counts is to be repeated under another seed."""

_CHANGE = "change.txt"
# Tables that are asked for by name, and the markers of their places in a log.
_TABLES = ("looks", "thresholds", "together", "repeats", "heat", "votes")


def add(commands: Any) -> None:
    """Add both subcommands."""
    command = shared.subcommand(commands, "trial", "try one change of the training settings", _TRIAL, _TRIAL_NOTES)
    command.add_argument("name", metavar="NAME", help="of the trial: letters, digits and hyphens")
    command.add_argument(
        "--data", nargs="+", action="extend", required=True, metavar="DATA", help="one folder or Hub id a source"
    )
    command.add_argument(
        "--set", nargs="*", action="extend", default=[], metavar="KEY=VALUE", help="settings that differ"
    )
    command.add_argument("--config", type=Path, default=Path("configs/trial.yaml"), help="(default: %(default)s)")
    command.add_argument("--sources", nargs="+", action="extend", help="to train on (default: busi busbra)")
    command.add_argument("--to", type=Path, default=Path("trials"), metavar="FOLDER", help="(default: %(default)s)")
    command.set_defaults(run=run_trial)
    command = shared.subcommand(commands, "trials", "compare the trials that were made", _TRIALS, _TRIALS_NOTES)
    command.add_argument("folder", nargs="?", type=Path, default=Path("trials"), help="(default: %(default)s)")
    command.add_argument("--base", default="baseline", metavar="NAME", help="to compare with (default: %(default)s)")
    command.add_argument("--log", type=Path, metavar="FILE", help="Markdown file to put the table into")
    command.add_argument("--looks", metavar="NAME", help="all views, each look and each view of this trial")
    command.add_argument("--thresholds", metavar="NAME", help="thresholds of this trial, on sources that it never saw")
    command.add_argument(
        "--together",
        action="extend",
        nargs="+",
        metavar="NAME+NAME",
        help="these trials apart, and the mean logit of each sum",
    )
    command.add_argument(
        "--repeats",
        action="extend",
        nargs="+",
        metavar="NAME+NAME",
        help="mean figures of trials that differ in their seed alone",
    )
    command.add_argument(
        "--heat", action="extend", nargs="+", metavar="NAME", help="how boxes and heat maps of these lie on lesions"
    )
    command.add_argument(
        "--votes", metavar="NAME+NAME", help="fit the votes of these on one source by several rules, read the others"
    )
    command.add_argument(
        "--marker", metavar="NAME", help="lines of the log to put the table between (default: those of its kind)"
    )
    command.add_argument("--json", action="store_true", help="print the figures as JSON")
    command.set_defaults(run=run_trials)


def run_trial(given: argparse.Namespace) -> int:
    """Train a network a source and keep its logits; 1 where a training stopped."""
    settings = [text.partition("=") for text in given.set]
    if not all(key and value for key, _, value in settings):
        raise BusError("a change has no value", where="--set", remedy="write KEY=VALUE, as input_size=160")
    keys = [key for key, _, _ in settings]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise BusError(f"{twice[0]} is given twice", where="--set", remedy="give each key once")
    if not given.name.replace("-", "").replace("_", "").isalnum():
        raise BusError(f"'{given.name}' is no name of a trial", remedy="use letters, digits and hyphens")
    target = given.to / given.name
    for source in given.sources or ("busi", "busbra"):
        if (target / f"{source}.parquet").is_file():
            continue
        output = Path("runs") / "trials" / given.name / source
        command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "train_accelerate.py"]
        command += ["--config", str(given.config), "--data", *given.data, "--train_sources", source]
        command += ["--output", str(output)]
        for key, _, value in settings:
            command += [f"--{key}", *value.replace("{source}", source).split(",")]
        if subprocess.run(command, check=False).returncode:
            print(f"bus-hf: the training on {source} stopped; the same command goes on.", file=sys.stderr)
            return 1
        settle(output)
        # The logits last: where they stand, this source is done.
        for name, suffix in (("config.yaml", "yaml"), (LOGITS, "parquet")):
            with _kept(target / f"{source}.{suffix}") as part:
                shutil.copyfile(output / name, part)
    changed = [text for text in given.set if text.partition("=")[0] not in MACHINE]
    # The last of all: where it stands, the trial is finished.
    with _kept(target / _CHANGE) as part:
        part.write_text((", ".join(changed) or "none") + "\n", encoding="utf-8")
    return 0


@contextmanager
def _kept(path: Path) -> Iterator[Path]:
    try:
        with replace_file(path) as part:
            yield part
    except OSError as error:
        raise shared.unwritable(path, error) from None


def run_trials(given: argparse.Namespace) -> int:
    """Print a table of finished trials: all of them, some voting together, or what one gives."""
    import json

    from bus_hf.reporting import tables, trials
    from bus_hf.views import VIEW_WEIGHTS

    asked = [kind for kind in _TABLES if getattr(given, kind)]
    if len(asked) > 1:
        raise BusError(
            f"trials takes one of {', '.join(f'--{kind}' for kind in _TABLES)}, not {len(asked)}",
            remedy="ask for one after the other",
        )
    if given.looks:
        rows = trials.looks(_logits(given.folder, given.looks), VIEW_WEIGHTS)
        text = trials.markdown(rows)
    elif given.thresholds:
        rows = trials.thresholds(_logits(given.folder, given.thresholds), VIEW_WEIGHTS)
        text = trials.thresholds_markdown(rows)
    elif given.together:
        names = dict.fromkeys([given.base, *(name for joined in given.together for name in joined.split("+"))])
        alone = {name: _logits(given.folder, name) for name in names}
        joined = {
            " + ".join(some): trials.together({name: alone[name] for name in some})
            for some in (text.split("+") for text in given.together)
        }
        rows = trials.table(alone | joined, VIEW_WEIGHTS)
        text = trials.markdown(rows)
    elif given.repeats:
        sets = {
            " and ".join(some): [_logits(given.folder, name) for name in some]
            for some in (text.split("+") for text in given.repeats)
        }
        rows = trials.repeats(sets, VIEW_WEIGHTS)
        text = trials.markdown(rows)
    elif given.heat:
        found = trials.heat_maps({name: _logits(given.folder, name) for name in given.heat}, VIEW_WEIGHTS)
        rows = [{"name": name, "on_lesions": each} for name, each in found.items()]
        text = tables.heat_table({"heat_maps": found})
    elif given.votes:
        some = {name: _logits(given.folder, name) for name in given.votes.split("+")}
        rows = trials.vote_rules(trials.together(some), VIEW_WEIGHTS)
        text = trials.markdown(rows)
    else:
        others = sorted(path.parent.name for path in given.folder.glob(f"*/{_CHANGE}"))
        names = dict.fromkeys([given.base, *others])
        rows = trials.table({name: _logits(given.folder, name) for name in names}, VIEW_WEIGHTS)
        changes = {name: (given.folder / name / _CHANGE).read_text(encoding="utf-8").strip() for name in names}
        rows = [row | {"change": changes[row["name"]]} for row in rows]
        text = trials.markdown(rows, changes)
    if given.json:
        print(json.dumps(rows, indent=1))
        return 0
    if given.log:
        shared.replace_figures(given.log, text, given.marker or (asked or ["trials"])[0])
    print(text)
    return 0


def _logits(folder: Path, name: str) -> dict[str, pd.DataFrame]:
    """Logits of a finished trial, by the source that each network trained on."""
    from bus_hf.build.fold_report import counted
    from bus_hf.evaluation import stored_logits

    if not (folder / name / _CHANGE).is_file():
        raise BusError(f"no finished trial '{name}' is here", where=folder, remedy=f"bus-hf trial {name} ...")
    return {path.stem: counted(stored_logits.read(path), folder) for path in sorted((folder / name).glob("*.parquet"))}
