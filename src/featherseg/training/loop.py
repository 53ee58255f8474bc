"""The training loop: one straight path from a recipe to weights, a log and a checkpoint.

Design choices:
- a step is a pure function of (weights, optimiser state, step, seed); so a run killed anywhere and resumed gives the
  same losses to the bit on a CPU;
- a checkpoint is written every ``checkpoint_every`` updates, at the end, and when a signal asks the run to stop: the
  step is finished first;
- the log is one JSON line per entry; on resume, lines past the checkpoint are dropped, so that it reads like the log
  of a run that never stopped;
- a run that a signal stops, and one killed between its last step and the end, is judged when it goes on: the judging
  of a step belongs to its checkpoint;
- a loss that is not finite stops the run before the update and leaves the batch's keys beside the log; weights that
  are not finite never reach a checkpoint.
"""

import json
import signal
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from featherseg.data.batches import Batch, BatchPlan, training_batches
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.models.weights import save_weights
from featherseg.recipes.schema import Recipe
from featherseg.training.checkpoint import (
    Checkpoint,
    check_start,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from featherseg.training.distributed import World, join_world, wrap
from featherseg.training.ema import ExponentialMovingAverage
from featherseg.training.log import TrainingLog
from featherseg.training.memory import keep_freed_memory
from featherseg.training.optimizers import build_optimizer, optimizer_tensors, set_learning_rate
from featherseg.training.resume import restore
from featherseg.training.schedules import learning_rate_factor
from featherseg.training.task import Task, UpdateSize

WEIGHTS, BEST = "weights.safetensors", "best.safetensors"


class TrainingDiverged(FeathersegError):
    """A loss or the weights are not finite; the message names the batch."""


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended. ``stopped_by`` is a signal's number where one ended it early."""

    step: int
    steps: int
    seconds: float
    figures: dict[str, Any]
    best: dict[str, Any] | None
    stopped_by: int | None = None


@dataclass
class StopRequest:
    """Ctrl-C and SIGTERM: finish the step, save, leave. A second Ctrl-C leaves at once.

    ``notice`` is called at the first signal, inside its handler.
    """

    notice: Callable[[], None] | None = None
    received: int | None = None

    def __enter__(self) -> "StopRequest":
        self._before: dict[int, Any] = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: the embedding program keeps its own handlers
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        first, self.received = self.received is None, number
        if first and self.notice:
            self.notice()


def total_steps(recipe: Recipe, plan: BatchPlan) -> int:
    """Updates of the whole run."""
    if recipe.train.steps is not None:
        return recipe.train.steps
    assert recipe.train.epochs is not None
    return recipe.train.epochs * plan.steps_per_epoch


def train(
    task: Task,
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    progress: Callable[[dict[str, Any]], None] | None = None,
    evaluation_progress: Callable[[int, int], None] | None = None,
    judged: Callable[[int, dict[str, Any]], None] | None = None,
    stopping_soon: Callable[[], None] | None = None,
) -> TrainingResult:
    """Train ``task`` by ``recipe`` and write everything into ``folder``.

    Written: ``checkpoint.safetensors``, ``log.jsonl``, ``weights.safetensors`` (the last, averaged where the recipe
    averages) and ``best.safetensors`` (chosen on val).

    Args:
        task: network, data and loss.
        recipe: everything else.
        folder: of the run; made if need be.
        resume: go on from its checkpoint.
        progress: called after every update with step, steps, loss, lr, images_per_second and seconds_left.
        evaluation_progress: called with (done, all) while judging on val.
        judged: called with the step and its figures after every judging.
        stopping_soon: called inside the handler of the first signal that asks the run to stop.

    Raises:
        FeathersegError: the folder holds another run, there is nothing to resume, or the loss diverged.
    """
    settings = recipe.train
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    world = join_world(settings.device)
    plan = BatchPlan(task.length, settings.batch_size, settings.drop_last)
    steps = total_steps(recipe, plan)
    _check_batches(plan, world)
    check_start(folder, resume)

    network = task.network.to(world.device)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = build_optimizer(network, recipe.optimizer)
    ema = ExponentialMovingAverage(network, settings.ema) if settings.ema else None
    scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "fp16")
    start, before, best = 0, 0.0, None
    figures: dict[str, Any] = {}
    if resume:
        found = load_checkpoint(folder)
        restore(found, recipe, network, ema, optimizer, scaler, folder)
        start, before, best, figures = found.step, found.seconds, found.best, found.extra.get("figures") or {}
    if world.is_main:
        remove_leftovers(folder)
    log = TrainingLog(folder, start, active=world.is_main, tensorboard=settings.tensorboard)
    wrapped = wrap(network, world, sync_bn=settings.sync_bn)
    half = torch.autocast(
        world.device.type,
        torch.bfloat16 if settings.precision == "bf16" else torch.float16,
        enabled=settings.precision != "fp32",
    )
    began = time.monotonic()

    def elapsed() -> float:
        return before + time.monotonic() - began

    def is_judged(step: int) -> bool:
        every = settings.evaluate_every
        return step == steps or (every is not None and step % (every * plan.steps_per_epoch) == 0)

    def judge(step: int) -> dict[str, Any]:
        nonlocal best
        figures = _evaluate(task, network, ema, world, evaluation_progress)
        if world.is_main:
            log.write({"step": step, "evaluation": figures})
            score = figures["score"]  # None where val carries no label
            if best is None or (score is not None and (best["score"] is None or score > best["score"])):
                best = {"step": step, "score": score}
                _write_weights(folder / BEST, task, network, ema, {"step": step, "val": figures})
            if judged:
                judged(step, figures)
        return figures

    def save(step: int, keys: list[str]) -> None:
        _check_weights(network, folder, step, keys, world.rank)
        if world.is_main:
            tensors = {f"model/{k}": v for k, v in network.state_dict().items()}
            tensors |= {f"optimizer/{k}": v for k, v in optimizer_tensors(optimizer, network).items()}
            tensors |= {f"ema/{k}": v for k, v in ema.state.items()} if ema else {}
            state = scaler.state_dict() if scaler.is_enabled() else None
            about = recipe.model_dump(mode="json")
            save_checkpoint(folder, Checkpoint(step, tensors, about, best, state, elapsed(), {"figures": figures}))

    batches = training_batches(
        task.samples,
        plan,
        start=start,
        stop=steps,
        workers=settings.workers,
        rank=world.rank,
        world=world.size,
        pin_memory=world.device.type == "cuda",
    )
    step, stopping = start, False
    with StopRequest(stopping_soon) as stop, closing(log), closing(batches):
        network.train()
        if start and is_judged(start) and not figures:
            figures = judge(start)
        window, images_seen = time.monotonic(), 0
        for batch in batches:
            if settings.freeze_bn:
                freeze_batch_norm(network)
            factor = learning_rate_factor(recipe.schedule, step, steps)
            set_learning_rate(optimizer, factor)
            torch.manual_seed(settings.seed * 1_000_003 + step)
            loss = _update(task, wrapped, batch, optimizer, scaler, half, world, recipe, step + 1, folder)
            step += 1
            if ema:
                ema.update(network, step - 1)

            images_seen += len(batch) * world.size
            now = time.monotonic()
            rate = images_seen / max(now - window, 1e-9)
            entry = {
                "step": step,
                "epoch": (step - 1) // plan.steps_per_epoch,
                "loss": loss,
                "lr": recipe.optimizer.lr * factor,
                "images_per_second": round(rate, 2),
            }
            if step % settings.log_every == 0 or step == steps:
                log.write(entry)
                window, images_seen = now, 0
            if progress and world.is_main:
                progress(entry | {"steps": steps, "seconds_left": (steps - step) * len(batch) * world.size / rate})

            stopping = world.any(stop.received is not None)
            figures = {}
            if is_judged(step) and not stopping:
                figures = judge(step)
                window, images_seen = time.monotonic(), 0
            if step % settings.checkpoint_every == 0 or step == steps or stopping:
                save(step, batch.keys)
            if stopping:
                break
        if world.is_main and step == steps and not stopping:
            _write_weights(folder / WEIGHTS, task, network, ema, {"step": step, "val": figures})
    # Of several processes another may have got the signal.
    stopped_by = (stop.received or int(signal.SIGTERM)) if stopping else None
    return TrainingResult(step, steps, elapsed(), figures, best, stopped_by)


def _update(
    task: Task,
    network: nn.Module,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    half: torch.autocast,
    world: World,
    recipe: Recipe,
    step: int,
    folder: Path,
) -> float:
    """One optimiser step on ``batch``, in parts where gradients accumulate. Returns the loss over all processes."""
    device = world.device
    batch = Batch(batch.images.to(device, non_blocking=True), batch.targets.to(device, non_blocking=True), batch.keys)
    optimizer.zero_grad(set_to_none=True)
    size = UpdateSize(world.sum(task.weight(batch)), world.sum(len(batch)))
    total: Tensor = torch.zeros((), device=device)
    parts = batch.split(recipe.train.accumulation)
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if world.size > 1:
            network.require_backward_grad_sync = last  # type: ignore[assignment]
        try:
            with half:
                loss = task.loss(network, part, size)
        except ValueError as error:
            if "more than 1 value per channel" in str(error):
                raise FeathersegError(
                    f"{recipe.model.name}: batch norm cannot train on a batch of one with a 1x1 feature map "
                    f"(step {step}). Use train.batch_size >= 2 and train.drop_last=true with train.accumulation=1, or "
                    "train.freeze_bn=true."
                ) from None
            raise
        total += loss.detach()
        # DistributedDataParallel averages the gradients; the weights already make the parts' losses add up.
        scaler.scale(loss * world.size).backward()
    value = world.sum(float(total))
    if not torch.isfinite(torch.tensor(value)):
        raise _diverged(
            folder, step, f"the loss of step {step} is {value}; nothing was updated", batch.keys, world.rank
        )
    if recipe.train.clip_norm is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), recipe.train.clip_norm)
    scaler.step(optimizer)
    scaler.update()
    return value


def _check_weights(network: nn.Module, folder: Path, step: int, keys: list[str], rank: int) -> None:
    """A gradient that overflowed under a finite loss must not spoil the last checkpoint."""
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        what = f"the weights after step {step} are not finite, though its loss was; the checkpoint before it is kept"
        raise _diverged(folder, step, what, keys, rank)


def _diverged(folder: Path, step: int, what: str, keys: list[str], rank: int) -> TrainingDiverged:
    """Keep the batch's keys beside the log and give the error to raise."""
    path = folder / f"not-finite-step-{step:06d}-rank-{rank}.json"
    atomic_write(path, json.dumps({"step": step, "what": what, "keys": keys}, indent=1))
    return TrainingDiverged(
        f"{folder}: {what}. The batch's keys are in {path.name}. If one of these images or labels is spoilt, mend it "
        "and go on with --resume; otherwise start again under another name=... with a lower optimizer.lr, with "
        "train.clip_norm=1, or with train.precision=fp32."
    )


def freeze_batch_norm(network: nn.Module) -> None:
    """Put every batch norm in ``eval()``: its statistics stay as they are."""
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


def _check_batches(plan: BatchPlan, world: World) -> None:
    if plan.length == 0:
        raise FeathersegError("the training split is empty. Point data.source at a folder with training images.")
    smallest = plan.batch_size if plan.drop_last else (plan.length % plan.batch_size or plan.batch_size)
    if plan.drop_last and plan.length < plan.batch_size:
        smallest = plan.length
    if smallest < world.size:
        raise FeathersegError(
            f"the smallest batch holds {smallest} samples for {world.size} processes. Set train.drop_last=true or a "
            f"train.batch_size that leaves at least {world.size}."
        )


def _evaluate(
    task: Task,
    network: nn.Module,
    ema: ExponentialMovingAverage | None,
    world: World,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Judge the averaged weights where there are any. Every process waits for the main one."""
    figures: dict[str, Any] = {}
    if world.is_main:
        own = None
        if ema:
            own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            network.load_state_dict(ema.state)
        figures = task.evaluate(network, progress)
        if own is not None:
            network.load_state_dict(own)
    if world.size > 1:
        torch.distributed.barrier()
    return figures


def _write_weights(
    path: Path, task: Task, network: nn.Module, ema: ExponentialMovingAverage | None, training: dict[str, Any]
) -> None:
    save_weights(path, ema.state if ema else network.state_dict(), task.describe() | {"training": training})
