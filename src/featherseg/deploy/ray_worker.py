"""What runs on the machines of a Ray cluster: the workers that label images, and the tally that they keep together.

Choices worth knowing:

- Ray Data gives the images of a lost worker to another one, in pieces of several. The tally, one small process beside
  the command, knows which of those were done, so that nothing is done or counted twice; and which image was at hand, so
  that one that ends two workers is left out instead of ending all.
- A worker first looks for a hidden file that the command wrote into the output folder: without a file system that both
  see it would write its results where nobody looks for them.
- What goes wrong travels back as words, not as an exception, which Ray would wrap in its own and try again.
"""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherseg import __version__
from featherseg.deploy.files import ImageFile, Predictor, refuse_to_overwrite
from featherseg.deploy.packages import runtime_module
from featherseg.errors import FeathersegError

EXTRA = "ray"
TRIES = 2
"""So many workers may be lost at one image."""

DONE, PROBLEM, UNSEEN, STOP = "done", "problem", "unseen", "stop"


@dataclass(frozen=True)
class Work:
    """What every worker is told.

    Attributes:
        make: makes what predicts, of its number of threads; something that pickle can name.
        threads: of a worker.
        home: the folder that relative paths start from.
        output: the folder of the results, absolute.
        token: the name of a file in it.
        overlay, outputs: as :func:`featherseg.deploy.files.predict_files` takes them.
        version: of featherseg.
        workers: how many there are.
    """

    make: Callable[..., Predictor]
    threads: int
    home: Path
    output: Path
    token: str
    overlay: bool
    outputs: tuple[str, ...]
    workers: int
    version: str = __version__


@dataclass(frozen=True)
class Answer:
    """What became of an image: its kind, words for it, how many workers were lost at it before, and the machine."""

    kind: str
    words: str
    lost: int = 0
    machine: str = ""


class Tally:
    """Which images are at hand, which are done, and how many workers have begun to load; a Ray actor."""

    def __init__(self) -> None:
        self.begun: dict[str, int] = {}
        self.answers: dict[str, Answer] = {}
        self.loading = 0

    def begin_loading(self) -> int:
        """How many workers load, or were lost while they did, this one included."""
        self.loading += 1
        return self.loading

    def end_loading(self) -> None:
        self.loading -= 1

    def claim(self, stem: str) -> tuple[int, Answer | None]:
        """How many workers have been lost at the image, and what became of it if that is known."""
        if stem in self.answers:
            return 0, self.answers[stem]
        self.begun[stem] = self.begun.get(stem, 0) + 1
        return self.begun[stem] - 1, None

    def tell(self, stem: str, answer: Answer) -> None:
        self.begun.pop(stem, None)
        self.answers[stem] = answer

    def forget(self) -> None:
        """Begin anew: other images come."""
        self.__init__()


class Labeller:
    """A worker: loads the network, then labels and writes the images of one batch after the other.

    Args:
        work: what to do.
        tally: the handle of the :class:`Tally`.
    """

    def __init__(self, work: Work, tally: Any) -> None:
        self.work, self.tally, self.ray = work, tally, runtime_module("ray", EXTRA)
        self.predictor: Predictor | None = None
        self.stopped: str | None = None
        self.home_is_seen = False
        try:
            self._check_place()
            self._load()
        except FeathersegError as error:
            self.stopped = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Columns ``path`` and ``stem`` (bytes) give ``path``, ``stem`` and the answers."""
        images = [
            ImageFile(Path(os.fsdecode(path)), os.fsdecode(stem))
            for path, stem in zip(batch["path"], batch["stem"], strict=True)
        ]
        answers = [self._answer(image) for image in images]
        return {
            "path": [os.fsencode(image.path) for image in images],
            "stem": [os.fsencode(image.stem) for image in images],
            "kind": [answer.kind for answer in answers],
            "words": [os.fsencode(answer.words) for answer in answers],
            "lost": [answer.lost for answer in answers],
            "machine": [answer.machine for answer in answers],
        }

    def _check_place(self) -> None:
        here, work = socket.gethostname(), self.work
        if work.version != __version__:
            raise FeathersegError(
                f"the machine {here} has featherseg {__version__}, and this one {work.version}. Install the same "
                "on all."
            )
        if not (work.output / work.token).exists():
            raise FeathersegError(
                f"the machine {here} does not see the output folder {work.output} of this one. Images, weights and "
                "results must lie on a file system that all machines have, under the same path."
            )
        with suppress(OSError):  # absolute paths do without it
            os.chdir(work.home)
            self.home_is_seen = True

    def _load(self) -> None:
        begun = self.ray.get(self.tally.begin_loading.remote())
        if begun > 2 * self.work.workers:
            raise FeathersegError(
                "the workers are lost before they can begin. Is there memory for so many networks? Give fewer --jobs."
            )
        try:
            self.predictor = self.work.make(threads=self.work.threads)
        except FeathersegError as error:
            raise FeathersegError(f"on the machine {socket.gethostname()}: {error}") from None
        finally:
            self.ray.get(self.tally.end_loading.remote())

    def _answer(self, image: ImageFile) -> Answer:
        if self.stopped is not None:
            return Answer(STOP, self.stopped)
        lost, answer = self.ray.get(self.tally.claim.remote(image.stem))
        if answer is None:
            answer = self._label(image, lost)
            self.ray.get(self.tally.tell.remote(image.stem, answer))
        return answer

    def _label(self, image: ImageFile, lost: int) -> Answer:
        if lost >= TRIES:
            return Answer(
                PROBLEM,
                f"{image.path}: not labelled, since {TRIES} workers were lost at it. Is there memory for it? Give "
                "fewer --jobs.",
                lost,
            )
        host, seen = socket.gethostname(), image.path.exists()
        if not self.home_is_seen and not image.path.is_absolute():
            return Answer(UNSEEN, f"{image.path}: not there on the machine {host}", lost, host)
        assert self.predictor is not None
        try:
            refuse_to_overwrite(image, self.work.output, self.work.outputs)
            result = self.predictor.predict(image.path)
        except FeathersegError as error:
            return Answer(PROBLEM if seen else UNSEEN, str(error), lost, host)
        try:
            result.save(self.work.output, image.stem, overlay=self.work.overlay)
        except FeathersegError as error:
            self.stopped = str(error)
            return Answer(STOP, self.stopped, lost)
        return Answer(DONE, str(result), lost)
