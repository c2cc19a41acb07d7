"""Decoding in a process of its own: limits, replacement, threads, forks."""

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from bus_hf.data.decoding import isolated
from bus_hf.data.decoding.decode import LIMITS, decode
from bus_hf.data.phantoms import phantom
from bus_hf.errors import BusError


@pytest.fixture(scope="module")
def grey():
    return phantom(np.random.default_rng(0), "benign", (120, 160))[0]


@pytest.fixture
def worker():
    # A busy machine may take long over a large image.
    with contextlib.closing(isolated.Worker(max_wait=60.0)) as worker:
        yield worker


def encoded(pixels, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_it_answers_what_decoding_here_gives(worker, grey):
    layers = np.dstack([grey, grey // 2, grey, grey])
    for data in (encoded(grey), encoded(layers), encoded(layers[:, :, :3], "JPEG")):
        there, here = worker.decode(data, "x", LIMITS), decode(data, "x")
        for name in ("pixels", "alpha", "colours"):
            one, other = getattr(there, name), getattr(here, name)
            assert (one is None) == (other is None)
            assert one is None or np.array_equal(one, other)
        assert (there.orientation, there.lossy) == (here.orientation, here.lossy)


def test_one_process_serves_many_images_and_errors(worker, grey):
    worker.decode(encoded(grey), "x", LIMITS)
    first = worker.pid
    with pytest.raises(BusError, match=r"^bad\.png: this is no image of a known kind"):
        worker.decode(b"no image", "bad.png", LIMITS)
    worker.decode(encoded(grey), "x", LIMITS)
    assert worker.pid == first


def test_the_memory_of_the_caller_is_not_counted(worker, grey):
    held = np.ones(300 * 2**20, np.uint8)
    worker.decode(encoded(grey), "x", LIMITS)
    assert worker.pid is not None
    assert held[-1]


def test_a_process_that_kept_much_memory_is_replaced(worker):
    data = encoded(np.zeros((4_000, 5_000, 4), np.uint8))
    assert worker.decode(data, "x", LIMITS).pixels.shape[:2] == (4_000, 5_000)
    assert worker.pid is None


def test_a_dead_process_is_replaced(worker, grey):
    worker.decode(encoded(grey), "x", LIMITS)
    os.kill(worker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    assert np.array_equal(worker.decode(encoded(grey), "x", LIMITS).pixels, grey)


@pytest.mark.parametrize("dies", [False, True])
def test_a_process_that_hangs_or_dies_over_an_image_costs_that_image_alone(grey, dies):
    with contextlib.closing(isolated.Worker(max_wait=2.0)) as worker:
        worker.decode(encoded(grey), "x", LIMITS)
        os.kill(worker.pid, signal.SIGSTOP)
        if dies:
            threading.Timer(0.3, os.kill, (worker.pid, signal.SIGKILL)).start()
        start = time.monotonic()
        with pytest.raises(BusError, match=r"^x: the image takes more memory or time to decode than one may; export"):
            worker.decode(encoded(grey), "x", LIMITS)
        assert time.monotonic() - start < 5
        assert np.array_equal(worker.decode(encoded(grey), "x", LIMITS).pixels, grey)


def limited(code, cwd=None):
    """Status and output of code under the limits of the worker."""
    prelude = "import signal, numpy as np\nfrom bus_hf.data.decoding import worker\nworker.limit_resources()\n"
    environment = os.environ | {"PYTHONPATH": str(isolated._ROOT)}
    command = [sys.executable, "-c", prelude + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, env=environment)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not bound memory this way")
def test_memory_is_bounded():
    assert limited("np.ones(300 * 2**20, np.uint8); print('fits')") == (0, "fits\n")
    status, text = limited("np.ones(500 * 2**20, np.uint8)")
    assert status == 1
    assert "MemoryError" in text


def test_processor_time_is_bounded():
    spin = "signal.setitimer(signal.ITIMER_PROF, worker.MAX_SECONDS)\nwhile True: np.ones(1000).sum()"
    assert limited(spin)[0] == -signal.SIGPROF


def test_no_file_is_written(tmp_path):
    status, _ = limited("file = open('made', 'w')\nfile.write('x')\nfile.flush()", tmp_path)
    assert status != 0
    assert (tmp_path / "made").stat().st_size == 0


def test_threads_get_their_own_images(worker):
    images = [np.random.default_rng(seed).integers(0, 256, (40, 50), dtype=np.uint8) for seed in range(24)]
    with ThreadPoolExecutor(8) as pool:
        result = list(pool.map(lambda image: worker.decode(encoded(image), "x", LIMITS).pixels, images))
    assert all(np.array_equal(one, other) for one, other in zip(result, images, strict=True))


def _in_child(queue, data):
    queue.put(int(isolated.decode(data, "x", LIMITS).pixels.sum()))


def test_a_forked_process_starts_a_worker_of_its_own(grey):
    data = encoded(grey)
    isolated.decode(data, "x", LIMITS)
    before = isolated.WORKER.pid
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    # Held as by another thread that is decoding right now.
    with isolated.WORKER._lock:
        child = context.Process(target=_in_child, args=(queue, data))
        child.start()
        assert queue.get(timeout=30) == grey.sum()
    child.join(30)
    assert child.exitcode == 0
    assert isolated.WORKER.pid == before
    assert np.array_equal(isolated.decode(data, "x", LIMITS).pixels, grey)


def test_the_worker_imports_nothing_heavy():
    status, text = limited("import sys; print(*sys.modules)")
    assert status == 0
    assert "bus_hf.data.decoding.worker" in text.split()
    assert set(text.split()) & {"torch", "timm", "gradio", "datasets", "scipy", "pandas"} == set()
