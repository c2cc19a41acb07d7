"""`python -m research`: run a trial, or make the tables again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bus_hf.errors import BusError
from research import run, tables

HOME = Path(__file__).resolve().parent

_RUN = """\
One network a source is trained by the config; each predicts its held-out fold and all images of the other sources. The
logits are kept in research/trials/NAME/. {source} in a value stands for the source that is trained on. The same command
goes on with a trial that was stopped.

examples:
  python -m research run baseline --data DATA/busi DATA/busbra
  python -m research run larger --data DATA/busi DATA/busbra --set input_size=160
  python -m research run same-boxes --data DATA/busi DATA/busbra --set boxes=boxes/{source}.parquet
  python -m research run grey --left-out --config configs/lite0.yaml --set grey_exchange=0.5 \\
      --data DATA/busi DATA/busbra DATA/brest --sources busi busbra brest"""
_TABLES = """\
Nothing is trained. The tables of research/tables.yaml are made again from the stored logits and written as CSV to
research/tables/. Rows of trials whose logits are not stored any more stay as they are; the column `logits` names the
commit that has them."""


def parser() -> argparse.ArgumentParser:
    """The parser of both commands."""
    top = argparse.ArgumentParser(prog="python -m research", description=__doc__)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    shape = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser("run", help="try one change of the settings", description=_RUN, formatter_class=shape)
    command.add_argument("name", metavar="NAME", help="of the trial: letters, digits and hyphens")
    command.add_argument("--data", nargs="+", required=True, metavar="DATA", help="one folder or Hub id a source")
    command.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings that differ")
    command.add_argument("--config", type=Path, default=HOME / "trial.yaml", help="(default: %(default)s)")
    command.add_argument("--sources", nargs="+", default=["busi", "busbra"], help="to train on (default: busi busbra)")
    command.add_argument("--left-out", action="store_true", help="train on all but each of the sources instead")
    command.add_argument("--to", type=Path, default=HOME / "trials", metavar="FOLDER", help="(default: %(default)s)")
    command.set_defaults(
        call=lambda given: run.run(
            given.name, given.data, given.set, given.config, given.sources, given.to, given.left_out
        )
    )
    command = commands.add_parser("tables", help="make the tables again", description=_TABLES, formatter_class=shape)
    command.add_argument("names", nargs="*", metavar="NAME", help="of tables.yaml (default: all)")
    command.add_argument("--home", type=Path, default=HOME, metavar="FOLDER", help="(default: %(default)s)")
    command.add_argument(
        "--readme", type=Path, metavar="FILE", help="put the table of recipes between its recipes markers"
    )
    command.set_defaults(call=lambda given: tables.make(given.home, given.names, given.readme))
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 where it is done, 1 where a training stopped, 2 for wrong use."""
    given = parser().parse_args(arguments)
    try:
        return given.call(given)
    except BusError as error:
        print(f"research: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
