"""The two kinds of step of a search: on weights alone, and first-order DARTS on architecture and weights in turn.

Chen et al. 2020 and published code: within a step the architectures move first, on the second half of the data, then
the weights on the first half.

Design choices:
- ``official`` adds the losses of all passes up and goes back once, as published: the maps of all passes lie in memory
  together. ``corrected`` goes back after each pass, which gives the same gradients;
- in ``corrected``, what a step does not move has no gradient computed;
- every random number belongs to the step: a step is a pure function of the state, the batches and its number.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from featherseg.data.batches import Batch
from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_shapes import OperatorShape
from featherseg.recipes.search_schema import Phase
from featherseg.search.latency import Price, SupernetPrices, decoupled_latency
from featherseg.search.space import Choices
from featherseg.search.supernet import Widths
from featherseg.search.task import Passes, SearchTask, pretraining_passes, searching_passes


def mispriced(price: Price) -> Price:
    """``price`` with the published mistake: conv_2x_downup costs what conv_2x does."""

    def priced(shape: OperatorShape) -> float:
        return price(replace(shape, kind="conv_2x") if shape.kind == "conv_2x_downup" else shape)

    return priced


@dataclass
class StepLosses:
    """What a step saw, as means over its passes; ``latency`` is the regulariser in milliseconds."""

    weights: float
    architecture: float | None = None
    latency: float | None = None
    distance: float | None = None


@contextmanager
def _held(parameters: list[nn.Parameter], hold: bool) -> Iterator[None]:
    """No gradient of ``parameters`` inside, where ``hold``."""
    for parameter in parameters if hold else ():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters if hold else ():
            parameter.requires_grad_(True)


class Learner:
    """The optimisers of a search, and its steps.

    Args:
        task: what is trained.
        prices: of the searched network's supernet.
        latency_weight: of the regulariser; changed from outside between steps.
    """

    def __init__(self, task: SearchTask, prices: SupernetPrices, latency_weight: float) -> None:
        recipe = task.recipe
        self.task, self.prices, self.latency_weight = task, prices, latency_weight
        self.official = recipe.behaviour == "official"
        network = task.network
        self.weights = torch.optim.SGD(
            network.weight_parameters(),
            lr=recipe.pretrain.lr,
            momentum=recipe.train.momentum,
            weight_decay=recipe.train.weight_decay,
            foreach=False,  # which would hold a second copy of all gradients
        )
        own = recipe.architecture
        self.architectures = torch.optim.Adam(
            network.architecture_parameters(), lr=own.lr, betas=own.betas, weight_decay=own.weight_decay
        )

    def pretrain(self, batch: Batch, step: int) -> StepLosses:
        """Train the weights on ``batch``, architectures as they are."""
        passes = pretraining_passes(len(self.task.space.roles), self.task.recipe.behaviour)
        return StepLosses(self._weight_step(batch, passes, self.task.widths_generator(step)))

    def search(self, first: Batch, second: Batch, step: int) -> StepLosses:
        """Move the architectures on ``second``, a batch of the second half, then the weights on ``first``."""
        rng = self.task.widths_generator(step)
        of_architecture, of_weights = searching_passes(len(self.task.space.roles), self.task.recipe.behaviour)
        found = self._architecture_step(second, of_architecture, rng)
        found.weights = self._weight_step(first, of_weights, rng)
        return found

    def set_rate(self, phase: Phase, epoch: int) -> float:
        """The rate of the weights in an epoch of a phase."""
        rate = phase.lr * phase.lr_decay**epoch
        for group in self.weights.param_groups:
            group["lr"] = rate
        return rate

    def _weight_step(self, batch: Batch, passes: Passes, rng: np.random.Generator) -> float:
        network, settings = self.task.network, self.task.recipe.train
        self.weights.zero_grad(set_to_none=True)
        with _held(network.architecture_parameters(), not self.official):
            loss = self._backward(batch, passes, rng)
        self._check(loss, batch)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.weight_parameters(), settings.clip_norm)
        self.weights.step()
        return loss / len(passes)

    def _architecture_step(self, batch: Batch, passes: Passes, rng: np.random.Generator) -> StepLosses:
        task, network = self.task, self.task.network
        network.zero_grad(set_to_none=True)
        distances: list[float] = []

        def distance(outputs: tuple[Tensor, ...]) -> Tensor:
            found = task.recipe.teacher.weight * task.distance(outputs, batch)
            distances.append(found.item())
            return found

        with _held(network.weight_parameters(), not self.official):
            loss = self._backward(batch, passes, rng, distance if task.teacher is not None else None)
            latency = self._latency(rng)
            (self.latency_weight * latency).backward()
        self._check(loss + latency.item(), batch)
        self.architectures.step()
        plain = (loss - sum(distances)) / len(passes)
        return StepLosses(float("nan"), plain, latency.item(), sum(distances) if distances else None)

    def _latency(self, rng: np.random.Generator) -> Tensor:
        task = self.task
        widths = task.network.choose_widths("arch_ratio", task.searched, rng) if self.official else None
        if widths is not None and widths.factors is not None:
            widths = Widths(widths.indices, tuple(factor.cpu() for factor in widths.factors))
        choices = Choices(*(tuple(one.cpu() for one in group) for group in task.network.choices(task.searched)))
        shares = task.recipe.latency.shares
        alpha, beta, ratio = (share / sum(shares) for share in shares)
        return decoupled_latency(
            self.prices, choices, behaviour=task.recipe.behaviour, widths=widths, shares=(alpha, beta, ratio)
        )

    def _backward(
        self,
        batch: Batch,
        passes: Passes,
        rng: np.random.Generator,
        further: Callable[[tuple[Tensor, ...]], Tensor] | None = None,
    ) -> float:
        """The gradients of the passes' losses, and their sum; ``further`` is added for passes of sampled widths."""
        task, value = self.task, 0.0
        total: Tensor | None = None
        images = task.images(batch)
        half = torch.autocast(images.device.type, torch.bfloat16, enabled=task.recipe.train.precision == "bf16")
        for role, mode in passes:
            with half:
                outputs = task.network(images, role, task.network.choose_widths(mode, role, rng))
                loss = task.segmentation_loss(outputs, batch.targets)
                if further is not None and mode == "arch_ratio":
                    loss = loss + further(outputs)
            value += loss.item()
            if self.official:
                total = loss if total is None else total + loss
            else:
                loss.backward()
        if total is not None:
            total.backward()
        return value

    def _check(self, loss: float, batch: Batch) -> None:
        if not np.isfinite(loss):
            raise SearchDiverged(
                f"the loss is {loss} on {', '.join(batch.keys)}; nothing was updated. If one of these images or labels "
                "is spoilt, mend it and go on with --resume; otherwise start again under another name=... with lower "
                "pretrain.lr, search.lr and architecture.lr."
            )


class SearchDiverged(FeathersegError):
    """A loss of a search is not finite; the message names the batch."""
