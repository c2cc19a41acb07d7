"""Keep the C library from returning memory to the system between training steps on the CPU."""

from __future__ import annotations

import ctypes
import sys

# From malloc.h of glibc.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_PAD = 256 * 1024 * 1024


def hold_memory() -> bool:
    """Let glibc keep what is freed, instead of handing it back and taking it anew in every step.

    Feature maps are so large that each would be mapped on its own (mallopt(3), M_MMAP_THRESHOLD); the page faults of
    every new mapping can cost a step on the CPU more than its arithmetic. The process then holds its peak to its end.

    Returns:
        Whether it was done; False where the C library is not glibc.
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    # musl has no mallopt, and gnu_get_libc_version is glibc's alone.
    if not (hasattr(library, "mallopt") and hasattr(library, "gnu_get_libc_version")):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, _PAD))
    return all(library.mallopt(name, value) == 1 for name, value in settings)
