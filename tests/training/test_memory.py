"""Memory that is freed stays with the process, unless somebody chose otherwise."""

import os
import platform
import subprocess
import sys

import pytest

# Blocks of 64 MiB, taken, filled and freed again: how many pages does the kernel have to hand out?
PROGRAM = """
import resource
import numpy as np
from featherseg.training.memory import keep_freed_memory
print(keep_freed_memory())
np.full(2**26, 1, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.full(2**26, 1, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

glibc_alone = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told anything")


def taken_and_faults(**environment: str) -> tuple[str, int]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=own | environment, capture_output=True, text=True, check=True)
    taken, faults = done.stdout.split()
    return taken, int(faults)


@glibc_alone
def test_a_block_that_was_freed_is_taken_again_without_the_kernel():
    taken, faults = taken_and_faults()
    assert taken == "True"
    assert faults < 1000  # one block alone has 16,384 pages of 4 KiB, or 32 of 2 MiB


@pytest.mark.parametrize(
    "environment", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_settings_of_the_environment_are_left_alone(environment):
    taken, _ = taken_and_faults(**environment)
    assert taken == "False"
