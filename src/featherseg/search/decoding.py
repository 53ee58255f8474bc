"""From architecture parameters to networks: a path to each scale, operators along it, skips deleted, widths between.

Chen et al. 2020 and their published code. A network has two branches, one to 1/32 and one to 1/16 or 1/8.

``official`` decodes as the published code does, its oddities included:

- the path to 1/16 halves one layer too early (the row of the largest beta belongs to the layer behind the next one),
  and staying at a scale has no say in the choice;
- betas pass the softmax once more for every branch, and an operator that was forbidden for one branch is forbidden for
  the following ones: branches depend on those before them (1/8, 1/16, 1/32).

``corrected`` takes the most probable path: drawn from its end, each cell with two inputs takes the scale above with
beta's first probability and its own scale with the second (:func:`likeliest_path`). Branches are decoded independently.

Both delete what an architecture that searches its widths has chosen as skips at stride 1, the surest first, down to the
least number of layers; a run of skips behind a step down keeps one layer, and every other skip gives way to the
next-best operator. One that does not search its widths has no skips.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_architecture import Architecture, parse
from featherseg.models.fasterseg_cells import OPERATORS
from featherseg.search.space import FULL, SCALES, Choices, Role, SearchSpace, check_choices
from featherseg.search.supernet import Behaviour

SKIP = OPERATORS.index("skip")
PAIRS = ((2, 0), (2, 1))
"""The scales at which the two branches may end."""
FEWEST_OFFICIAL_LAYERS = 8


@dataclass(frozen=True)
class DecodedBranch:
    """A branch whose skips are deleted.

    Attributes:
        operators: of each layer.
        path: the scale each layer works on.
        widths: in twelfths, of what each layer but the last gives; the last one gives the head's.
    """

    operators: tuple[str, ...]
    path: tuple[int, ...]
    widths: tuple[int, ...]


def decode(
    space: SearchSpace, role: Role, choices: Choices, behaviour: Behaviour = "corrected"
) -> dict[int, DecodedBranch]:
    """The branch to each scale.

    Args:
        space, role: what was searched.
        choices: the architecture parameters, before any softmax.
        behaviour: see the module.

    Raises:
        FeathersegError: the parameters are of another space, or not finite, or the space is too small for ``official``.
    """
    check_choices(space, choices)
    given = [[one.detach().cpu().to(torch.float64, copy=True) for one in group] for group in choices]
    if not all(bool(one.isfinite().all()) for group in given for one in group):
        raise FeathersegError("the architecture parameters are not finite: the search diverged. Lower its rates.")
    if behaviour == "official" and space.layers < FEWEST_OFFICIAL_LAYERS:
        raise FeathersegError(
            f"the official decoding leaves the first and last layers out and has no path to 1/32 in {space.layers}. "
            f"Use behaviour=corrected, or space.layers={FEWEST_OFFICIAL_LAYERS} or more."
        )
    alpha, beta, ratio = given
    branches = {}
    for end in SCALES:
        if behaviour == "official":
            beta = [one.softmax(-1) for one in beta]
            path = published_path(beta, end, space.layers)
        else:
            alpha = [one.clone() for one in given[0]]
            path = likeliest_path([one.softmax(-1) for one in beta], end, space.layers)
        kept, operators = _operators(space, role, alpha, path, official=behaviour == "official")
        widths = [_width(space, role, ratio, path, layer) for layer in kept[:-1]]
        branches[end] = DecodedBranch(tuple(operators), tuple(path[layer] for layer in kept), tuple(widths))
    return branches


def likeliest_path(beta: list[torch.Tensor], end: int, layers: int) -> list[int]:
    """The scale of each layer on the most probable path to ``end``, by dynamic programming (Viterbi).

    Args:
        beta: probabilities of the scales 1 and 2, ``[layers - s - 1, 2]``.
        end: scale of the last layer.
        layers: of the supernet.
    """
    logs = [one.clamp_min(1e-300).log().tolist() for one in beta]
    best: dict[int, tuple[float, list[int]]] = {0: (0.0, [0])}
    for layer in range(1, layers):
        found: dict[int, tuple[float, list[int]]] = {}
        for scale in SCALES[: layer + 1]:
            came = []
            for before in (scale - 1, scale):
                if before in best:
                    chance = 0.0
                    if scale and layer > scale:
                        chance = logs[scale - 1][layer - scale - 1][int(before == scale)]
                    came.append((best[before][0] + chance, [*best[before][1], scale]))
            found[scale] = max(came, key=lambda one: one[0])
        best = found
    return best[end][1]


def published_path(beta: list[torch.Tensor], end: int, layers: int) -> list[int]:
    """The path of the published code; ``beta`` has passed as many softmaxes as the branch is late."""
    halving: tuple[int, ...] = ()
    if end == 1:
        halving = (1 + int(beta[0][1:-1, 0].argmax()),)
    elif end == 2:
        one, two = beta[0][:, 0].tolist(), beta[1][:, 0].tolist()
        pairs = [(i, j) for j in range(layers - 4) for i in range(1, j - 1)]
        i, j = max(pairs, key=lambda pair: one[pair[0]] * two[pair[1]])
        halving = (i + 1, j + 2)
    return [sum(layer > at for at in halving) for layer in range(layers)]


def _width(space: SearchSpace, role: Role, ratio: list[torch.Tensor], path: list[int], layer: int) -> int:
    """The width of what ``layer`` gives to the next one."""
    if not role.searches_widths:
        return FULL
    scale = path[layer + 1]
    return space.widths[int(ratio[scale][layer + 1 - scale if scale else layer].argmax())]


def _operators(
    space: SearchSpace, role: Role, alpha: list[torch.Tensor], path: list[int], *, official: bool
) -> tuple[list[int], list[str]]:
    """The layers that are kept, and their operators. Forbids operators in ``alpha``, in place."""

    def row(layer: int) -> torch.Tensor:
        return alpha[path[layer]][layer - path[layer]]

    def sureness(layer: int) -> float:
        return float(row(layer).softmax(-1)[SKIP])

    length = len(path)
    if not role.searches_widths:
        for one in alpha:
            one[:, SKIP] = -math.inf
    downs = [layer for layer in range(length - 1) if path[layer] < path[layer + 1]]
    skips = [layer for layer in range(length) if int(row(layer).argmax()) == SKIP and layer not in downs]
    strength = {layer: sureness(layer) for layer in skips}
    kept_by_force = []
    for start, stop in pairwise([*downs, length]):
        run = range(start + 1, stop)
        if run and all(layer in strength for layer in run):
            # Of equally weak ones the last, as published.
            kept_by_force.append(min(reversed(run), key=lambda layer: strength[layer]))
            row(kept_by_force[-1])[SKIP] = -math.inf
    if not official:
        skips = [layer for layer in skips if layer not in kept_by_force]
    most = length - space.least_kept(path[-1])
    deleted = {
        layer for layer in sorted(skips, key=lambda layer: -strength[layer])[:most] if int(row(layer).argmax()) == SKIP
    }
    kept = [layer for layer in range(length) if layer not in deleted]
    operators = []
    for layer in kept:
        row(layer)[SKIP] = -math.inf if int(row(layer).argmax()) == SKIP else row(layer)[SKIP]
        operators.append(OPERATORS[int(row(layer).argmax())])
    return kept, operators


def branch_json(space: SearchSpace, role: Role, branch: DecodedBranch) -> dict[str, Any]:
    """A branch as an architecture's JSON has it."""
    layers, given = [], space.stem(role)[-1]
    for number, (operator, scale) in enumerate(zip(branch.operators, branch.path, strict=True)):
        last = number == len(branch.path) - 1
        to = scale if last else branch.path[number + 1]
        channels = space.channels(to, role.head if last else branch.widths[number])
        layers.append({"operator": operator, "in": given, "out": channels, "stride": 1 + to - scale})
        given = channels
    return {"scale": 8 << branch.path[-1], "layers": layers}


def to_architecture(space: SearchSpace, role: Role, branches: tuple[DecodedBranch, ...]) -> Architecture:
    """What ``models.fasterseg`` builds of the decoded branches; they share their first layers as far as these agree."""
    content = {
        "stem": list(space.stem(role)),
        "head_width": space.channels(0, role.head),
        "branches": [branch_json(space, role, branch) for branch in branches],
    }
    return parse(content, "the decoded architecture")


def decode_pairs(
    space: SearchSpace, role: Role, choices: Choices, behaviour: Behaviour = "corrected"
) -> dict[tuple[int, int], Architecture]:
    """The two networks that the parameters stand for, by the scales at which their branches end."""
    branches = decode(space, role, choices, behaviour)
    return {pair: to_architecture(space, role, tuple(branches[end] for end in pair)) for pair in PAIRS}
