"""Which network to take here: ``featherseg choose`` measures the candidates and says which of them.

One call of :func:`choose` is one report: candidates are listed and opened (choice_candidates.py), timed for as long as
there is time (choice_search.py), with what is known of their accuracy (choice_accuracy.py) or what is judged meanwhile
(choice_judge.py). Choices worth knowing:

- The time is that from a uint8 street scene in memory to the uint8 label map, as of ``featherseg bench``.
- The one to take is the most accurate of those whose p90 is within 1000 / fps ms. An accuracy that nobody knows wins
  nothing; the report says whose it is and how it becomes known.
- Other input scales than 1 are measured where there is data to judge them on, or where they are asked for.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from pathlib import Path
from typing import Any

import torch

from featherseg.bench.choice_accuracy import Accuracy, common, image_size, of_cards, of_file, of_weights, read_cards
from featherseg.bench.choice_candidates import (
    Candidate,
    Commands,
    Listed,
    Opener,
    Running,
    list_candidates,
)
from featherseg.bench.choice_judge import Judge
from featherseg.bench.choice_search import (
    COARSE_SHARE,
    ENOUGH_ROUNDS,
    LEAST_FOR_P90,
    Explored,
    Standing,
    explore,
    front,
    nearest_to,
    recommended,
)
from featherseg.bench.entrants import SIZE, Request
from featherseg.bench.environment import environment, fixed_threads, load_average
from featherseg.bench.measuring import LEAST_FOR_DRIFT, Clock, Contestant, Measured, Times, summary
from featherseg.bench.speed import PACKAGES, street, warnings_of
from featherseg.deploy.session import Precision
from featherseg.errors import FeathersegError
from featherseg.files import file_sha256
from featherseg.models.shipped import weights_path
from featherseg.models.weights import read_metadata

Told = Callable[[str], None]
SCALES_WITH_DATA = (1.0, 0.75, 0.5)
COARSE_SHARE_WITH_DATA = 0.4
RULE = "p90"


@dataclass(frozen=True)
class Choice:
    """What is asked for.

    Attributes:
        given: networks by name, weights, or files of other runtimes; the shipped weights, if none.
        fps: frames a second that the one to take must reach, in nine frames of ten.
        size: (H, W) of the images; of the data, of what the accuracies were taken on, or else 1024x2048, if None.
        runtimes, precisions, scales: of the candidates; what there is, if None.
        limit: seconds for all of it.
        data, split, images: to judge on; the accuracies of weights and cards count, if ``data`` is None.
        cards: files and folders of evaluation cards.
        threads: of every runtime; PyTorch's number, if None.
        device: of PyTorch.
        classes: a file that names the classes of files of other programs.
    """

    given: tuple[str, ...] = ()
    fps: float = 30.0
    size: tuple[int, int] | None = None
    runtimes: tuple[str, ...] | None = None
    precisions: tuple[Precision, ...] | None = None
    scales: tuple[float, ...] | None = None
    limit: float = 120.0
    data: str | None = None
    split: str = "val"
    images: int = 50
    cards: tuple[str, ...] = ()
    threads: int | None = None
    device: str = "cpu"
    classes: str | None = None

    def __post_init__(self) -> None:
        if not isfinite(self.fps) or self.fps <= 0:
            raise FeathersegError(f"--fps {self.fps:g} is no rate. Give frames a second above 0, as 30.")
        if not 0 < self.limit < inf:
            raise FeathersegError(f"--limit {self.limit:g} is no time. Give a number of seconds above 0.")
        if self.images < 1:
            raise FeathersegError(f"--images {self.images} judges nothing. Give at least 1.")
        if self.threads is not None and self.threads < 1:
            raise FeathersegError(f"--threads {self.threads} runs nothing. Give at least 1.")


def choose(choice: Choice, *, told: Told = lambda line: None, clock: Clock = time.perf_counter) -> dict[str, Any]:
    """Measure, and give the whole report, JSON-ready.

    Args:
        choice: what is asked for.
        told: gets a line before each part that takes its time.
        clock: seconds from anywhere.

    Returns:
        ``recommended`` and ``nearest``, the names of the one to take and of the fastest whose accuracy is known, None
        where there is none; ``provisional``, whether the one to take was timed so rarely that its p90 says nothing of
        nine frames of ten; ``front``, names from the fastest to the most accurate; ``candidates`` by name: ``source``,
        ``runtime``, ``precision``, ``scale``, ``input``, ``sha256`` (of its files, by name), ``miou`` (percent, or
        None), ``miou_from`` and ``miou_precision``, ``p50_ms``, ``p90_ms``, ``p99_ms``, ``count``, ``meets``,
        ``dominated_by``, ``commands``; ``left_out`` and ``absent`` with reasons; ``fps``, ``wanted_ms``, ``rule``,
        ``protocol`` of the accuracies, ``size``, ``threads``, ``device``, ``limit``, ``seconds``, ``notes``,
        ``warnings``, ``load_average``, ``environment``.

    Raises:
        FeathersegError: something that is asked for is unknown, or nothing of it could be measured.
    """
    with fixed_threads(choice.threads), tempfile.TemporaryDirectory() as folder:
        return _choose(choice, Path(folder), told, clock)


def _choose(choice: Choice, folder: Path, told: Told, clock: Clock) -> dict[str, Any]:
    began, load_before, threads = clock(), load_average(), torch.get_num_threads()
    wanted = 1000 / choice.fps
    judge = None
    if choice.data is not None:
        judge = Judge(choice.data, choice.split, choice.images, wanted, clock=clock, told=told)
    scales = choice.scales or ((1.0,) if judge is None else SCALES_WITH_DATA)
    listed = list_candidates(
        choice.given, runtimes=choice.runtimes, precisions=choice.precisions, scales=scales, device=choice.device
    )
    cards = read_cards(choice.cards)
    known = {one.name: [] if judge else known_accuracies(one, cards) for one in listed.candidates}
    opener = Opener(Running(SIZE, threads, choice.device, choice.classes), folder)
    size = choice.size or (judge.size() if judge else image_size(_protocol(listed, known, opener))) or SIZE
    opener.running = replace(opener.running, size=size)
    image, protocol, accuracies = street(size), None, {}

    def opening(candidate: Candidate) -> Callable[[], Contestant]:
        return lambda: opener.open(candidate).contestant(image)

    def judged(times: Mapping[str, Sequence[float]], until: float) -> dict[str, float | None]:
        nonlocal protocol, accuracies
        if judge is not None:
            judge.judge(opener.shown, times, size, until)
            protocol, accuracies = judge.protocol, judge.found
        else:
            for name in times:
                shown = opener.shown[name]
                if shown.view(size).plain:
                    known[name] += of_file(shown.metadata, shown.candidate.way.precision)
            protocol, accuracies = common({name: known[name] for name in times})
        return {name: accuracies[name].miou for name in times if name in accuracies}

    unpromising = [one.name for one in listed.candidates if not (known[one.name] or judge or one.source.exported)]
    found = explore(
        {one.name: opening(one) for one in sorted(listed.candidates, key=lambda one: one.name in unpromising)},
        judged,
        wanted,
        limit=choice.limit - (clock() - began),
        coarse_share=COARSE_SHARE if judge is None else COARSE_SHARE_WITH_DATA,
        clock=clock,
        told=told,
    )
    if not found.times:
        reasons = " ".join(dict.fromkeys(found.left_out.values()))
        raise FeathersegError(f"no candidate could be measured. {reasons}")
    taken, nearest = recommended(found.final, wanted), nearest_to(found.final)
    load_after = load_average()
    return {
        "recommended": taken and taken.name,
        "nearest": nearest and nearest.name,
        "provisional": taken is not None and len(found.times[taken.name]) < LEAST_FOR_P90,
        "front": [one.name for one in front(found.final)],
        "candidates": _rows(choice, found, opener, accuracies, wanted),
        "left_out": listed.left_out | found.left_out,
        "absent": listed.absent,
        "fps": choice.fps,
        "wanted_ms": round(wanted, 4),
        "rule": RULE,
        "protocol": protocol,
        "size": list(size),
        "threads": threads,
        "device": choice.device,
        "limit": choice.limit,
        "seconds": round(clock() - began, 2),
        "notes": notes_of(listed, found, protocol, size, judge.reasons if judge else None, judge and judge.size()),
        "warnings": _warnings(choice, found, threads, load_before, load_after),
        "load_average": {"before": load_before, "after": load_after},
        "environment": environment(PACKAGES),
    }


def known_accuracies(candidate: Candidate, cards: list[dict[str, Any]]) -> list[Accuracy]:
    """What is known of a candidate before it is opened: by cards, then by the metadata of weights."""
    source = candidate.source
    if candidate.scale != 1 or source.fresh:
        return []
    path = weights_path(source.given)
    said = of_cards(cards, file_sha256(path), candidate.way.precision) if cards else []
    return said if source.exported else said + of_weights(read_metadata(path))


def _protocol(listed: Listed, known: Mapping[str, list[Accuracy]], opener: Opener) -> str | None:
    """That of the accuracies, what exported files say of themselves included."""
    files: dict[str, Candidate] = {}
    for one in listed.candidates:
        if one.source.exported:
            files.setdefault(one.source.given, one)  # the first is opened for timing in any case
    said = {given: opener.said_by_file(one.source, one.way) for given, one in files.items()}
    every = {
        one.name: known[one.name]
        + (of_file(said[one.source.given], one.way.precision) if one.source.exported and one.scale == 1 else [])
        for one in listed.candidates
    }
    return common(every)[0]


def _rows(
    choice: Choice, found: Explored, opener: Opener, accuracies: dict[str, Accuracy], wanted: float
) -> dict[str, dict[str, Any]]:
    rows = {}
    for name in found.times:
        one = found.standing(name)
        shown, known = opener.shown[one.name], accuracies.get(one.name)
        about = shown.opened.about
        rows[one.name] = {
            "source": shown.candidate.source.name,
            "runtime": about["runtime"],
            "precision": about["precision"],
            "scale": shown.candidate.scale,
            "input": list(shown.input_size(opener.running.size)),
            "sha256": shown.candidate.source.digests,
            "miou": known and known.miou,
            "miou_from": known and known.source,
            "miou_precision": known and known.precision,
            **summary(found.times[one.name]).to_dict(),
            "meets": one.milliseconds <= wanted,
            "dominated_by": found.dominator(name),
            "commands": Commands(shown, opener.running, choice.threads).lines,
        }
    return rows


def notes_of(
    listed: Listed,
    found: Explored,
    protocol: str | None,
    size: tuple[int, int],
    reasons: dict[str, str] | None,
    judged_size: tuple[int, int] | None,
) -> list[str]:
    """What a reader must know of the choice, one sentence each.

    Args:
        listed: what there was to measure.
        found: what came of it.
        protocol: of the accuracies; None where none is known.
        size: (H, W) of the images that were timed.
        reasons: why candidates have no accuracy, of a judge; None without one.
        judged_size: (H, W) of the judged images; None without a judge.
    """
    notes = [f"{runtime} is left out: {reason}" for runtime, reason in listed.absent.items()]
    by_reason: dict[str, list[str]] = {}
    for name, reason in (listed.left_out | found.left_out).items():
        by_reason.setdefault(f"not measured ({reason})", []).append(name)
    for name in found.times:
        if found.accuracies.get(name) is None:
            why = "no figure under one protocol with the others; --data or --cards give it"
            reason = why if reasons is None else reasons.get(name, why)
            by_reason.setdefault(f"accuracy unknown, and so not chosen ({reason})", []).append(name)
    notes += [f"{what}: {'; '.join(names)}" for what, names in by_reason.items()]
    of = judged_size or image_size(protocol)
    if protocol is not None and of is not None and of != size:
        swapped = ". Sizes are height x width" if of == size[::-1] else ""
        notes.append(f"the accuracies are of images of {of[0]}x{of[1]}, and the times of {size[0]}x{size[1]}{swapped}")
    if protocol is not None and protocol.split(",")[0].rpartition("→")[2].split("/")[-1] == "test":
        notes.append("chosen by accuracies on test, which are then no longer an unbiased figure of the chosen one")
    return notes


def _warnings(choice: Choice, found: Explored, threads: int, before: float | None, after: float | None) -> list[str]:
    """What makes the times of the front doubtful, by the rules of ``featherseg bench``."""
    of: list[Standing] = front(found.final) or found.final
    times = {one.name: Times(tuple(found.times[one.name]), {}) for one in of}
    least = min(len(one.total) for one in times.values())
    measured = Measured(times, ENOUGH_ROUNDS, found.seconds, "limit")
    said = warnings_of(measured, threads, before, after, Request((), rounds=ENOUGH_ROUNDS))
    if least < LEAST_FOR_DRIFT:
        said.append(
            f"{choice.limit:g} s sufficed for {least} runs of some candidates of the front. Give a larger --limit"
        )
    return said
