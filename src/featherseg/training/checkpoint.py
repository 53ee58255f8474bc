"""Training checkpoints: one safetensors file that is whole or not there, and the one before it.

Everything that a run needs to go on to the bit is in it: weights, EMA, the optimiser's tensors, and as JSON the step,
the best validation score, the recipe and the gradient scaler. No random generator's state: see randomness.py.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from featherseg.errors import FeathersegError
from featherseg.files import atomic_write

NAME = "checkpoint.safetensors"
PREVIOUS = "checkpoint.previous.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step`` updates; tensors are grouped by the prefix before the first ``/``."""

    step: int
    tensors: dict[str, Tensor]
    recipe: dict[str, Any]
    best: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None
    seconds: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below ``prefix/``, by the rest of their names."""
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + "/")}


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write ``folder``'s checkpoint; the one before is kept beside it.

    Raises:
        FeathersegError: no space is left, say; the last checkpoint is intact.
    """
    about = {
        "format": FORMAT,
        "step": checkpoint.step,
        "recipe": checkpoint.recipe,
        "best": checkpoint.best,
        "scaler": checkpoint.scaler,
        "seconds": checkpoint.seconds,
        "extra": checkpoint.extra,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    content = save(tensors, {"checkpoint": json.dumps(about)})
    current, previous = folder / NAME, folder / PREVIOUS
    if current.exists() and _is_whole(current):
        # A second name for the last checkpoint, put in place by renaming: there is never a moment without a whole one.
        second = folder / f".{PREVIOUS}.link"
        second.unlink(missing_ok=True)
        try:
            os.link(current, second)
        except OSError:  # a file system without hard links: the last checkpoint goes by its second name for a moment
            second = current
        os.replace(second, previous)
    atomic_write(current, content)


def _is_whole(path: Path) -> bool:
    """Whether a file's length is what its header says; a damaged checkpoint must not displace the one before it."""
    try:
        with safe_open(path, framework="pt") as file:
            return "checkpoint" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that a process killed in mid-save left in ``folder``."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the newest whole checkpoint of ``folder``.

    Raises:
        FeathersegError: there is none, or none can be read.
    """
    errors = []
    for name in (NAME, PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["checkpoint"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return Checkpoint(
                about["step"],
                tensors,
                about["recipe"],
                about["best"],
                about["scaler"],
                about["seconds"],
                about["extra"],
            )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            errors.append(f"{path.name}: {error}")
    if errors:
        raise FeathersegError(
            f"{folder}: no checkpoint can be read ({'; '.join(errors)}). Start again without --resume."
        )
    raise FeathersegError(f"{folder}: there is no checkpoint to resume from. Start without --resume.")


def check_start(folder: Path, resume: bool) -> None:
    """Refuse to resume where there is no checkpoint, and to begin where there is one.

    Raises:
        FeathersegError: the folder does not fit what was asked for.
    """
    if resume and not has_checkpoint(folder):
        raise FeathersegError(f"{folder}: there is no checkpoint to resume from. Start without --resume.")
    if not resume and has_checkpoint(folder):
        raise FeathersegError(
            f"{folder}: holds the checkpoint of a run. Go on with --resume, choose another name=..., or remove it."
        )


def has_checkpoint(folder: Path) -> bool:
    """Whether ``folder`` holds a checkpoint, whole or not."""
    return (folder / NAME).exists() or (folder / PREVIOUS).exists()
