"""Many images by several processes: ``featherseg predict --jobs``.

Choices worth knowing:

- This process finds the images and hands them out one at a time; each worker loads the network for itself, and labels
  and writes what it is given. Memory is that of so many programs, whatever the number of images.
- Every worker has a pipe of its own: one that is killed can spoil nothing that another one reads.
- A worker that is killed (a full memory, as a rule) is replaced, and its image is done again. An image at which two
  were killed is reported and left out. What was written before stays.
- Ctrl-C is this process's: the workers finish the image they are at.
"""

import glob
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from featherseg.deploy.files import OUTPUTS, ImageFile, Names, Outcome, Predictor, find_images, refuse_to_overwrite
from featherseg.errors import FeathersegError

_TRIES = 2
_PATIENCE = 20.0
"""Seconds that the images at hand may take when the others are called off."""


def _serve(
    pipe: Connection, make: Callable[[], Predictor], output: Path, overlay: bool, outputs: tuple[str, ...]
) -> None:
    """A worker's life: load, then an image at a time, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        predictor = make()
    except FeathersegError as error:
        pipe.send(("stop", str(error)))
        return
    pipe.send(("ready", ""))
    try:
        while True:
            pipe.send(_done(predictor, pipe.recv(), output, overlay, outputs))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _done(
    predictor: Predictor, image: ImageFile, output: Path, overlay: bool, outputs: tuple[str, ...]
) -> tuple[str, str]:
    try:
        refuse_to_overwrite(image, output, outputs)
        result = predictor.predict(image.path)
    except FeathersegError as error:
        return "problem", str(error)
    try:
        result.save(output, image.stem, overlay=overlay)
    except FeathersegError as error:
        return "stop", str(error)
    return "done", str(result)


class _Worker:
    """A process, the pipe to it, and the image it is at."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process would inherit the locks of this one's threads
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, *arguments), daemon=True)
        self.process.start()
        other.close()
        self.ready = False
        self.image: ImageFile | None = None

    def give(self, image: ImageFile) -> None:
        self.image = image
        try:
            self.pipe.send(image)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has died; the pipe's other end tells so

    def answer(self) -> tuple[str, str] | None:
        """What it says; None if it has died."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(_PATIENCE)
            return None

    def cause_of_death(self) -> str:
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        return f"was killed ({signal.Signals(-code).name})"


def predict_files_in_processes(
    make: Callable[[], Predictor],
    arguments: Iterable[str | Path],
    output: str | Path,
    *,
    jobs: int,
    overlay: bool = True,
    outputs: Iterable[str] = OUTPUTS,
    problem: Callable[[str], None],
    told: Callable[[str], None],
    progress: Callable[[int], None] | None = None,
    done: Callable[[ImageFile, str], None] | None = None,
    names: Names | None = None,
) -> Outcome:
    """Predict every image and write its files below ``output``, as :func:`featherseg.deploy.files.predict_files` does.

    Args:
        make: makes what predicts, in every process; it must be something that pickle can name.
        arguments: as :func:`featherseg.deploy.files.find_images` takes them.
        output: a folder, made if need be.
        jobs: how many processes.
        overlay: write the coloured pictures too.
        outputs: what is added to an image's name for the files that are written.
        problem: called with one line for every image that could not be done.
        told: called with one line for every worker that died.
        progress: called with the number of images looked at so far.
        done: called with every image and its result as text, once that is written, in any order.
        names: of results that are taken.

    Raises:
        FeathersegError: a process cannot load the network, the output folder is an argument, or it cannot be written.
    """
    return _Crew(make, Path(output), jobs, overlay, tuple(outputs), problem, told, progress, done).run(
        lambda count_problem: find_images(arguments, output, count_problem, names)
    )


class _Crew:
    def __init__(
        self,
        make: Callable[[], Predictor],
        output: Path,
        jobs: int,
        overlay: bool,
        outputs: tuple[str, ...],
        problem: Callable[[str], None],
        told: Callable[[str], None],
        progress: Callable[[int], None] | None,
        done: Callable[[ImageFile, str], None] | None,
    ) -> None:
        if jobs < 1:
            raise FeathersegError(f"{jobs} processes do nothing. Give at least 1.")
        self.arguments = (make, output, overlay, outputs)
        self.output, self.outputs, self.jobs = output, outputs, jobs
        self.problem, self.told, self.progress, self.done = problem, told, progress, done
        self.workers: list[_Worker] = []
        self.waiting: deque[ImageFile] = deque()
        self.deaths: dict[str, int] = {}
        self.dead_while_loading = 0
        self.written = self.failed = 0

    def run(self, find: Callable[[Callable[[str], None]], Iterator[ImageFile]]) -> Outcome:
        images = find(self._count_problem)
        try:
            while True:
                while len(self.waiting) < self.jobs and (image := next(images, None)) is not None:
                    self.waiting.append(image)
                for worker in self.workers:
                    if worker.ready and worker.image is None and self.waiting:
                        worker.give(self.waiting.popleft())
                if not self.waiting and all(worker.image is None for worker in self.workers):
                    return Outcome(self.written, self.failed)
                loading = sum(not worker.ready for worker in self.workers)
                for _ in range(min(self.jobs - len(self.workers), len(self.waiting) - loading)):
                    self.workers.append(_Worker(self.arguments))
                ready = wait([worker.pipe for worker in self.workers])
                for worker in [worker for worker in self.workers if worker.pipe in ready]:
                    self._hear(worker)
        finally:
            for worker in self.workers:
                worker.pipe.close()
            for worker in self.workers:
                worker.process.join(_PATIENCE)
                if worker.process.is_alive():
                    worker.process.terminate()

    def _hear(self, worker: _Worker) -> None:
        answer = worker.answer()
        if answer is None:
            self._bury(worker)
            return
        kind, words = answer
        image, worker.image, worker.ready = worker.image, None, True
        if kind == "stop":
            raise FeathersegError(words)
        if kind == "problem":
            self._count_problem(words)
        elif kind == "done" and image is not None:
            self.written += 1
            if self.done:
                self.done(image, words)
        if self.progress and kind != "ready":
            self.progress(self.written + self.failed)

    def _bury(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.pipe.close()
        cause, image = worker.cause_of_death(), worker.image
        if image is None:
            self.dead_while_loading += 1
            if self.dead_while_loading > self.jobs:
                raise FeathersegError(
                    f"the processes end before they can begin: the last {cause}. Is there memory for {self.jobs} "
                    "networks? Give fewer --jobs."
                )
            self.told(f"a process {cause} before it had an image; another one takes its place")
            return
        remove_remains(self.output, image, self.outputs)
        self.deaths[image.stem] = self.deaths.get(image.stem, 0) + 1
        if self.deaths[image.stem] < _TRIES:
            self.waiting.appendleft(image)
            self.told(f"a process {cause} at {image.path}; the image is done again, nothing else is lost")
        else:
            self._count_problem(
                f"{image.path}: not labelled, since {_TRIES} processes died at it; the last {cause}. Is there memory "
                "for it? Give fewer --jobs."
            )

    def _count_problem(self, line: str) -> None:
        self.failed += 1
        self.problem(line)


def remove_remains(output: Path, image: ImageFile, outputs: Iterable[str]) -> None:
    """Remove the hidden files of a worker that was killed while it wrote."""
    for end in outputs:
        target = output / f"{image.stem}{end}"
        for remains in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
            remains.unlink(missing_ok=True)
