"""Result cards: every figure the project publishes is one JSON file that says how it came about.

Choices worth knowing:

- A card carries what a second person needs to get the figure again (command, commit, versions, seeds, a fingerprint of
  the data, the protocol) and nothing that tells whose machine it was: no host name, no user, no absolute path.
- The commit is recorded only when the package runs from its own repository; installed inside somebody else's, it would
  be their commit. ``dirty`` means that the tracked or new files under ``src/`` differ from the commit.
- A score that does not exist (a class absent from the test set) is null. JSON has no NaN, and infinity is a defect.
- Keys are sorted and the layout is fixed, so that two cards can be compared line by line.
- An interval stands beside its figure as ``NAME_interval: [low, high]``; the paper's value stands under the same name
  in ``paper``.
"""

import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PureWindowsPath
from typing import Any

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write

FORMAT = 1

_FIELDS: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "kind": (str,),
    "protocol": (str,),
    "figures": (dict,),
    "paper": (dict, type(None)),
    "command": (str,),
    "seeds": (list,),
    "data_fingerprint": (str, type(None)),
    "notes": (str, type(None)),
    "date": (str,),
    "commit": (dict, type(None)),
    "version": (str,),
    "machine": (dict,),
}

# An absolute path, at the start of an argument or after what separates a key or list item from it.
_ABSOLUTE = re.compile(r"""(^|[=,:;\[({'"\s])((?:~[^\s/\\=,:;]*|[A-Za-z]:)?[/\\][^=,:;\[\](){}'"]*)""")


def card(
    kind: str,
    *,
    protocol: str,
    figures: Mapping[str, Any],
    command: str | Sequence[str],
    seeds: Sequence[int],
    data_fingerprint: str | None,
    paper: Mapping[str, Any] | None = None,
    notes: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Make a card; date, commit, versions and machine are added.

    Args:
        kind: what was measured: ``"evaluation"``, ``"complexity"``, ``"latency"``.
        protocol: how, as in ``"camvid11/480x360/train→test"``.
        figures: name to number, null, or a mapping of such (IoU by class). numpy values are taken; NaN becomes null.
        command: what was typed, as one string or as arguments. Absolute paths lose their folders.
        seeds: every seed the figures depend on; empty where nothing was random.
        data_fingerprint: of the data set; None where no data was read.
        paper: the published figures, under the same names.
        notes: anything a reader must know.
        more: further fields; absolute paths in their texts lose their folders.

    Raises:
        ValueError: a field of ``more`` has the name of a fixed field, or a value has no place in JSON.
    """
    clash = sorted(set(more) & set(_FIELDS))
    if clash:
        raise ValueError(f"these fields are filled by the card itself: {', '.join(clash)}")
    made = {
        "format": FORMAT,
        "kind": kind,
        "protocol": protocol,
        "figures": dict(figures),
        "paper": None if paper is None else dict(paper),
        "command": _command(command),
        "seeds": [int(seed) for seed in seeds],
        "data_fingerprint": data_fingerprint,
        "notes": notes,
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": git_commit(),
        "version": _version("featherseg") or "unknown",
        "machine": machine(),
    }
    return {**_plain(made), **_without_folders(_plain(more))}


def write_card(path: str | Path, card: Mapping[str, Any]) -> Path:
    """Write a card atomically, in the fixed layout.

    Raises:
        FeathersegError: a field is missing or of the wrong type, or the file cannot be saved.
    """
    _check(card, str(path))
    text = json.dumps(_plain(card), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return atomic_write(path, text + "\n")


def read_card(path: str | Path) -> dict[str, Any]:
    """Read and check one card. Raises FeathersegError that names the file and the field."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FeathersegError(f"{path}: the card cannot be read: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise FeathersegError(
            f"{path}: this is not JSON ({error}). Write the card again with its command, or restore the file."
        ) from error
    _check(content, str(path))
    return content


def load_cards(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Read every ``*.json`` under ``folder``, by its path inside it without the suffix, in the order of the names."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FeathersegError(
            f"{folder}: there is no such folder of cards. Give the folder that holds the *.json files."
        )
    return {
        path.relative_to(folder).with_suffix("").as_posix(): read_card(path) for path in sorted(folder.rglob("*.json"))
    }


def machine() -> dict[str, Any]:
    """Describe this machine without naming it: processor, cores, threads, memory, system and versions."""
    torch = sys.modules.get("torch")
    gpu = None
    if torch is not None and torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": _cpu_model(),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "memory_gib": _memory_gib(),
        "gpu": gpu,
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
    }


def git_commit() -> dict[str, Any] | None:
    """``{"hash", "dirty"}`` of the repository the package runs from; None when it does not run from its own."""
    package = Path(__file__).resolve().parent
    top = _git(package, "rev-parse", "--show-toplevel")
    commit = _git(package, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() / "src" / "featherseg" != package:
        return None
    return {"hash": commit, "dirty": bool(_git(Path(top), "status", "--porcelain", "--", "src"))}


def shorten_paths(argument: str) -> str:
    """Cut absolute paths in one argument down to their last component; relative paths and URLs stay.

    >>> shorten_paths("data.root=/home/x/data/camvid")
    'data.root=camvid'
    >>> shorten_paths("runs/a/card.json")
    'runs/a/card.json'
    """
    if re.match(r"https?://", argument):
        return argument
    return _ABSOLUTE.sub(lambda found: found[1] + (PureWindowsPath(found[2]).name or "/"), argument)


def _command(command: str | Sequence[str]) -> str:
    if isinstance(command, str):
        try:
            command = shlex.split(command)
        except ValueError:
            command = command.split()
    return " ".join(_quoted(shorten_paths(argument)) for argument in command)


def _quoted(argument: str) -> str:
    """Quoted as a shell needs it, but plain where only letters beyond ASCII would make ``shlex`` quote."""
    return argument if re.fullmatch(r"[\w@%+=:,./\-]+", argument) else shlex.quote(argument)


def _without_folders(value: Any) -> Any:
    if isinstance(value, str):
        return shorten_paths(value)
    if isinstance(value, dict):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_folders(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """``value`` as JSON has it: numpy values become Python's, NaN becomes None, paths their name."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isinf(value):
            raise ValueError("a card cannot hold an infinite figure")
        return None if math.isnan(value) else float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return shorten_paths(str(value))
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    raise ValueError(f"a card cannot hold a {type(value).__name__}: {value!r}")


def _check(content: Any, where: str) -> None:
    if not isinstance(content, Mapping):
        raise FeathersegError(f"{where}: a card is a JSON object, not a {type(content).__name__}.")
    form = content.get("format")
    if isinstance(form, int) and form > FORMAT:
        raise FeathersegError(
            f"{where}: the card has format {form}, and this featherseg reads up to {FORMAT}. Update featherseg."
        )
    for name, kinds in _FIELDS.items():
        if name not in content:
            raise FeathersegError(f"{where}: the card has no field {name!r}. Write it again with its command.")
        value = content[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise FeathersegError(
                f"{where}: the field {name!r} must be {wanted}, not {type(value).__name__}. "
                "Write the card again with its command."
            )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
