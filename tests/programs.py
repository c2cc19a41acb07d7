"""Python programs in processes of their own, forked from one that has imported PyTorch: that is most of their start.

Imported before the fork is what reads no setting. Caches, tokens, the address of the Hub and a backend of plots are
read as the libraries that need them are imported, so each program has its own. What atexit knows of is not run.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["torch", "torchvision", "cv2", "pandas", "scipy.stats", "sklearn.model_selection"])


def start(
    arguments: Sequence[object], environment: Mapping[str, str], folder: Path, out: Path, err: Path
) -> BaseProcess:
    """Start Python with arguments: `-m MODULE`, `-c CODE` or a file, then those of the program.

    Args:
        arguments: what would follow `python` on a command line.
        environment: the whole environment of the program.
        folder: where it runs.
        out: file that gets its stdout.
        err: file that gets its stderr; may be the same one.
    """
    words = [str(argument) for argument in arguments]
    program = _FORKS.Process(target=_become, args=(words, dict(environment), folder, (out, err)))
    program.start()
    return program


def python(
    arguments: Sequence[object],
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    timeout: float = 180,
    together: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments, as `start` takes them, to its end.

    Args:
        arguments: what would follow `python` on a command line.
        environment: the whole environment of the program.
        folder: where it runs; that of this process by default.
        timeout: seconds.
        together: give what it writes to stderr in stdout too, in the order of its writing; stderr is "" then.

    Raises:
        subprocess.TimeoutExpired: the program did not end in time, and was killed.
    """
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as scratch:
        out, err = (Path(scratch, name) for name in ("out", "out" if together else "err"))
        program = start(words, environment, folder or Path.cwd(), out, err)
        program.join(timeout)
        if program.is_alive():
            program.kill()
            program.join()
            raise subprocess.TimeoutExpired(words, timeout)
        printed = [path.read_text(encoding="utf-8", errors="replace") for path in (out, err)]
    assert program.exitcode is not None
    return subprocess.CompletedProcess(words, program.exitcode, printed[0], "" if together else printed[1])


def _become(words: list[str], environment: dict[str, str], folder: Path, channels: tuple[Path, Path]) -> None:
    """Turn this process into the program."""
    for number, channel in enumerate(channels, 1):
        os.dup2(os.open(channel, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None
    # As in a terminal, also where the tests run in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTHONWARNINGS" in environment:
        warnings.simplefilter(environment["PYTHONWARNINGS"])  # type: ignore[arg-type]
    first, *rest = words
    sys.argv = ["-c", *rest[1:]] if first == "-c" else rest if first == "-m" else words
    if first == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        exec(rest[0], {"__name__": "__main__"})
    else:
        sys.path.insert(0, str(Path(first).resolve().parent))
        runpy.run_path(first, run_name="__main__")
