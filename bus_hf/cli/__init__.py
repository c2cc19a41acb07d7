"""`bus-hf`: what people type. Its parser imports nothing heavy; each subcommand imports what it needs when it runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from bus_hf.cli import (
    assemble,
    audit,
    calibrate,
    ensemble,
    evaluate,
    folds,
    predict,
    push,
    push_dataset,
    serve,
    views,
)
from bus_hf.errors import BusError, of_system

DONE, SOME_FAILED, WRONG_USE, STOPPED = 0, 1, 2, 130

# What comes with an extra, where a missing module means that the extra is not installed.
_TRAIN_ONLY = (
    "albumentations",
    "datasets",
    "evaluate",
    "matplotlib",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
)

_EPILOG = """\
examples:
  bus-hf predict scan.png                        one image, one line
  bus-hf predict scans/ --csv results.csv        a folder, a table
  bus-hf serve                                   the page on http://127.0.0.1:7860
  bus-hf audit DATA/busi                         copies and contradictions in a data set
  bus-hf evaluate DATA/busi DATA/busbra          how well the ensemble reads labelled images
  bus-hf calibrate scans/ --labels labels.csv --to my_site    thresholds of your own
  bus-hf assemble runs/lite0 --to my_ensemble    from training runs to an ensemble
  bus-hf ensemble configs/ensemble.yaml ...      from data to an ensemble
  bus-hf push checkpoints --to owner/name        from an ensemble folder to the Hub
  bus-hf push-dataset DATA/busbra --to owner/name          labelled images to the Hub
  bus-hf views scan.png                          what training and reading make of an image

exit status: 0 done, 1 some inputs failed, 2 wrong use, 130 stopped by Ctrl-C.

For research and teaching. It is no medical device and must not decide about a patient."""


def parser() -> argparse.ArgumentParser:
    """The parser of `bus-hf` with all its subcommands."""
    top = argparse.ArgumentParser(
        prog="bus-hf",
        description="Read breast ultrasound: how likely a malignant lesion is, where, and how sure.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for module in (
        predict,
        serve,
        audit,
        views,
        evaluate,
        calibrate,
        assemble,
        push,
        push_dataset,
        ensemble,
        folds,
    ):
        module.add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status and never shows a stack trace for what a user can mend."""
    # A file name may hold bytes that are no text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        given = parser().parse_args(arguments)
    except SystemExit as stop:
        return WRONG_USE if stop.code else DONE
    if given.version:
        from bus_hf import __version__

        print(f"bus-hf {__version__}")
        return DONE
    if given.command is None:
        parser().print_help(sys.stderr)
        return WRONG_USE
    try:
        return given.run(given)
    except BusError as error:
        return _say(str(error), WRONG_USE)
    except KeyboardInterrupt:
        return _say("stopped; what was written so far is kept.", STOPPED)
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not fail on it again while it closes down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except OSError as error:
        return _say(str(of_system(error)), WRONG_USE)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _TRAIN_ONLY:
            raise
        return _say(f"{missing} is not installed; install it with pip install 'bus-hf[train]'.", WRONG_USE)


def _say(sentence: str, status: int) -> int:
    print(f"bus-hf: {sentence}", file=sys.stderr)
    return status
