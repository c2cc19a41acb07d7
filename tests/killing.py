"""Runs work in a forked child that ends, as by kill -9, at one of its file events."""

import os
import sys
import traceback

KILLED = 137
_EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
_COPIES = ("shutil.copyfile", "shutil.copytree", "shutil.move", "shutil.rmtree")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Events:
    """Counts file events and ends the process before the one that is its victim."""

    def __init__(self, victim, pipe):
        self.count, self.victim, self.pipe = 0, victim, pipe

    def audit(self, event, arguments):
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, int) or not flags & _WRITING or os.fsdecode(path).startswith(("/dev/", "/proc/")):
                return
        elif event not in (*_EVENTS, *_COPIES):
            return
        self.tick(f"{event} {arguments[0]}")

    def tick(self, name, before=None):
        if self.count == self.victim:
            if before:
                before()
            os._exit(KILLED)
        self.count += 1
        os.write(self.pipe, f"{name!r}\n".encode())

    def torn(self, function, place):
        """A writer in C, which Python's events do not show: it can be killed before, in the middle and after."""

        def call(*arguments, **named):
            path = arguments[place]
            self.tick(f"before writing {path}")
            done = function(*arguments, **named)
            if isinstance(path, str | os.PathLike) and os.path.isfile(path):
                self.tick(f"half of {path}", lambda: os.truncate(path, os.path.getsize(path) // 2))
            self.tick(f"after writing {path}")
            return done

        return call

    def watch(self):
        import pandas
        import safetensors.torch
        import torch

        from bus_hf import files

        safetensors.torch.serialize_file = self.torn(safetensors.torch.serialize_file, 1)
        torch.save = self.torn(torch.save, 1)
        pandas.DataFrame.to_parquet = self.torn(pandas.DataFrame.to_parquet, 1)
        files._exchange = self.torn(files._exchange, 1)
        sys.addaudithook(self.audit)


def in_child(work, log, victim=None):
    """Run `work` in a child; returns its status (1 for an exception) and the names of its file events."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            for stream in (1, 2):
                os.dup2(log, stream)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            Events(victim, writing).watch()
            status = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        events = pipe.read().splitlines()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), events
