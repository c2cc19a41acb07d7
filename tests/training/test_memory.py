import platform
import sys

import pytest

from tests.programs import python

# Counts the page faults of taking and giving back 64 MB ten times, before and after memory is held.
_SCRIPT = """
import resource
import torch
from bus_hf.training.memory import hold_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(16 * 1024 * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

free = faults()
held = hold_memory()
# The heap grows to the most that is in use at a time, then stays.
faults()
print(held, free, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_is_held_is_not_faulted_in_again():
    held, free, after = python(["-c", _SCRIPT]).stdout.split()
    assert held == "True"
    assert int(after) <= int(free) / 5


def test_elsewhere_nothing_is_done(monkeypatch):
    from bus_hf.training.memory import hold_memory

    monkeypatch.setattr(sys, "platform", "darwin")
    assert hold_memory() is False
