"""Going on from a checkpoint: the same recipe, the same network, the same optimiser state."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from featherseg.errors import FeathersegError
from featherseg.recipes.schema import Recipe, section_defaults
from featherseg.training.checkpoint import Checkpoint
from featherseg.training.ema import ExponentialMovingAverage
from featherseg.training.optimizers import load_optimizer_tensors

# Settings that may change between a run and its resumption. Threads and device alter the order of sums: a run that
# changes them goes on well, but not to the same bits.
_FREE = {"checkpoint_every", "evaluate_every", "log_every", "workers", "threads", "tensorboard", "device"}


def restore(
    found: Checkpoint,
    recipe: Recipe,
    network: nn.Module,
    ema: ExponentialMovingAverage | None,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    folder: Path,
) -> None:
    """Put a checkpoint's state into a run's objects.

    Raises:
        FeathersegError: the recipe changed in a setting that the weights depend on, or the network is another one.
    """
    check_same_recipe(found.recipe, recipe.model_dump(mode="json"), folder)
    try:
        network.load_state_dict(found.group("model"))
        load_optimizer_tensors(optimizer, network, found.group("optimizer"))
    except (RuntimeError, KeyError) as error:
        raise FeathersegError(
            f"{folder}: the checkpoint is of another network ({error}). Choose another name."
        ) from None
    if ema:
        for name, tensor in found.group("ema").items():
            ema.state[name].copy_(tensor)
    if found.scaler:
        scaler.load_state_dict(found.scaler)


def check_same_recipe(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Compare the recipe that a checkpoint in ``folder`` holds with the one to go on with, both as JSON has them.

    Raises:
        FeathersegError: they differ in a setting that the weights depend on; the message names it.
    """
    changed = []
    for section in sorted(set(before) | set(now)):
        old, new = before.get(section), now.get(section)
        if isinstance(old, dict | None) and isinstance(new, dict):
            # An older featherseg did what is now the default of a setting, or section, that it did not have.
            old = section_defaults(section) | (old or {})
            changed += [
                f"{section}.{key}"
                for key in sorted(set(old) | set(new))
                if old.get(key) != new.get(key) and not (section == "train" and key in _FREE)
            ]
        elif old != new and (old or new):  # a field that is no more, or not yet, says nothing where it is empty
            changed.append(section)
    if changed:
        raise FeathersegError(
            f"{folder}: the checkpoint was made with other values of {', '.join(changed)}. "
            "Resume with the same recipe, or choose another name for a new run."
        )
