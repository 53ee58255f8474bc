"""A Ray cluster to work on: the one that is named, or one of this machine alone; quiet, and with no report to anybody.

Choices worth knowing:

- Ray's reports of its use to its makers are off, and so are the dashboard and the lines that Ray and its workers print.
- A cluster of this machine is started for the one command, keeps its logs in a temporary folder and leaves nothing.
- A program that is connected to Ray already keeps its connection.
"""

import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from featherseg.deploy.packages import first_line, runtime_module
from featherseg.deploy.ray_worker import EXTRA
from featherseg.errors import FeathersegError

_STORE_BYTES = 128 * 2**20
"""Of a cluster of our own: names go through the object store, never pixels."""
_LONGEST_FOLDER = 40  # the names of Ray's sockets below it must stay within the 107 characters of a Unix socket
_PATIENCE = 5.0


@dataclass(frozen=True)
class Cluster:
    """A connected cluster: the module ``ray``, and the CPUs of each of its machines, the largest first."""

    ray: Any
    cpus: tuple[int, ...]

    @property
    def gpus(self) -> int:
        return int(self.ray.cluster_resources().get("GPU", 0))

    @property
    def busy(self) -> bool:
        """Whether no CPU is free."""
        return self.ray.available_resources().get("CPU", 0) < 1

    def shape(self, jobs: int | None, threads: int | None) -> tuple[int, int]:
        """(workers, threads of each): a worker a machine, and all CPUs in use, where nothing is said.

        Raises:
            FeathersegError: no machine has so many CPUs.
        """
        jobs = jobs or len(self.cpus)
        if threads is None:
            together = -(-jobs // len(self.cpus))
            threads = max(1, min(self.cpus) // together)
        if threads > self.cpus[0]:
            raise FeathersegError(
                f"--threads {threads}: the largest machine of the cluster has {self.cpus[0]} CPUs. Give at most that."
            )
        return jobs, threads


_QUIET = {
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what the cluster says of lost workers, to stdout
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # of a cluster of our own, which is to be no slower than --jobs
}


def ray_module(name: str = "ray") -> Any:
    """A module of Ray, which reads on its first import how much it is to say.

    Raises:
        FeathersegError: Ray is not installed.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    return runtime_module(name, EXTRA)


@contextmanager
def connected(address: str | None, jobs: int | None, threads: int | None) -> Iterator[Cluster]:
    """Connect to a cluster, or start one of this machine, and leave it at the end.

    Args:
        address: "auto" for the cluster that this machine belongs to, "HOST:PORT"; None for the environment's
            RAY_ADDRESS, and without that for a cluster of this machine alone.
        jobs, threads: workers, and threads of each, that a cluster of this machine must have room for.

    Raises:
        FeathersegError: Ray is not installed, or there is no such cluster, or it runs another version.
    """
    ray = ray_module()
    if ray.is_initialized():
        yield _cluster(ray)
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    folder = None
    if address == "local":
        room = max((jobs or 1) * (threads or 1), len(os.sched_getaffinity(0)))
        settings |= {"num_cpus": room, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        folder = tempfile.mkdtemp(prefix="ray-")
        if len(folder) <= _LONGEST_FOLDER:
            settings["_temp_dir"] = folder
    else:
        check_somebody_listens(address)
    try:
        _connect(ray, address, settings)
        with _ended_by_sigterm():
            yield _cluster(ray)
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the command in order; Ray's own handler aborts it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _connect(ray: Any, address: str, settings: dict[str, Any]) -> None:
    try:
        with _quiet_while_it_starts():
            ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError, ImportError) as error:
        if address == "local":
            raise FeathersegError(f"Ray could not be started on this machine: {first_line(error)}") from None
        raise FeathersegError(
            f"--address {address}: {first_line(error)}. Start the cluster there (`ray start --head`), with the same "
            "versions of Python and Ray as here, or leave the address out for a cluster of this machine alone."
        ) from None


@contextmanager
def _quiet_while_it_starts() -> Iterator[None]:
    """Keep Ray's libraries from writing to stderr below Python, where no logger of theirs is asked."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def check_somebody_listens(address: str) -> None:
    """Ray itself waits a minute for a machine that is not there."""
    try:
        place = urlsplit(address if "//" in address else f"//{address}")
        client = place.scheme == "ray"
        host, port = place.hostname, place.port
    except ValueError as error:
        raise FeathersegError(f"--address {address!r}: {error}. Write auto or HOST:PORT.") from None
    if client:
        raise FeathersegError(
            f"--address {address}: Ray Data does not run through a Ray client. Run this on a machine of the cluster, "
            "with --address auto, or give the HOST:PORT that `ray start` told."
        )
    if host is None or port is None:
        if address != "auto":
            raise FeathersegError(f"--address {address!r} is none. Write auto or HOST:PORT.")
        return
    try:
        socket.create_connection((host, port), _PATIENCE).close()
    except OSError as error:
        raise FeathersegError(
            f"--address {address}: nobody answers there: {error.strerror or error}. Is the cluster up, and the port "
            "the one that `ray start` told?"
        ) from None


def _cluster(ray: Any) -> Cluster:
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    cpus = sorted((count for count in cpus if count), reverse=True)
    if not cpus:
        raise FeathersegError("the Ray cluster has no CPUs for workers. Add a machine to it: ray start --address ...")
    return Cluster(ray, tuple(cpus))


@contextmanager
def quiet_data(data: Any) -> Iterator[None]:
    """Keep Ray Data's progress bars and lines from the terminal."""
    import logging

    context = data.DataContext.get_current()
    before = {name: getattr(context, name) for name in _TALKATIVE if hasattr(context, name)}
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    try:
        for name in before:
            setattr(context, name, False)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for name, value in before.items():
            with suppress(AttributeError):
                setattr(context, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_TALKATIVE = (
    "enable_progress_bars",
    "enable_operator_progress_bars",
    "print_on_execution_start",
    "enable_auto_log_stats",
)
