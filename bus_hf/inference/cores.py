"""How many cores this process may use, as a container's quota and its own affinity have it."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cores(cgroup: Path = _CGROUP) -> int:
    """Cores to compute on, 1 or more: those that the process may run on, at most its quota and `OMP_NUM_THREADS`.

    Args:
        cgroup: where the system shows the quota, of version 2 or 1; a container sees its own there.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    limits = [allowed, _quota(cgroup), int(asked) if asked.isdecimal() else math.inf]
    return max(1, math.ceil(min(limits)))


def _quota(cgroup: Path) -> float:
    """The cores that a quota is worth; infinity where there is none."""
    v1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
    for files in (("cpu.max",), v1):
        try:
            words = " ".join((cgroup / name).read_text(encoding="ascii") for name in files).split()
            quota, period = float(words[0]), float(words[1])
        except (OSError, ValueError, IndexError):
            # No such file, or "max" for no quota.
            continue
        if quota > 0 and period > 0:
            return quota / period
    return math.inf
