"""A finished training run to the Hub: its member with a card of its out-of-fold metrics."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bus_hf.build import fold_report
from bus_hf.build.assemble import assemble
from bus_hf.build.describe import read_report
from bus_hf.ensemble.records import plain, read_run
from bus_hf.errors import BusError
from bus_hf.evaluation import calibration, stored_logits
from bus_hf.filenames import CHECKPOINT, CONFIG, GRAPH, HISTORY, LESION_HEAD, LOGITS, RUN, WEIGHTS
from bus_hf.files import settle
from bus_hf.hub.outgoing import outgoing
from bus_hf.hub.upload import Pushed, push_member
from bus_hf.reporting import cards, multiclass

# All that a push reads of a run.
FILES = (
    RUN,
    HISTORY,
    LOGITS,
    f"{CHECKPOINT}/{CONFIG}",
    f"{CHECKPOINT}/{WEIGHTS}",
    f"{CHECKPOINT}/{GRAPH}",
    f"{CHECKPOINT}/{LESION_HEAD}",
)


def push_run(output: str | Path, repo_id: str, *, private: bool = False) -> Pushed:
    """Push the member of a finished run, with a card of its metrics on the fold that it held out.

    Args:
        output: output folder of `train_accelerate.py`.
        repo_id: `owner/name` of the model.
        private: make a new repository private.

    Raises:
        BusError: the run is not finished, no access, or the Hub cannot be reached.
    """
    settle(Path(output))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = _copied(Path(output), folder / "run")
        try:
            record = plain(read_run(run))
        except BusError as error:
            # Its place is the user's folder, not the copy.
            raise BusError(error.what, where=output, remedy=error.remedy) from None
        if record["label_set"] == "malignancy":
            frame = stored_logits.read(run / LOGITS)
            try:
                calibration.check_counts(frame["label"].to_numpy(), frame["group"].to_numpy())
            except BusError as error:
                card = cards.unmeasured_card(record, record["architecture"], f"{error.what}.")
                (run / CHECKPOINT / "README.md").write_text(card, encoding="utf-8")
                return push_member(run / CHECKPOINT, repo_id, private=private)
            assemble([run], folder / "ensemble")
            home = folder / "ensemble" / record["architecture"]
            metrics = read_report(folder / "ensemble")
            card = cards.member_card(metrics, record, record["architecture"], lone=True)
            (home / "README.md").write_text(card, encoding="utf-8")
            return push_member(home, repo_id, points=list(calibration.POINTS), private=private)
        shutil.copytree(run / CHECKPOINT, folder / "member")
        fold_report.join([run], folder / "report")
        _, page, _ = fold_report.describe(folder / "report")
        (folder / "member" / "README.md").write_text(multiclass.card(page, [record], lone=True), encoding="utf-8")
        return push_member(folder / "member", repo_id, private=private)


def _copied(run: Path, target: Path) -> Path:
    """Copy the files of a run that a push reads, and no other; what is no regular file is a BusError."""
    for name, path in outgoing(run, (), FILES).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name, follow_symlinks=False)
    return target
