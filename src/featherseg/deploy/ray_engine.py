"""Many images by many machines: ``featherseg predict --engine ray``, through Ray Data.

Choices worth knowing:

- The command finds the images, and the workers of the cluster label them and write the results where it would have: one
  file system for all, and the same files as from one process. What travels is names and words.
- Images are handed out in pieces of a few, so that a worker that is lost costs little, and by 10,000 at once: memory
  does not grow with their number. Between two such lots the networks are loaded again.
- A lost worker is replaced by Ray, on another machine if need be, and only what it had not done is done again
  (deploy/ray_worker.py). A file is either whole or not there; the remains of one that was cut short are removed.
- ``resume`` leaves out images whose results are complete, and younger than image and weights.
"""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from featherseg.deploy.files import OUTPUTS, ImageFile, Names, Outcome, Predictor, find_images
from featherseg.deploy.ray_cluster import Cluster, connected, quiet_data, ray_module
from featherseg.deploy.ray_worker import DONE, STOP, TRIES, UNSEEN, Answer, Labeller, Tally, Work
from featherseg.deploy.workers import remove_remains
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write

_AT_ONCE = 10_000
_PIECE = 16
"""Images handed out together, at most; fewer where every worker would not get eight pieces."""
_PICTURES = ("_overlay.png", "_boxes.jpg")


@dataclass(frozen=True)
class Crew:
    """The workers that are asked for.

    Attributes:
        jobs: how many; None for one a machine.
        threads: of each; None to share out the CPUs of a machine.
        address: of the cluster, see :func:`featherseg.deploy.ray_cluster.connected`.
        device: of the networks; "cuda" gives every worker a GPU, "auto" does where the cluster has some.
    """

    jobs: int | None = None
    threads: int | None = None
    address: str | None = None
    device: str = "cpu"


def is_finished(image: ImageFile, output: Path, outputs: Iterable[str], *, overlay: bool, since: float = 0.0) -> bool:
    """Whether all results of ``image`` are there, of one run, and younger than it and ``since`` (seconds of the epoch).

    The JSON is written first: a picture that is older than it is one of an earlier run.
    """
    ends = [end for end in outputs if end != ".txt" and (overlay or end not in _PICTURES)]
    try:
        times = {end: (output / f"{image.stem}{end}").stat().st_mtime for end in ends}
        newest = max(image.path.stat().st_mtime, since)
    except OSError:
        return False
    return newest <= times[".json"] == min(times.values())


def predict_files_on_ray(
    make: Callable[..., Predictor],
    arguments: Iterable[str | Path],
    output: str | Path,
    *,
    crew: Crew,
    overlay: bool = True,
    outputs: Iterable[str] = OUTPUTS,
    resume: bool = False,
    since: float = 0.0,
    problem: Callable[[str], None],
    told: Callable[[str], None],
    left_out: Callable[[int], None] | None = None,
    progress: Callable[[int], None] | None = None,
    done: Callable[[ImageFile, str], None] | None = None,
    names: Names | None = None,
) -> Outcome:
    """Predict every image and write its files below ``output``, as :func:`featherseg.deploy.files.predict_files` does.

    Args:
        make: makes what predicts, in every worker, called as ``make(threads=n)``; something that pickle can name.
        arguments: as :func:`featherseg.deploy.files.find_images` takes them.
        output: a folder, made if need be, that all machines see.
        crew: how many workers, and where.
        overlay: write the coloured pictures too.
        outputs: what is added to an image's name for the files that are written.
        resume: leave out what :func:`is_finished` says of, ``since`` given.
        since: when the weights were written.
        problem: called with one line for every image that could not be done.
        told: called with one line for every worker that was lost.
        left_out: called with the number of images that ``resume`` left out, if there are any.
        progress: called with the number of images looked at so far.
        done: called with every image and its result as text, once that is written, in any order.
        names: of results that are taken.

    Raises:
        FeathersegError: Ray is not installed, there is no such cluster, a machine does not see the files or cannot load
            the network, the output folder is an argument, or it cannot be written.
    """
    count = _Count(problem, progress)
    target, outputs = Path(output).resolve(), tuple(outputs)
    finished = 0

    def wanted() -> Iterator[ImageFile]:
        nonlocal finished
        for image in find_images(arguments, output, count.problem, names):
            if resume and is_finished(image, target, outputs, overlay=overlay, since=since):
                finished += 1
            else:
                yield image

    images = wanted()
    lot = list(islice(images, _AT_ONCE))
    if lot:
        _check_device(crew.device)
        ray_module("ray.data")
        token = atomic_write(target / f".{secrets.token_hex(8)}.token", "")
        with ExitStack() as stack:
            stack.callback(token.unlink, missing_ok=True)
            cluster = stack.enter_context(connected(crew.address, crew.jobs, crew.threads))
            jobs, threads = cluster.shape(crew.jobs, crew.threads)
            if cluster.busy:
                told("all CPUs of the cluster are taken; waiting for the first to be free")
            work = Work(make, threads, Path.cwd(), target, token.name, overlay, outputs, jobs)
            tally = _tally(cluster)
            while lot:
                for image, answer in _answers(cluster, work, tally, lot, crew.device):
                    _judge(image, answer, work, count, told, done)
                lot = list(islice(images, _AT_ONCE))
    if finished and left_out:
        left_out(finished)
    return Outcome(count.written, count.failed)


class _Count:
    def __init__(self, problem: Callable[[str], None], progress: Callable[[int], None] | None) -> None:
        self.written = self.failed = 0
        self._problem, self._progress = problem, progress

    def problem(self, line: str) -> None:
        self.failed += 1
        self._problem(line)

    def advance(self) -> None:
        if self._progress:
            self._progress(self.written + self.failed)


def _check_device(device: str) -> None:
    if device.startswith("cuda:"):
        raise FeathersegError(f"--device {device}: on a cluster Ray deals out the GPUs. Say cuda.")


def _tally(cluster: Cluster) -> Any:
    """The tally, on the machine of the command if that may be; begun anew and asked again if it is lost."""
    ray = cluster.ray
    strategy = ray_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
    here = strategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    return ray.remote(Tally).options(**options).remote()


def _answers(
    cluster: Cluster, work: Work, tally: Any, lot: list[ImageFile], device: str
) -> Iterator[tuple[ImageFile, Answer]]:
    """What became of the images, as they are done."""
    ray, data = cluster.ray, ray_module("ray.data")
    piece = max(1, min(_PIECE, len(lot) // (8 * work.workers)))
    pieces = -(-len(lot) // piece)
    gpu = device == "cuda" or (device == "auto" and cluster.gpus > 0)
    rows = [{"path": os.fsencode(image.path), "stem": os.fsencode(image.stem)} for image in lot]
    ray.get(tally.forget.remote())
    with quiet_data(data):
        labelled = data.from_items(rows, override_num_blocks=pieces).map_batches(
            Labeller,
            fn_constructor_kwargs={"work": work, "tally": tally},
            batch_size=piece,
            compute=data.ActorPoolStrategy(size=min(work.workers, pieces)),
            num_cpus=work.threads,
            num_gpus=1 if gpu else None,
        )
        try:
            for row in labelled.iter_rows():
                image = ImageFile(Path(os.fsdecode(row["path"])), os.fsdecode(row["stem"]))
                yield image, Answer(row["kind"], os.fsdecode(row["words"]), row["lost"], row["machine"])
        except ray.exceptions.RayError as error:
            raise FeathersegError(
                f"the Ray cluster failed: {_cause(error)}. What was labelled stays, and --resume goes on from there."
            ) from None


def _cause(error: BaseException) -> str:
    """The last line of what was raised first: Ray wraps it, traceback and all."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)


def _judge(
    image: ImageFile,
    answer: Answer,
    work: Work,
    count: _Count,
    told: Callable[[str], None],
    done: Callable[[ImageFile, str], None] | None,
) -> None:
    if answer.lost:
        remove_remains(work.output, image, work.outputs)
    if 0 < answer.lost < TRIES:
        told(f"a worker was lost at {image.path}; the image was done again, nothing else is lost")
    if answer.kind == STOP:
        raise FeathersegError(answer.words)
    if answer.kind == UNSEEN and image.path.exists():
        raise FeathersegError(
            f"the machine {answer.machine} does not see {image.path}. Images, weights and results must lie on a file "
            "system that all machines have, under the same path."
        )
    if answer.kind == DONE:
        count.written += 1
        if done:
            done(image, answer.words)
    else:
        count.problem(answer.words)
    count.advance()
