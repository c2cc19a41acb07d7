"""`bus-hf serve`: the page on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from getpass import getpass
from typing import Any

from bus_hf.cli import shared
from bus_hf.errors import BusError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PASSWORD = "BUS_HF_PASSWORD"
_EXAMPLES = """\
  bus-hf serve
  bus-hf serve --port 8000 --ensemble my_ensemble
  bus-hf serve --host 0.0.0.0 --auth anna       for every machine that can reach this one, with a password
  bus-hf serve --host 0.0.0.0 --public          the same for everybody"""
_NOTES = """\
The weights load on the first reading. Uploaded images are kept in memory alone until they are read, and nothing about
them is logged."""


def add(commands: Any) -> None:
    """Add the subcommand."""
    command = shared.subcommand(commands, "serve", "serve the page", _EXAMPLES, _NOTES)
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=_port, default=7860, help="port to listen on (default: 7860)")
    command.add_argument(
        "--auth",
        metavar="NAME",
        help=f"ask for this name and a password, which ${_PASSWORD} holds or which is asked for here",
    )
    command.add_argument(
        "--public", action="store_true", help="let everybody in who can reach --host, without a password"
    )
    command.add_argument(
        "--ensemble",
        metavar="FOLDER_OR_ID",
        help="ensemble folder or Hub id (default: $BUS_HF_ENSEMBLE, else the embedded checkpoints)",
    )
    command.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    if given.host not in _LOOPBACK and given.auth is None and not given.public:
        raise BusError(
            "everybody who can reach this address could send images and use this machine, and no password is asked for",
            where=f"--host {given.host}",
            remedy="give --auth NAME for a password, or --public if that is meant",
        )
    more = {} if given.auth is None else {"auth": (given.auth, _password())}
    print("bus-hf: loading the page ...", file=sys.stderr)
    from bus_hf.space.page import launch

    try:
        _, address, _ = launch(given.host, given.port, given.ensemble, prevent_thread_lock=True, **more)
    except OSError:
        raise BusError(
            "nothing can listen there: the port is taken, or the address is not this machine's",
            where=f"{given.host}:{given.port}",
            remedy="name another --port or --host",
        ) from None
    print(f"bus-hf: serving on {address} (Ctrl-C stops it)", file=sys.stderr)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nbus-hf: the page is closed.", file=sys.stderr)
    return 130


def _password() -> str:
    text = os.environ.get(_PASSWORD) or (getpass("password: ") if sys.stdin.isatty() else "")
    if not text:
        raise BusError("--auth needs a password", remedy=f"put it into ${_PASSWORD}")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"'{text}' is no port; give a number from 1 to 65535")
    return int(text)
