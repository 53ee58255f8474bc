"""The speed of networks end to end and by stage, beside a reference, with all that the figures depend on.

One call of :func:`bench` is one report: contestants are opened (entrants.py), timed against each other and against
the reference (measuring.py, reference.py), then looked at one by one: peak memory, energy, roofline. Choices worth
knowing:

- The image is a procedural street scene of the asked size, the same everywhere: label maps cost by their boundaries.
- Nothing else runs while something is timed; what looks at single contestants comes after the rounds.
- Everything that makes a figure doubtful is told in ``warnings``, by stated rules: drift, other work on the machine,
  too few rounds, time limits.
"""

import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch

from featherseg.bench.contestants import NETWORK, PLAIN_LAST_WAY, PLAIN_WAY, TORCH
from featherseg.bench.energy import joules_per_run
from featherseg.bench.entrants import Entrant, Request, Told, asked_for, chosen_size, entrants, runtime_device
from featherseg.bench.environment import BUSY, environment, fixed_threads, load_average
from featherseg.bench.layers import openvino_layers, torch_layers
from featherseg.bench.measuring import LEAST_FOR_DRIFT, Contestant, Measured, measure
from featherseg.bench.memory import peak_memory
from featherseg.bench.peaks import measure_peaks
from featherseg.bench.reference import REFERENCE, reference
from featherseg.bench.roofline import to_dict
from featherseg.data.streets import Streets
from featherseg.deploy.session import TorchSession
from featherseg.errors import FeathersegError

PACKAGES = ("onnxruntime", "openvino", "onnx", "ai-edge-litert", "numba", "opencv-python-headless")


def street(size: tuple[int, int]) -> np.ndarray:
    """The image that is labelled, uint8 ``[H, W, 3]``."""
    return Streets("val", 1, size=size, seed=0).read(0).image


def bench(
    request: Request, *, told: Told = lambda line: None, progress: Callable[[int, int], None] = lambda done, all: None
) -> dict[str, Any]:
    """Measure, and give the whole report, JSON-ready.

    Args:
        request: what is asked for.
        told: gets a line before each part that takes its time.
        progress: called with (rounds done, rounds asked for).

    Returns:
        ``contestants`` by name: ``p50_ms``, ``p90_ms``, ``p99_ms``, ``count``, ``fps``, ``stages``, ``drift``,
        ``reference_ratio`` (its median by the reference's), ``outside_percent`` (of its time that is not the network's;
        None where one stage is all), ``sha256`` of the files that were timed, by name, ``peak_mib``, ``own_mib``,
        ``joules``, and against plain PyTorch ``times_as_fast``, ``times_as_fast_as_channels_last`` (the same, laid out
        so) and ``equal_percent``; ``reference``, its times; ``size``, ``threads``, ``rounds``,
        ``seconds``, ``stopped``, ``load_average``, ``environment``, ``warnings``; ``roofline`` where it is asked for.

    Raises:
        FeathersegError: something that is asked for is unknown, not installed, or does not fit.
    """
    if request.threads is not None and request.threads < 1:
        raise FeathersegError(f"--threads {request.threads} runs nothing. Give at least 1.")
    with fixed_threads(request.threads), tempfile.TemporaryDirectory() as folder:
        return _bench(request, Path(folder), told, progress)


def _bench(request: Request, folder: Path, told: Told, progress: Callable[[int, int], None]) -> dict[str, Any]:
    threads = torch.get_num_threads()
    load_before = load_average()
    size = chosen_size(request)
    asked = asked_for(request)
    told(foretold(request, len(asked)))
    found = entrants(request, asked, size, folder, told)
    image = street(size)
    contestants: dict[str, Contestant] = {REFERENCE: reference()}
    contestants |= {name: entrant.opened.contestant(image) for name, entrant in found.items()}
    told(f"timing {len(found)} contestants and the reference at {size[0]}x{size[1]}, {threads} threads")
    measured = measure(contestants, rounds=request.rounds, seconds=request.seconds, limit=request.limit, told=progress)
    load_after = load_average()
    labels = _labels_of_plain(found, contestants) if request.against_torch else {}
    rows: dict[str, dict[str, Any]] = {}
    warnings = warnings_of(measured, threads, load_before, load_after, request)
    for name, entrant in found.items():
        row = {"source": entrant.source.name} | entrant.opened.about | figures_of(measured, name)
        row["sha256"] = entrant.source.digests
        if request.against_torch:
            row |= _against(measured, name, entrant, found, contestants, labels)
        rows[name] = row
    for number, (name, entrant) in enumerate(found.items() if request.memory else (), 1):
        told(f"peak memory {number} of {len(found)}: {name}")
        taken = peak_memory(_order(entrant, size, threads, request))
        if "error" in taken:
            warnings.append(f"{name}: its memory was not measured: {taken.pop('error')}")
        rows[name] |= taken
    for name in found if request.energy else ():
        joules = joules_per_run(contestants[name].run)
        rows[name]["joules"] = None if joules is None else round(joules, 4)
    report = {
        "size": list(size),
        "threads": threads,
        "reference": {"name": REFERENCE, "size": contestants[REFERENCE].about["size"]}
        | measured.times[REFERENCE].to_dict(),
        "contestants": rows,
        "rounds": measured.rounds,
        "seconds": round(measured.seconds, 2),
        "stopped": measured.stopped,
        "load_average": {"before": load_before, "after": load_after},
        "environment": environment(PACKAGES),
        "warnings": warnings,
    }
    if request.roofline:
        told("measuring this machine's peaks")
        report["roofline"] = _roofline(request, found, contestants, measured, size, told)
    return report


def foretold(request: Request, contestants: int) -> str:
    """What is about to be done: the part whose time is set, and those that come on top of it."""
    one = contestants == 1
    each = "1 contestant is" if one else f"{contestants} contestants are"
    rounds = f"at most {request.rounds} rounds"
    if request.seconds < inf:
        rounds += f", until {request.seconds:g} s are over and {min(LEAST_FOR_DRIFT, request.rounds)} are done"
    if request.limit < inf:
        rounds += f" ({request.limit:g} s with warming up, at the most)"
    processes = "a process" if one else f"{contestants} processes, one after the other,"
    after = f"; then {processes} for peak memory" if request.memory else ""
    return f"{each} opened and warmed up, which comes on top; then {rounds}{after}"


def figures_of(measured: Measured, name: str) -> dict[str, Any]:
    """A contestant's figures: its percentiles, frames a second, share outside the network, ratio to the reference."""
    times = measured.times[name]
    p50 = times.summary.p50
    outside = None
    if NETWORK in times.stages and len(times.stages) > 1:
        alone = times.to_dict()["stages"][NETWORK]["p50_ms"]
        outside = round(100 * (1 - alone / p50), 1)
    return times.to_dict() | {
        "fps": round(1000 / p50, 2),
        "reference_ratio": round(measured.ratio(name, REFERENCE), 4),
        "outside_percent": outside,
    }


def warnings_of(
    measured: Measured, threads: int, before: float | None, after: float | None, request: Request
) -> list[str]:
    """What makes the figures doubtful, one sentence each."""
    found = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads > cores:
        found.append(f"{threads} threads on {cores} cores: they wait for each other")
    everywhere = os.cpu_count() or cores
    if before is not None and before + threads > everywhere + BUSY:
        found.append(f"other work ran when this began: load {before}, and this takes {threads} of {everywhere} cores")
    elif after is not None and after > threads + BUSY:
        found.append(f"other work ran meanwhile: load {after} at the end, of which {threads} is this")
    if measured.rounds < min(LEAST_FOR_DRIFT, request.rounds):
        found.append(f"only {measured.rounds} rounds fitted into the time limit")
    for name, times in measured.times.items():
        judged = times.drift
        if judged is not None and judged.drifted:
            found.append(f"{name} drifted: its last third took {judged.ratio:.2f} times as long as its first")
    return found


def _labels_of_plain(found: dict[str, Entrant], contestants: dict[str, Contestant]) -> dict[str, np.ndarray]:
    return {entrant.source.name: contestants[name].run() for name, entrant in found.items() if entrant.way == PLAIN_WAY}


def _against(
    measured: Measured,
    name: str,
    entrant: Entrant,
    found: dict[str, Entrant],
    contestants: dict[str, Contestant],
    labels: dict[str, np.ndarray],
) -> dict[str, Any]:
    """How a contestant stands to plain PyTorch; a file to the one network that is given, if it says it is of that."""
    to = entrant.source.name if entrant.source.name in labels else _of_the_only_network(entrant, found, labels)
    if to is None:
        return {"times_as_fast": None, "times_as_fast_as_channels_last": None, "equal_percent": None}
    plain, last = (
        next(other for other, one in found.items() if one.source.name == to and one.way == way)
        for way in (PLAIN_WAY, PLAIN_LAST_WAY)
    )
    equal = float((contestants[name].run() == labels[to]).mean())
    return {
        "times_as_fast": round(measured.ratio(plain, name), 2),
        "times_as_fast_as_channels_last": round(measured.ratio(last, name), 2),
        "equal_percent": round(100 * equal, 3),
    }


def _of_the_only_network(entrant: Entrant, found: dict[str, Entrant], labels: dict[str, np.ndarray]) -> str | None:
    """The one network in PyTorch whose architecture and classes a file's metadata name; None where they do not."""
    if len(labels) != 1:
        return None
    name = next(iter(labels))
    _, about = next(one.source for one in found.values() if one.source.name == name).network_and_metadata
    said = entrant.opened.metadata
    same = all(said.get(key) is not None and said[key] == about.get(key) for key in ("architecture", "num_classes"))
    return name if same else None


def _order(entrant: Entrant, size: tuple[int, int], threads: int, request: Request) -> dict[str, Any]:
    shared = {"size": list(size), "threads": threads, "device": request.device, "precision": entrant.way.precision}
    if entrant.file is None:
        return shared | {"source": entrant.source.given, "runtime": entrant.way.runtime}
    device = runtime_device(request) if entrant.source.exported else "cpu"
    classes = request.classes if entrant.source.exported else None
    return shared | {"file": str(entrant.file), "device": device, "classes": classes}


def _roofline(
    request: Request,
    found: dict[str, Entrant],
    contestants: dict[str, Contestant],
    measured: Measured,
    size: tuple[int, int],
    told: Told,
) -> dict[str, Any]:
    peaks = measure_peaks(request.device)
    networks: dict[str, Any] = {}
    for name, entrant in found.items():
        session = entrant.opened.session
        if entrant.file is not None and entrant.way.runtime == "openvino":
            told(f"layers of {name}")
            layers = openvino_layers(entrant.file, size, entrant.way.precision, peaks.threads)
        elif isinstance(session, TorchSession) and entrant.way.runtime == TORCH:
            told(f"layers of {name}")
            given = contestants[name].given
            layers = torch_layers(session, entrant.opened.spec.normalise(torch.from_numpy(given)[None]))
        else:
            continue
        alone = measured.times[name].to_dict()["stages"][NETWORK]["p50_ms"]
        networks[name] = to_dict(layers, alone, peaks)
    return {"peaks": asdict(peaks) | {"gflops": dict(peaks.gflops)}, "networks": networks}
