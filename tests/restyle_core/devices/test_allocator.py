"""Large blocks are used again instead of being given back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, threading, torch
from restyle.core.devices.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    # Until small blocks have found places of their own, they may lie in the way of large ones.
    for rounds in (40, 10):
        before = faults()
        for _ in range(rounds):
            torch.ones(40 << 20, dtype=torch.uint8)
    print(faults() - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def page_faults(mode: str) -> int:
    command = [sys.executable, "-c", FAULTS, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_blocks_are_used_again_also_in_a_thread() -> None:
    default = page_faults("default")
    if default < 100:
        pytest.skip("this system does not count page faults, or hardly has any")
    assert page_faults("keep") < 0.2 * default
