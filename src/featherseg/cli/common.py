"""What the commands share: figures to stdout, words to stderr, a progress bar where a person is watching."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from featherseg.errors import FeathersegError, nearest

PROGRAM = "featherseg"
NOT_SO, WRONG_USE = 1, 2
SECONDS_BETWEEN_LINES = 30.0

Json = Annotated[bool, typer.Option("--json", help="Print pure JSON on stdout.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto for a GPU where there is one.")]
Card = Annotated[Path | None, typer.Option(help="Write a result card (JSON) here.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Recipe fields.")]
Threads = Annotated[int | None, typer.Option(help="At most so many threads; as PyTorch decides, if not given.")]
Weights = Annotated[str, typer.Option("--weights", "-w", help="A weights file, or the name of shipped weights.")]
Data = Annotated[str, typer.Option(help="A folder, a YAML that describes one, or 'streets'.")]
Runtimes = Annotated[
    list[str] | None,
    typer.Option(
        help="torch, compiled, onnx, openvino, litert, executorch, with commas or repeated; all, if not given."
    ),
]
Precisions = Annotated[list[str] | None, typer.Option(help="fp32 or bf16; all that each runtime has, if not given.")]
ClassNames = Annotated[
    Path | None, typer.Option(help="A file with the class names of another program's file, one a line.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint.")]
RunsFolder = Annotated[Path, typer.Option(help="Where the run's folder (by the recipe's name) is made.")]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]
Scales = Annotated[str, typer.Option(help="Average over scales: 0.75,1,1.25.")]
TakenSize = Annotated[
    str | None, typer.Option(help="Height x width of the images it will take, as 225x225; any, if not given.")
]


def check_running(precision: str, threads: int | None, precisions: Sequence[str] = ("fp32", "bf16")) -> None:
    """Refuse a precision that is none of ``precisions``; give this process's pools at most ``threads``.

    Raises:
        FeathersegError: the precision is unknown, or there are no threads.
    """
    if precision not in precisions:
        hint = nearest(precision, precisions)
        raise FeathersegError(f"--precision {precision!r} is not known{hint}. There are: {', '.join(precisions)}.")
    if threads is None:
        return
    if threads < 1:
        raise FeathersegError(f"--threads {threads} runs nothing. Give at least 1.")
    import torch

    torch.set_num_threads(threads)


def note(text: str) -> None:
    """Tell the person something; stdout is kept for figures. Only the first process of several speaks."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr, flush=True)


def note_from_handler(text: str) -> None:
    """:func:`note` for a signal handler, where Python's buffered streams must not be entered a second time."""
    if os.environ.get("RANK", "0") == "0":
        newline = "\n" if sys.stderr.isatty() else ""  # off the progress bar's line, and the terminal's ^C
        with suppress(OSError):
            os.write(2, f"{newline}{text}\n".encode())


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of text, numbers to the right; a value that does not exist is a dash."""
    shown = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(head), *shown]) for i in range(len(head))]
    right = [all(isinstance(row[i], int | float) or row[i] is None for row in rows) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        aligned = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True))
        return "  ".join(aligned).rstrip()

    return "\n".join([line(head), line(["-" * width for width in widths]), *(line(cells) for cells in shown)])


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def parse_size(text: str) -> tuple[int, int]:
    """``"1024x2048"`` as (1024, 2048), rows first.

    >>> parse_size("360x480")
    (360, 480)
    """
    found = re.fullmatch(r"(\d{1,6})[xX×](\d{1,6})", text.strip())
    if not found or min(int(found[1]), int(found[2])) < 1:
        raise FeathersegError(f"--size {text!r} is no size. Write height x width, for example 1024x2048.")
    return int(found[1]), int(found[2])


def listed(texts: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names with commas or spaces between them, of an option that may be repeated; None for all.

    >>> listed(["onnx, openvino", "torch"]), listed(["all"]), listed(None)
    (('onnx', 'openvino', 'torch'), None, None)
    """
    names = tuple(dict.fromkeys(name for name in re.split(r"[,\s]+", " ".join(texts or ())) if name))
    return None if "all" in names or not names else names


def clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _sparse_lines(what: str) -> Callable[..., None]:
    last = time.monotonic()
    first: tuple[float, int] | None = None

    def advance(done: int, total: int | None = None, words: str = "") -> None:
        nonlocal last, first
        now = time.monotonic()
        began, done_before = first = first or (now, done)
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        parts = [f"{what}: {done:,}" + ("" if total is None else f" of {total:,}"), words]
        if total is not None and done > done_before:
            parts.append(f"{clock((now - began) / (done - done_before) * (total - done))} left")
        note("  ".join(part for part in parts if part))

    return advance


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """Give a function ``(done, all or None, words after the bar)`` that moves a bar on stderr.

    Where stderr is no terminal, it prints a plain line there every half a minute. Of several processes only the first
    shows anything.
    """
    if os.environ.get("RANK", "0") != "0":
        yield lambda done, total=None, words="": None
        return
    if not sys.stderr.isatty():
        yield _sparse_lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, words="")

        def advance(done: int, total: int | None = None, words: str = "") -> None:
            progress.update(task, completed=done, total=total, words=words)

        yield advance
