"""Killed at any file event, a command leaves what was there or all that is new, and the same command goes on."""

import hashlib
import json
import os
import shutil
import subprocess

# Commands import these late. Imported here, they are there in every child.
import matplotlib.backends.backend_agg  # noqa: F401
import numpy as np
import pandas as pd
import pytest
import scipy.stats  # noqa: F401
import sklearn.model_selection  # noqa: F401
from PIL import Image
from safetensors.torch import load_file

import train_accelerate  # noqa: F401
from bus_hf import files, models
from bus_hf.cli import main
from bus_hf.config import TrainConfig
from bus_hf.data.phantoms import phantom, write_phantoms
from bus_hf.ensemble.folder import read_manifest, verify
from bus_hf.evaluation import stored_logits
from bus_hf.training import state
from bus_hf.training.rerun import rerun
from bus_hf.training.run import run
from research.__main__ import main as research
from tests.killing import KILLED, in_child

pytestmark = pytest.mark.slow
# Kills of one command; where it has more file events, they are taken evenly. BUS_HF_KILLS=1000 kills at every one.
MOST = int(os.environ.get("BUS_HF_KILLS", "4"))
MARKS = "<!-- figures:start -->\n<!-- figures:end -->\n<!-- folds:start -->\n<!-- folds:end -->\n"
RESULTS = (
    "checkpoint",
    "out_of_fold.parquet",
    "run.json",
    "history.json",
    "training_history.png",
    "roc_curve.png",
    "confusion_matrix.png",
)


def config(home, name, **changes):
    settings = {"backbone": "test_resnet", "init": "random", "input_size": 64, "epochs": 1, "batch_size": 16}
    settings |= {"folds": 3, "drop_path_rate": 0.0, "num_workers": 0, "trackers": (), "logging_dir": str(home / "logs")}
    settings |= {"data": (str(home / "data"),), "output": str(home / name)}
    return TrainConfig(**(settings | changes))


@pytest.fixture(scope="module", autouse=True)
def without_drawing(blank_plots):
    with blank_plots():
        yield


def prepare(home):
    """Everything that a command starts from: data, runs, an ensemble, reports, and outputs of an earlier call."""
    write_phantoms(home / "data", 33, 0)
    write_phantoms(home / "few", 4, 1)
    Image.fromarray(phantom(np.random.default_rng(3), "benign")[0]).save(home / "few" / "benign" / "copy.png")
    Image.fromarray(phantom(np.random.default_rng(3), "benign")[0]).save(home / "few" / "benign" / "copy of it.png")
    run(config(home, "one", backbone="test_efficientnet"))
    run(config(home, "two", boxes=str(home / "one" / "out_of_fold.parquet")))
    run(config(home, "third", fold=1))
    run(config(home, "short", data=(str(home / "few"),)))
    boxes = pd.read_parquet(home / "short" / "out_of_fold.parquet")
    boxes["box_x"], boxes["box_y"], boxes["box_w"], boxes["box_h"] = 2.0, 3.0, 20.0, 15.0
    boxes.to_parquet(home / "boxes.parquet")
    (home / "README.md").write_text(MARKS)
    command = ["build", "ensemble", str(home / "one"), "--to", str(home / "made")]
    assert main([*command, "--name", "before"]) == 0
    for name in ("audit", "views", "heat", "plots"):
        (home / name).mkdir()
    return 0


def calibrate(home):
    """The command with made logits in the place of inference."""
    from bus_hf.build.site_calibration import SiteCases
    from bus_hf.cli import calibrate as command

    def read(detector, cases):
        rng = np.random.default_rng(0)
        labels = np.array([case.label for case in cases])
        names = np.array([case.name for case in cases])
        return SiteCases(rng.normal(2.0 * labels - 1, 1.5), labels, names, np.full(len(names), "site")), False

    command.read_cases = read
    return main(["calibrate", str(home / "data"), "--ensemble", str(home / "made"), "--to", str(home / "site")])


def trial(home):
    """The command with a finished run in the place of its training."""

    def trained(command, check):
        shutil.copytree(home / "short", command[command.index("--output") + 1], dirs_exist_ok=True)
        return subprocess.CompletedProcess(command, 0)

    subprocess.run = trained
    os.chdir(home)
    return research(["run", "base", "--data", str(home / "few"), "--sources", "few", "--to", "trials"])


def again(home, **changes):
    run(config(home, "short", data=(str(home / "few"),), **changes))


def begin(home):
    changes = {"epochs": 2, "patience": 2, "phantoms": 4, "data": ()}
    run(config(home, "begun", **changes))


def read_again(home, output):
    given = {"data": [str(home / "few")], "output": str(home / output), "boxes": str(home / "boxes.parquet")}
    rerun(str(home / "short" / "checkpoint"), given)


def folds(home):
    runs = [str(home / "two"), str(home / "third")]
    return main(["build", "report", *runs, "--to", str(home / "report"), "--readme", str(home / "README.md")])


def command_line(*arguments):
    return lambda home: main([argument.replace("HOME", str(home)) for argument in arguments])


# Command -> what does it, and what it writes; each path is as it was or all new. Runs are opened instead.
COMMANDS = {
    "train": (begin, ()),
    "train again": (lambda home: again(home, boxes=str(home / "boxes.parquet")), ()),
    "train anew": (lambda home: again(home, resume=False), ()),
    "reread": (lambda home: read_again(home, "short"), ()),
    "reread elsewhere": (lambda home: read_again(home, "other"), ()),
    "trial": (trial, ("trials/base/few.parquet", "trials/base/few.yaml", "trials/base/change.txt")),
    "build report": (folds, ("report", "README.md")),
    "build ensemble": (command_line("build", "ensemble", "HOME/one", "HOME/two", "--to", "HOME/made"), ("made",)),
    "build figures": (
        command_line("build", "figures", "HOME/made", "--readme", "HOME/README.md"),
        ("made", "README.md"),
    ),
    "calibrate": (calibrate, ("site",)),
    "audit": (
        command_line(
            "audit", "HOME/few", "--csv", "HOME/audit/a.csv", "--sheet", "HOME/audit/a.png", "--card", "HOME/README.md"
        ),
        ("audit/a.csv", "audit/a.png", "README.md"),
    ),
    "evaluate": (
        command_line("evaluate", "--oof", "HOME/made", "--plots", "HOME/plots"),
        tuple(f"plots/{name}.png" for name in ("roc_curve", "decision_curve", "reliability", "confusion_matrix")),
    ),
    "views": (command_line("views", "HOME/few/benign/copy.png", "-o", "HOME/views/a.png"), ("views/a.png",)),
    "predict": (
        command_line(
            "predict", "HOME/few/benign/copy.png", "--ensemble", "HOME/made", "--heatmap", "HOME/heat", "--light"
        ),
        ("heat/copy_heatmap.png",),
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder to copy from; made in a child, since a process that has trained cannot fork well."""
    home = tmp_path_factory.mktemp("kills") / "home"
    home.mkdir()
    with open(home.parent / "log", "a+b") as log:
        status, _ = in_child(lambda: prepare(home), log.fileno())
        log.seek(0)
        assert status == 0, log.read().decode()[-3000:]
    home.rename(home.with_name("before"))
    return home.with_name("before")


def digest(path):
    """Of a file, or of everything in a folder; None where nothing is."""
    if path.is_dir():
        return {file.relative_to(path).as_posix(): digest(file) for file in sorted(path.rglob("*")) if file.is_file()}
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def require_whole_run(folder):
    """A run is finished and can be read, or it has a whole state or none to go on from."""
    files.settle(folder)
    files.mend(folder / "state")
    if (folder / "run.json").exists():
        assert all((folder / name).exists() for name in RESULTS), sorted(path.name for path in folder.iterdir())
        record = json.loads((folder / "run.json").read_text())
        frame = stored_logits.read(folder / "out_of_fold.parquet")
        assert frame["name"].nunique() == record["n_held_out"]
        # What the record says of the boxes is what the logits were read in.
        given = str(record["config"]["boxes"]).endswith("boxes.parquet")
        assert bool((frame["box_w"] == 20.0).all()) == given
        assert len(json.loads((folder / "history.json").read_text())) == record["epochs"]
        models.load_member(folder / "checkpoint")
        for name in RESULTS[-3:]:
            Image.open(folder / name).load()
    kept = state.stored(folder)
    if kept:
        load_file(kept[0] / "model.safetensors")
        assert (kept[0] / "optimizer.bin").stat().st_size > 0


def require_whole(home, before, after, outputs):
    for name in ("begun", "short", "other"):
        if (home / name).is_dir():
            require_whole_run(home / name)
    for name in outputs:
        current = digest(home / name)
        assert current in (before[name], after[name]), f"{name} is neither the old nor the new one"
    for name in ("made", "site"):
        if (home / name).is_dir():
            verify(home / name, read_manifest(home / name))


def litter(home):
    return sorted(str(path) for path in home.rglob(".*") if ".part-" in path.name or path.name == ".settling")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_kill_at_any_file_event_is_mended_by_the_same_command(command, prepared):
    work, outputs = COMMANDS[command]
    home = prepared.with_name("home")
    before = {name: digest(prepared / name) for name in outputs}

    def start():
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(prepared, home)

    with open(prepared.parent / "log", "w+b") as log:
        start()
        status, events = in_child(lambda: work(home), log.fileno())
        log.seek(0)
        assert status == 0, log.read().decode(errors="replace")[-3000:]
        after = {name: digest(home / name) for name in outputs}
        assert not outputs or after != before
        assert events
        assert litter(home) == []
        places = np.unique(np.linspace(0, len(events) - 1, min(MOST, len(events))).astype(int)).tolist()
        for place in places:
            start()
            log.truncate(0)
            status, _ = in_child(lambda: work(home), log.fileno(), place)
            message = f"killed at event {place} of {len(events)}: {events[place]}"
            assert status == KILLED, message

            def check():
                require_whole(home, before, after, outputs)
                return work(home)

            status, _ = in_child(check, log.fileno())
            log.seek(0)
            assert status == 0, f"{message}\n{log.read().decode(errors='replace')[-3000:]}"
            assert {name: digest(home / name) for name in outputs} == after, message
            assert litter(home) == [], message
    shutil.rmtree(home)


def test_a_settled_run_is_what_readers_see(prepared, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(prepared / "short", folder)
    new = folder / ".settling"
    (new / "checkpoint").mkdir(parents=True)
    for name in ("history.json", "run.json"):
        (new / name).write_text("{}")
    (new / "checkpoint" / "config.json").write_text("{}")
    files.settle(folder)
    assert (folder / "run.json").read_text() == (folder / "history.json").read_text() == "{}"
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["config.json"]
    assert (folder / "out_of_fold.parquet").is_file()
    assert not new.exists()
