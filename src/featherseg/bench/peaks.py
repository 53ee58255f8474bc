"""What this machine reaches by itself, measured: matrix products in float32, bfloat16 and int8, and a copy.

Choices worth knowing:

- Products are PyTorch's, of square matrices of 1024 and of 2048 numbers a side, whichever is faster: the larger fill
  many cores, the smaller fit between two interruptions. int8 goes through the product that PyTorch's quantised layers
  use, which is a lower bound: a runtime's own may be faster. A precision that PyTorch cannot multiply in is None.
- The copy moves 128 MiB from one place to another: more than a core's own caches hold. Bytes read and bytes written
  both count. Machines whose shared cache is larger than that show the cache's speed.
- Each figure is the best of several, since a peak is what is possible: other work can only lower it.
"""

import time
from collections.abc import Callable

import torch

from featherseg.bench.roofline import Peaks

SIDES = (1024, 2048)
COPIED_BYTES = 128 * 2**20
HOW = f"torch: products of square matrices of {SIDES}, copy of {COPIED_BYTES // 2**20} MiB; best of several"
Clock = Callable[[], float]


def measure_peaks(
    device: str = "cpu", *, sides: tuple[int, ...] = SIDES, copied: int = COPIED_BYTES, seconds: float = 0.3
) -> Peaks:
    """Measure with the threads that PyTorch has now.

    Args:
        device: "cpu" or "cuda".
        sides: of the matrices.
        copied: bytes of the copy.
        seconds: about so long for each, and at least three times.
    """
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    gflops: dict[str, float | None] = {"fp32": None, "bf16": None, "int8": None}
    for side in sides:
        for name, product in _products(side, device).items():
            try:
                reached = round(2 * side**3 / best_seconds(product, seconds, wait) / 1e9, 1)
            except (RuntimeError, AttributeError, NotImplementedError):
                continue
            gflops[name] = max(reached, gflops[name] or 0.0)
    source = torch.ones(copied // 4, device=device)
    target = torch.empty_like(source)
    gigabytes = 2 * copied / best_seconds(lambda: target.copy_(source), seconds, wait) / 1e9
    how = HOW if (sides, copied) == (SIDES, COPIED_BYTES) else f"torch: sides of {sides}, copy of {copied} bytes"
    return Peaks(gflops, round(gigabytes, 2), torch.get_num_threads(), how)


def _products(side: int, device: str) -> dict[str, Callable[[], object]]:
    ones = torch.ones(side, side, device=device)
    half, integers = ones.bfloat16(), ones.to(torch.int8)
    return {
        "fp32": lambda: ones @ ones,
        "bf16": lambda: half @ half,
        "int8": lambda: torch._int_mm(integers, integers),  # type: ignore[attr-defined]
    }


def best_seconds(
    work: Callable[[], object],
    seconds: float,
    wait: Callable[[], object] = lambda: None,
    clock: Clock = time.perf_counter,
) -> float:
    """The least time of one call, of at least three and as many as ``seconds`` take, after one that warms up."""
    work()
    wait()
    best, began, calls = float("inf"), clock(), 0
    while calls < 3 or clock() - began < seconds:
        before = clock()
        work()
        wait()
        best = min(best, clock() - before)
        calls += 1
    return best
