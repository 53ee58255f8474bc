"""What a speed depends on beside the network: the processor's abilities, threads, versions, settings, other work.

A machine is described by its kind, never by its name (see :mod:`featherseg.cards`).
"""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from featherseg.cards import machine

# Those that decide which kernels run: vector width, half precision, dot products, matrix units.
ABILITIES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
)
_SETTINGS = ("OMP_", "KMP_", "MKL_", "GOMP_", "ONEDNN_", "DNNL_", "OV_", "OPENVINO_")
BUSY = 0.5
"""Load beyond what the run itself makes, from which on other work is told of."""


def cpu_abilities(cpuinfo: str | None = None) -> list[str] | None:
    """The processor's instruction sets among :data:`ABILITIES`; None where the system does not list them.

    Args:
        cpuinfo: what Linux says in ``/proc/cpuinfo``; read, if None.
    """
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
    for line in cpuinfo.splitlines():
        name, _, listed = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return [ability for ability in ABILITIES if ability in listed.split()]
    return None


def computes_in_bf16() -> bool:
    """Whether this CPU has instructions for bfloat16, without which it is slower than float32."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(cpu_abilities() or ()))


def load_average() -> float | None:
    """Processes that wanted to run in the last minute, on average; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def governor() -> str | None:
    """How the system sets the first core's frequency ("performance", "powersave"); None where it does not say."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    except OSError:
        return None


def environment(packages: Iterable[str] = ()) -> dict[str, Any]:
    """What is stamped on a measurement, JSON-ready.

    Args:
        packages: distributions whose versions matter beside PyTorch's; null for those that are not installed.
    """
    import torch

    affinity = getattr(os, "sched_getaffinity", None)
    return machine() | {
        "abilities": cpu_abilities(),
        "core_numbers": sorted(affinity(0)) if affinity else None,
        "governor": governor(),
        "torch_threads": torch.get_num_threads(),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_SETTINGS)},
        "kernel": platform.release(),
        "versions": {name: _version(name) for name in sorted({"torch", "numpy", "featherseg", *packages})},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@contextmanager
def fixed_threads(threads: int | None) -> Iterator[None]:
    """Let PyTorch have so many threads for a while; as many as before, if None."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
