"""Every hostile file is read or refused with one sentence, within bounds of time and of the worker's memory."""

import importlib.util
import threading
import time
from pathlib import Path

import numpy as np

from bus_hf.data.decoding import isolated
from bus_hf.data.images import read_image
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError

_spec = importlib.util.spec_from_file_location("hostile_files", Path(__file__).with_name("files.py"))
assert _spec
assert _spec.loader
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)

MAX_SECONDS, MAX_MEGABYTES = 10.0, 500


class Peak:
    """The highest resident memory in MB of the decoding process while a file is read; 0 where /proc is absent."""

    def __enter__(self):
        self.megabytes, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(0.002):
            try:
                status = Path(f"/proc/{isolated.WORKER.pid}/status").read_text(encoding="ascii")
                line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            except (OSError, StopIteration):
                continue
            self.megabytes = max(self.megabytes, int(line.split()[1]) / 1024)


def measured(data, name):
    """What became of a file: "read" or the sentence, with seconds and megabytes."""
    with Peak() as peak:
        start = time.monotonic()
        try:
            read_image(data, name=name, check=False)
            what = "read"
        except BusError as error:
            what = str(error)
            assert what.endswith(".")
            assert "\n" not in what
        took = time.monotonic() - start
    return what, took, peak.megabytes


def report(rows):
    slowest, largest = max(rows, key=lambda row: row[2]), max(rows, key=lambda row: row[3])
    print(f"{len(rows)} files, {sum(row[1] == 'read' for row in rows)} read")
    print(f"slowest {slowest[2]:.2f} s ({slowest[0]}), largest {largest[3]:.0f} MB ({largest[0]})")
    for name, what, took, megabytes in rows:
        assert took < MAX_SECONDS, (name, what, took)
        assert megabytes < MAX_MEGABYTES, (name, what, megabytes)


def test_hostile_files_stay_in_their_bounds():
    files = hostile.files()
    assert len(files) >= 200
    report([(name, *measured(data, name)) for name, data in files.items()])
    grey = phantom(np.random.default_rng(0), "benign", (120, 160))[0]
    assert np.array_equal(read_image(hostile.encoded(hostile.Image.fromarray(grey))), grey)


def test_large_honest_files_stay_in_their_bounds():
    report([(name, *measured(data, name)) for name, data in hostile.honest().items()])
