"""The loop of a search: weights alone, then architectures and weights in turn, to the end or to a signal.

Design choices:
- it is a loop of its own beside training/loop.py, whose tasks have one optimiser and one stream of batches;
  checkpoints, log and signals are that loop's;
- a step is a pure function of (weights, both optimisers' states, latency weight, step, seed): a search that is killed
  anywhere and resumed decodes to the same architecture, to the bit on a CPU;
- after every epoch of the search the architecture is decoded and priced, and the latency weight is halved or doubled:
  with a budget, where the two networks take on average less than :data:`SLACK` of it, or more than it.
"""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from featherseg.data.batches import Batch, BatchPlan, training_batches
from featherseg.errors import FeathersegError
from featherseg.recipes.search_schema import Phase, SearchRecipe
from featherseg.search.budget import Pricing
from featherseg.search.decoding import decode_pairs
from featherseg.search.steps import Learner
from featherseg.search.task import SearchTask
from featherseg.training.checkpoint import (
    Checkpoint,
    check_start,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from featherseg.training.distributed import training_device
from featherseg.training.log import TrainingLog
from featherseg.training.loop import StopRequest
from featherseg.training.memory import keep_freed_memory
from featherseg.training.optimizers import load_optimizer_tensors, optimizer_tensors

SLACK = 0.9
LIGHTEST, HEAVIEST = 1e-6, 1e3
_FREE = {"checkpoint_every", "log_every", "workers", "threads", "device"}


@dataclass(frozen=True)
class SearchResult:
    """How the loop ended. ``stopped_by`` is a signal's number where one ended it early."""

    step: int
    steps: int
    seconds: float
    stopped_by: int | None = None


@dataclass(frozen=True)
class Plan:
    """Which steps belong to which phase, and the batches of both halves."""

    pretrain: int
    search: int
    per_epoch: tuple[int, int]

    @property
    def steps(self) -> int:
        return self.pretrain + self.search

    def place(self, step: int) -> tuple[bool, int, int]:
        """Whether a step is of the search, its number within the phase, and its epoch there."""
        searching = step >= self.pretrain
        local = step - self.pretrain if searching else step
        return searching, local, local // self.per_epoch[searching]


def plan_search(task: SearchTask) -> Plan:
    """The steps of a search."""

    def per_epoch(phase: Phase) -> int:
        return phase.iterations or BatchPlan(len(task.halves[0]), phase.batch_size, drop_last=True).steps_per_epoch

    recipe = task.recipe
    first, second = per_epoch(recipe.pretrain), per_epoch(recipe.search)
    return Plan(recipe.pretrain.epochs * first, recipe.search.epochs * second, (first, second))


def adjusted_weight(weight: float, milliseconds: list[float], recipe: SearchRecipe) -> float:
    """The latency weight after an epoch whose decoded networks take ``milliseconds``."""
    if recipe.latency.keep_fps is not None:
        slow, fast = recipe.latency.keep_fps
        if any(1000 / one >= fast for one in milliseconds):
            weight /= 2
        elif any(1000 / one <= slow for one in milliseconds):
            weight *= 2
    elif recipe.latency.budget is not None:
        mean = sum(milliseconds) / len(milliseconds)
        if mean > recipe.latency.budget:
            weight *= 2
        elif mean < SLACK * recipe.latency.budget:
            weight /= 2
    return min(max(weight, LIGHTEST), HEAVIEST) if weight else 0.0


def run_search(
    task: SearchTask,
    learner: Learner,
    pricing: Pricing,
    folder: Path,
    *,
    resume: bool = False,
    progress: Callable[[dict[str, Any]], None] | None = None,
    decoded: Callable[[dict[str, Any]], None] | None = None,
    stopping_soon: Callable[[], None] | None = None,
) -> SearchResult:
    """Search, and write ``checkpoint.safetensors`` and ``log.jsonl`` into ``folder``.

    Args:
        task, learner: data, supernet and optimisers.
        pricing: of the searched network, for the decoded ones.
        folder: of the run; made if need be.
        resume: go on from its checkpoint.
        progress: called after every step with step, steps, phase, loss, and what else the step saw.
        decoded: called after every epoch of the search with the decoded networks' milliseconds and the latency weight.
        stopping_soon: called inside the handler of the first signal that asks the run to stop.

    Raises:
        FeathersegError: the folder holds another run, there is nothing to resume, or the search diverged.
    """
    recipe, settings, network = task.recipe, task.recipe.train, task.network
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    check_start(folder, resume)
    device = training_device(settings.device)
    if next(network.parameters()).device != device:
        raise FeathersegError("the supernet is not on train.device; build its optimisers after moving it there.")
    plan = plan_search(task)
    start, before = 0, 0.0
    if resume:
        found = load_checkpoint(folder)
        _restore(found, task, learner, folder)
        start, before = found.step, found.seconds
    remove_leftovers(folder)
    network.train()
    log = TrainingLog(folder, start)
    began, step, stopping = time.monotonic(), start, False

    def save() -> None:
        tensors = {f"model/{name}": tensor for name, tensor in network.state_dict().items()}
        for group, optimizer in (("weights", learner.weights), ("architectures", learner.architectures)):
            tensors |= {f"{group}/{k}": v for k, v in optimizer_tensors(optimizer, network).items()}
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            raise FeathersegError(
                f"{folder}: the weights after step {step} are not finite; the checkpoint before it is kept. Start "
                "again under another name=... with lower pretrain.lr, search.lr and architecture.lr."
            )
        seconds = before + time.monotonic() - began
        extra = {"latency_weight": learner.latency_weight}
        about = recipe.model_dump(mode="json")
        save_checkpoint(folder, Checkpoint(step, tensors, about, None, None, seconds, extra))

    with StopRequest(stopping_soon) as stop, closing(log), closing(_stream(task, plan, start)) as batches:
        window, counted = time.monotonic(), 0
        for first, second in batches:
            searching, local, epoch = plan.place(step)
            rate = learner.set_rate(recipe.search if searching else recipe.pretrain, epoch)
            first, second = _to(first, device), None if second is None else _to(second, device)
            losses = learner.pretrain(first, step) if second is None else learner.search(first, second, step)
            step, counted = step + 1, counted + 1
            entry: dict[str, Any] = {
                "step": step,
                "phase": "search" if searching else "pretrain",
                "epoch": epoch,
                "loss": losses.weights,
                "lr": rate,
                "seconds_a_step": round((time.monotonic() - window) / counted, 3),
            }
            if searching:
                entry |= {"architecture_loss": losses.architecture, "latency": losses.latency}
                entry |= {"latency_weight": learner.latency_weight}
                entry |= {} if losses.distance is None else {"distance": losses.distance}
            if step % settings.log_every == 0 or step == plan.steps:
                log.write(entry)
                window, counted = time.monotonic(), 0
            if progress:
                progress(entry | {"steps": plan.steps, "seconds_left": (plan.steps - step) * entry["seconds_a_step"]})
            if searching and (local + 1) % plan.per_epoch[1] == 0:
                networks = decode_pairs(task.space, pricing.role, network.choices(task.searched), recipe.behaviour)
                taken = [pricing.whole(one) for one in networks.values()]
                learner.latency_weight = adjusted_weight(learner.latency_weight, taken, recipe)
                told = {"step": step, "decoded_ms": [round(one, 4) for one in taken]}
                told |= {"latency_weight": learner.latency_weight}
                log.write(told)
                if decoded:
                    decoded(told)
            stopping = stop.received is not None
            if step % settings.checkpoint_every == 0 or step in (plan.pretrain, plan.steps) or stopping:
                save()
            if stopping:
                break
    return SearchResult(step, plan.steps, before + time.monotonic() - began, stop.received if stopping else None)


def _to(batch: Batch, device: torch.device) -> Batch:
    return Batch(batch.images.to(device), batch.targets.to(device), batch.keys)


def _stream(task: SearchTask, plan: Plan, start: int) -> Generator[tuple[Batch, Batch | None], None, None]:
    """The batches of each step from ``start`` on: of the first half, and in the search of the second too."""
    recipe = task.recipe
    for searching, phase, length in ((False, recipe.pretrain, plan.pretrain), (True, recipe.search, plan.search)):
        local = max(0, start - plan.pretrain if searching else start)
        if local >= length:
            continue
        with ExitStack() as stack:
            streams = []
            for half in (0, 1) if searching else (0,):
                samples = task.samples(phase, half, offset=int(searching))
                batches = training_batches(
                    samples,
                    BatchPlan(len(samples.dataset), phase.batch_size, drop_last=True),
                    start=local,
                    stop=length,
                    workers=recipe.train.workers,
                )
                streams.append(stack.enter_context(closing(batches)))
            if searching:
                yield from zip(*streams, strict=True)
            else:
                yield from ((batch, None) for batch in streams[0])


def _restore(found: Checkpoint, task: SearchTask, learner: Learner, folder: Path) -> None:
    """Put a checkpoint's state into the supernet and both optimisers.

    Raises:
        FeathersegError: the recipe changed in what the search depends on, or the supernet is another one.
    """
    now = task.recipe.model_dump(mode="json")
    changed = []
    for section in sorted(set(found.recipe) | set(now)):
        old, new = found.recipe.get(section), now.get(section)
        if isinstance(old, dict) and isinstance(new, dict):
            free = _FREE if section == "train" else set()
            changed += [
                f"{section}.{k}" for k in sorted(set(old) | set(new)) if old.get(k) != new.get(k) and k not in free
            ]
        elif old != new:
            changed.append(section)
    if changed:
        raise FeathersegError(
            f"{folder}: the checkpoint was made with other values of {', '.join(changed)}. Resume with the same "
            "recipe, or choose another name for a new search."
        )
    try:
        task.network.load_state_dict(found.group("model"))
        load_optimizer_tensors(learner.weights, task.network, found.group("weights"))
        load_optimizer_tensors(learner.architectures, task.network, found.group("architectures"))
    except (RuntimeError, KeyError) as error:
        raise FeathersegError(
            f"{folder}: the checkpoint is of another supernet ({error}). Choose another name."
        ) from None
    learner.latency_weight = found.extra["latency_weight"]
