"""Two runs do not write one folder, and a killed one leaves no lock behind."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bus_hf.errors import BusError
from bus_hf.training.lock import writing
from bus_hf.training.rerun import rerun
from bus_hf.training.run import run

ROOT = Path(__file__).resolve().parents[2]
# Holds the lock, with a forked child that outlives it and that the parent does not wait for.
_HOLDER = """
import os, sys, time
from pathlib import Path
from bus_hf.training.lock import writing
with writing(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    else:
        os.close(1)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path/run`, and its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path / "run")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)


def test_the_second_writer_is_refused_and_a_killed_one_holds_nothing(tiny, holder):
    short = replace(tiny, epochs=1)
    with pytest.raises(BusError, match=rf"another run is writing here \(process {holder.pid}\)"):
        run(short)
    # Nothing was touched, not even by a run that starts over.
    with pytest.raises(BusError, match="another run"):
        run(replace(short, resume=False))
    assert not (Path(tiny.output) / "config.yaml").exists()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    time.sleep(0.1)
    assert (run(short) / "run.json").is_file()


def test_a_member_is_not_read_again_into_a_folder_at_work(tiny, holder, tmp_path):
    output = run(replace(tiny, epochs=1, output=str(tmp_path / "member")))
    with pytest.raises(BusError, match="another run"):
        rerun(str(output / "checkpoint"), {"data": list(tiny.data), "output": tiny.output})


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BusError, match="output folder cannot be written"), writing(tmp_path / "file" / "run"):
        pass
