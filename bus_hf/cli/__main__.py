"""`python -m bus_hf.cli`: the same as `bus-hf`, where its script is not on the path."""

import sys

from bus_hf.cli import main

sys.exit(main())
