"""`bus-hf`: what people type. Its parser imports nothing heavy; each command imports what it needs when it runs."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bus_hf.cli import audit, build, calibrate, evaluate, predict, push, serve, train, views
from bus_hf.errors import BusError, system_error

DONE, SOME_FAILED, WRONG_USE, STOPPED = 0, 1, 2, 130

# Name to module; a group has COMMANDS of its own.
COMMANDS = {
    "predict": predict,
    "serve": serve,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "train": train,
    "audit": audit,
    "views": views,
    "build": build,
    "push": push,
}

# What comes with an extra, where a missing module means that the extra is not installed.
_TRAIN_ONLY = (
    "accelerate",
    "albumentations",
    "datasets",
    "evaluate",
    "httpx",
    "matplotlib",
    "onnx",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorboard",
    "yaml",
)

_DESCRIPTION = """\
Read breast ultrasound: how likely a malignant lesion is, where, and how sure.

begin with:
  predict         probability of malignancy, verdict, lesion box, heat map
                    bus-hf predict scan.png
  serve           the page, in your browser
                    bus-hf serve
  evaluate        metrics of the ensemble on labelled images
                    bus-hf evaluate scans/ --labels labels.csv
  calibrate       probabilities and thresholds fitted on your own cases
                    bus-hf calibrate scans/ --labels labels.csv --to my_site
  train           a network trained on labelled images
                    bus-hf train --data DATA/busi DATA/busbra --output runs/mine

then:
  audit           near-duplicates and contradicting labels in a data set
  views           what training and inference make of an image
  build ensemble  an ensemble folder, from finished runs or from data
  build report    metrics of a network that was trained once a fold
  build figures   metrics, plots and cards of an ensemble written again
  build graphs    graph.onnx of each member, which a CPU runs without torch
  push ensemble   an ensemble folder to the Hub
  push dataset    labelled images to the Hub, with groups and folds
  push space      the page to the Hub, as a Space
  push metric     the metric bus_screening to the Hub

Each teaches: bus-hf COMMAND --help"""
_EPILOG = """\
exit status: 0 done, 1 some inputs failed, 2 wrong use, 130 stopped by Ctrl-C.

For research and teaching. It is no medical device and must not decide about a patient."""


def parser(training: bool = True) -> argparse.ArgumentParser:
    """The parser of `bus-hf` with all its commands.

    Args:
        training: give `train` its flags, whose settings are slow to import.
    """
    top = argparse.ArgumentParser(
        prog="bus-hf",
        usage="bus-hf COMMAND ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    # The description lists the commands, those for a beginning first.
    commands = top.add_subparsers(prog="bus-hf", metavar="COMMAND", dest="command", help=argparse.SUPPRESS)
    for module in dict.fromkeys(COMMANDS.values()):
        module.add(commands)
    if training:
        train.add_settings(commands.choices["train"])
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status and never shows a stack trace for what a user can mend."""
    # A file name may hold bytes that are no text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _require_command(words)
        given = parser(training=words[:1] == ["train"]).parse_args(words)
        if given.version is True:
            from bus_hf import __version__

            print(f"bus-hf {__version__}")
            return DONE
        if given.command is None:
            parser(training=False).print_help(sys.stderr)
            return WRONG_USE
        return given.run(given)
    except SystemExit as stop:
        return WRONG_USE if stop.code else DONE
    except BusError as error:
        return _say(str(error), WRONG_USE)
    except KeyboardInterrupt:
        return _say("stopped; what was written so far is kept.", STOPPED)
    except BrokenPipeError:
        # Whoever read our output has had enough; the interpreter must not fail on it again while it closes down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except OSError as error:
        return _say(str(system_error(error)), WRONG_USE)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _TRAIN_ONLY:
            raise
        return _say(f"{missing} is not installed; install it with pip install 'bus-hf[train]'.", WRONG_USE)


def _require_command(words: Sequence[str]) -> None:
    """BusError where the first words name no command; it names the one that is spelt most like them."""
    known: dict[str, Any] | None = COMMANDS
    for count, word in enumerate(words, 1):
        if known is None or word.startswith("-"):
            return
        if word not in known:
            near = difflib.get_close_matches(word, _spellings(known), 1)
            right = " ".join(["bus-hf", *words[: count - 1], *(near or ["--help"])])
            raise BusError(
                f"there is no command '{' '.join(words[:count])}'",
                remedy=f"the closest is {right}" if near else f"{right} lists them",
            )
        known = getattr(known[word], "COMMANDS", None)


def _spellings(commands: Mapping[str, Any]) -> list[str]:
    """Names of commands as they are typed, with those of their groups: `predict`, `push`, `push ensemble`."""
    groups = {name: getattr(module, "COMMANDS", {}) for name, module in commands.items()}
    return [*commands, *(f"{group} {name}" for group, names in groups.items() for name in names)]


def _say(sentence: str, status: int) -> int:
    print(f"bus-hf: {sentence}", file=sys.stderr)
    return status
