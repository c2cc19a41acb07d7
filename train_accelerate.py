"""Train one network: `accelerate launch train_accelerate.py FLAGS` is `bus-hf train FLAGS`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bus_hf.cli import main as bus_hf


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; exit status 0 done, 2 wrong use, 130 stopped by Ctrl-C."""
    return bus_hf(["train", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
