"""The training log: JSON lines always, TensorBoard as an extra."""

import contextlib
import json
from pathlib import Path
from typing import Any

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write

NAME = "log.jsonl"


class TrainingLog:
    """Appends entries to ``folder/log.jsonl``; lines past ``start`` (of a run that was killed) are dropped first."""

    def __init__(self, folder: Path, start: int, *, active: bool = True, tensorboard: bool = False) -> None:
        self._file = None
        self._board = None
        if not active:
            return
        kept = [entry for entry in read_log(folder) if start and entry["step"] <= start]
        path = atomic_write(folder / NAME, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._file = path.open("a", encoding="utf-8")
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except (ImportError, RuntimeError):
                raise FeathersegError(
                    "train.tensorboard=true needs the tensorboard package: pip install 'featherseg[tensorboard]'."
                ) from None
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)

    def write(self, entry: dict[str, Any]) -> None:
        """Append one entry; it must hold ``step``."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            raise FeathersegError(
                f"{self._file.name}: could not be written: {error.strerror}. Free some space, then go on with --resume."
            ) from error
        if self._board is not None:
            values = entry.get("evaluation", entry)
            for name, value in values.items():
                if isinstance(value, (int, float)) and name != "step":
                    self._board.add_scalar(name, value, entry["step"])

    def close(self) -> None:
        """Close the files."""
        if self._file is not None:
            # What a full disk left in the buffer was reported by write().
            with contextlib.suppress(OSError):
                self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The whole entries of a run's log; a last line that was cut short is left out."""
    path = folder / NAME
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "step" in entry:
            entries.append(entry)
    return entries
