"""Memory that a training step gives back is kept for the next one, instead of being fetched from the kernel again.

glibc hands large blocks back to the system as they are freed, so that every step of a CPU training touches some hundred
MiB of new pages, each of which the kernel clears first. `benchmarks/freed_memory.py` measures what that costs.
"""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, up to 2 GiB at a time; its greatest memory stays what it was.

    For the whole process and for good: glibc's `mallopt` has no way back. Left alone is who chose otherwise
    (`MALLOC_*` or `GLIBC_TUNABLES` in the environment), and everything that is not glibc.

    Returns:
        Whether both settings were taken.
    """
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, LARGEST))
