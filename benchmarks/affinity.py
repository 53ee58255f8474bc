"""The feature-affinity loss in blocks against the whole matrices, and the pooled form: time and peak memory.

One image, forward and backward, in float32: a student's map at 1/8 of a crop, a tutor's at 1/4, both of 128 channels,
as in the FasterSeg student and its tutor. Contestants, in interleaved rounds:

- literal: both N x N matrices of cosines, their difference, its mean absolute value; automatic differentiation;
- blocks: the same number and gradient from ``losses.affinity``, which never holds a matrix;
- pooled: both maps averaged to 32x64 first. Another number.

Peak memory is the process's high-water mark within the call over what was resident before it; "share" is that of a
matrix's own N x N x 4 bytes. Freed memory is handed back to the system before each call. With --size 512 1024 one
matrix has 4 GiB and the literal form several: leave it out with --without-literal where the machine has less than
32 GiB.
"""

import ctypes
import gc
import time
from collections.abc import Callable

import torch
from torch import Tensor

from featherseg.losses.affinity import affinity_loss, pooled_affinity_loss, unit_vectors
from featherseg.losses.grids import Grid, read_at
from measuring import finish, interleaved, load_average, parser, peak_mib, reset_peak, summary

CHANNELS, POOLED = 128, (32, 64)


def literal_loss(student: Tensor, teacher: Tensor, grids: tuple[Grid, Grid]) -> Tensor:
    """Eqs. 4 and 5 as they stand, the student's unit vectors interpolated to the teacher's grid: ``[B]``."""
    ours = read_at(unit_vectors(student), *grids).flatten(2)
    theirs = unit_vectors(teacher).flatten(2)
    return (ours.mT @ ours - theirs.mT @ theirs).abs().mean((1, 2))


def give_back() -> None:
    """Hand freed memory back to the system: what the allocator keeps would hide what the next call takes."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("H", "W"), help="of the crop")
    arguments.add_argument("--rounds", type=int, default=5, help="counted rounds (default 5)")
    arguments.add_argument("--threads", type=int, default=2, help="of torch (default 2)")
    arguments.add_argument("--without-literal", action="store_true", help="leave the whole matrices out")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    load = load_average()
    height, width = options.size
    small, large = (height // 8, width // 8), (height // 4, width // 4)
    student = torch.randn(1, CHANNELS, *small).relu_().requires_grad_()
    teacher = torch.randn(1, CHANNELS, *large).relu_()
    grids = Grid(small, (height, width), True), Grid(large, (height, width), True)
    losses: dict[str, Callable[[], Tensor]] = {
        "literal": lambda: literal_loss(student, teacher, grids),
        "blocks": lambda: affinity_loss(student, teacher, grids),
        "pooled": lambda: pooled_affinity_loss(student, teacher, POOLED),
    }
    if options.without_literal:
        del losses["literal"]
    peaks: dict[str, list[float]] = {name: [] for name in losses}
    values: dict[str, float] = {}

    def timed(name: str) -> float:
        student.grad = None
        gc.collect()
        give_back()
        reset_peak()
        before, began = peak_mib(), time.perf_counter()
        loss = losses[name]().sum()
        loss.backward()
        taken = 1000 * (time.perf_counter() - began)
        peaks[name].append(peak_mib() - before)
        values[name] = float(loss.detach())
        return taken

    contestants = {name: lambda name=name: timed(name) for name in losses}
    interleaved(contestants, 1)
    for found in peaks.values():
        found.clear()
    times = interleaved(contestants, options.rounds, print)
    matrix = (large[0] * large[1]) ** 2 * 4 / 2**20
    figures: dict[str, object] = {"one matrix, MiB": round(matrix, 1)}
    for name in losses:
        figures[f"{name}, ms"] = summary(times[name])
        figures[f"{name}, peak MiB"] = summary(peaks[name])
        figures[f"{name}, share of a matrix, %"] = round(100 * summary(peaks[name])["median"] / matrix, 2)
        figures[f"{name}, loss"] = round(values[name], 6)
    if "literal" in losses:
        whole, blocks = (summary(times[name])["median"] for name in ("literal", "blocks"))
        figures["blocks / literal, time"] = round(blocks / whole, 3)
        whole, blocks = (summary(peaks[name])["median"] for name in ("literal", "blocks"))
        figures["blocks / literal, peak"] = round(blocks / whole, 4)
    finish(
        "affinity loss",
        f"affinity/1/8 to 1/4 of {height}x{width}/{CHANNELS} channels, forward and backward, median of rounds",
        figures,
        options.card,
        load,
        seeds=[0],
        rounds=options.rounds,
        threads=options.threads,
    )


if __name__ == "__main__":
    main()
