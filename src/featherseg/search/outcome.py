"""The end of a search: the branches are chosen, the network is measured, and what trains it is written.

The two candidates end at 1/32 and 1/16 or at 1/32 and 1/8. The one with the greater mIoU x (ms / target)^-0.07 is
taken (published rule), by the supernet's outputs on val. ``corrected`` judges them with batch norms of their own and
keeps the budget: a network that measures slower than it was predicted is decoded again for as much less.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from featherseg.data.batches import BatchPlan, training_batches
from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.fasterseg_architecture import Architecture
from featherseg.search.budget import Fitted, Pricing, decode_within, fastest_architecture
from featherseg.search.decoding import decode_pairs
from featherseg.search.judging import SupernetOutput, recalibrated
from featherseg.search.measured import network_milliseconds
from featherseg.search.runtimes import Runtime
from featherseg.search.space import Choices
from featherseg.search.task import SearchTask
from featherseg.training.evaluation import View, evaluate

TARGET = 8.3
EXPONENT = -0.07
TRIES = 4


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Attributes:
        architecture: of the network.
        ends: the scales at which its branches end, from 0 for 1/8.
        predicted: milliseconds by the table.
        measured: milliseconds of the whole network; None where the table is another machine's.
        scores: mIoU of the supernet's output for each candidate, in percent.
        teacher: the architecture searched beside it, if one was.
    """

    architecture: Architecture
    ends: tuple[int, int]
    predicted: float
    measured: float | None
    scores: dict[str, float | None] = field(default_factory=dict)
    teacher: Architecture | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready figures, without the architectures."""
        return {
            "ends": [8 << end for end in self.ends],
            "predicted_ms": round(self.predicted, 4),
            "measured_ms": None if self.measured is None else round(self.measured, 4),
            "supernet_miou": self.scores,
        }


def conclude(
    task: SearchTask,
    pricing: Pricing,
    runtime: Runtime | None,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Decode, judge, choose and measure.

    Args:
        task: after its search.
        pricing: the searched role's.
        runtime: measures the network; None leaves that out.
        progress: called with (done, all) while judging.

    Raises:
        FeathersegError: the parameters diverged.
    """
    recipe, space = task.recipe, task.space
    choices, budget = task.network.choices(task.searched), recipe.latency.budget
    if budget is None:
        decoded = decode_pairs(space, pricing.role, choices, recipe.behaviour)
        candidates = {pair: Fitted(one, pricing.whole(one), pair) for pair, one in decoded.items()}
    else:
        candidates = decode_within(pricing, choices, budget)
    scores = _scores(task, candidates, progress)
    best = preferred(candidates, scores, budget or TARGET)
    measured = None
    if runtime is not None:
        best, measured = measured_within(best, pricing, runtime, choices, budget)
    teacher = None
    if task.searched:
        pairs = decode_pairs(space, space.roles[0], task.network.choices(0), recipe.behaviour)
        teacher = pairs[best.ends]
    named = {"".join(map(str, sorted(pair))): score for pair, score in scores.items()}
    return Outcome(best.architecture, best.ends, best.milliseconds, measured, named, teacher)


def preferred(
    candidates: dict[tuple[int, int], Fitted], scores: dict[tuple[int, int], float | None], target: float
) -> Fitted:
    """The candidate of the greatest mIoU x (ms / target)^-0.07; a score of None counts as 0."""

    def worth(pair: tuple[int, int]) -> float:
        return (scores[pair] or 0.0) * (candidates[pair].milliseconds / target) ** EXPONENT

    return candidates[max(candidates, key=worth)]


def _scores(
    task: SearchTask, candidates: dict[tuple[int, int], Fitted], progress: Callable[[int, int], None] | None
) -> dict[tuple[int, int], float | None]:
    widths = task.network.likeliest_widths(task.searched)
    network = task.network
    if task.recipe.behaviour == "corrected":
        samples, phase, train = task.samples(task.recipe.search, 0, offset=2), task.recipe.search, task.recipe.train
        plan = BatchPlan(len(samples.dataset), phase.batch_size, drop_last=True)
        batches = training_batches(samples, plan, start=0, stop=train.recalibration, workers=0)
        device = next(network.parameters()).device
        images = (task.images(batch).to(device) for batch in batches)
        network = recalibrated(network, task.searched, widths, images)
    view = View(scales=(task.recipe.train.judged_scale,))
    scores: dict[tuple[int, int], float | None] = {}
    for pair in candidates:
        judged = SupernetOutput(network, task.searched, widths, "".join(map(str, sorted(pair))))
        evaluation = evaluate(
            judged, task.val, trained_on=task.train.split, view=view, thorough=False, progress=progress
        )
        figures = evaluation.figures()
        scores[pair] = figures["miou"]
    return scores


def measured_within(
    found: Fitted, pricing: Pricing, runtime: Runtime, choices: Choices, budget: float | None
) -> tuple[Fitted, float]:
    """``found`` and its measured milliseconds; where they exceed the budget, what the parameters give for less.

    Where that measures too slow again and again, or cannot be had, the fastest network of the space stands in.
    """

    def measured(one: Fitted) -> float:
        return network_milliseconds(FasterSeg(one.architecture, pricing.num_classes), pricing.size, runtime)

    taken = measured(found)
    if budget is None:
        return found, taken
    target = budget
    for _ in range(TRIES):
        if taken <= budget:
            return found, taken
        target = 0.99 * min(target, found.milliseconds) * budget / taken
        try:
            tighter = decode_within(pricing, choices, target, (found.ends,))
        except FeathersegError:  # by the table nothing is so fast
            break
        found = next(iter(tighter.values()))
        taken = measured(found)
    if taken > budget:
        fastest = fastest_architecture(pricing)
        least = measured(fastest)
        if least < taken:
            return fastest, least
    return found, taken
