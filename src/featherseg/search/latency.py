"""The latency of a supernet, as a differentiable function of its architecture parameters, and of a derived network.

Chen et al. 2020, Sec. 3.3. Every operator has a price in milliseconds, from a table; a cell's is the mean over
operators and widths; a layer's adds to what the layers before it cost, mixed by beta.

``official`` computes what the published code computes. It has four mistakes; ``corrected`` has none of them:

- scales are mixed by the betas of the layer's last scale (a stale index) instead of the cell's own: beta 1 has no
  gradient, and at layer 2 the row before the first is the last row of beta 2;
- what is handed to the next scale holds the cell's other operator too, not only the one that halves;
- what is handed down comes from the same layer, not from the one before;
- conv_2x_downup has the price of conv_2x.

Design choices:
- ``corrected`` is the exact mean over all paths, operators and widths, where a path is drawn from its end to its start
  by beta (as decoding does): it needs no sampling. ``official`` samples widths, with straight-through factors;
- in ``corrected`` a skip of stride 1 is free, since a derived network has it deleted, and the decoder is counted. There
  the sum is stem, decoder, the branch to 1/32 and the mean of the other two; the published sum is of all three ends,
  the stem in each;
- :func:`decoupled_latency` is the published regulariser: alpha, beta and ratios each move while the others are held.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_architecture import Architecture
from featherseg.models.fasterseg_cells import OPERATORS
from featherseg.models.fasterseg_shapes import Kind, OperatorShape, operator_shapes
from featherseg.search.space import FULL, HEAD, SCALES, STEM, Choices, Place, Role, SearchSpace
from featherseg.search.supernet import Behaviour, Widths

Price = Callable[[OperatorShape], float]
SHARES = (1 / 500, 497 / 500, 2 / 500)
"""Of the three terms of the published regulariser: alpha, beta, ratios."""


def published_price(milliseconds: Mapping[str, float], behaviour: Behaviour = "corrected") -> Price:
    """Prices from a table with the published names, ``official`` with its mispriced operator."""

    def price(shape: OperatorShape) -> float:
        key = shape.published_key(official=behaviour == "official")
        if key not in milliseconds:
            raise FeathersegError(f"the table of latencies has no entry {key}. Measure it, or take another table.")
        return milliseconds[key]

    return price


def architecture_latency(
    architecture: Architecture, price: Price, size: tuple[int, int] = (1024, 2048), num_classes: int = 19
) -> float:
    """The sum over all operators that the derived network runs, decoder and head included, in milliseconds."""
    total = 0.0
    for shape in operator_shapes(architecture, size, num_classes):
        total += price(shape)
    return total


def decoder_shapes(space: SearchSpace, role: Role, end: int, size: tuple[int, int]) -> list[OperatorShape]:
    """The arms and refines that bring a branch from scale ``end`` to 1/8, where all its maps have the head's width."""
    shapes = []
    for scale in range(end, 0, -1):
        height, width = size[0] // (8 << scale), size[1] // (8 << scale)
        given, to = space.channels(scale, role.head), space.channels(scale - 1, role.head)
        shapes.append(OperatorShape("conv_norm", height, width, given, to, kernel=1))
        shapes.append(OperatorShape("conv_norm", 2 * height, 2 * width, 2 * to, to))
    return shapes


@dataclass(frozen=True)
class SupernetPrices:
    """Prices of all that a role's supernet can run.

    ``keep`` and ``down`` hold float64 ``[5, widths in, widths out]`` by (layer, scale); where the stem or the head
    decides a width it is one column.
    """

    space: SearchSpace
    stem: float
    decoder: float
    keep: dict[tuple[int, int], Tensor]
    down: dict[tuple[int, int], Tensor]


def supernet_prices(
    space: SearchSpace,
    role: Role,
    price: Price,
    *,
    size: tuple[int, int] = (1024, 2048),
    num_classes: int = 19,
    behaviour: Behaviour = "corrected",
) -> SupernetPrices:
    """Ask ``price`` for every operator of the supernet, each once, for images of ``size`` (H, W)."""
    known: dict[OperatorShape, float] = {}

    def asked(shape: OperatorShape) -> float:
        if behaviour == "corrected" and shape.kind == "skip" and shape.stride == 1:
            return 0.0
        if shape not in known:
            known[shape] = price(shape)
        return known[shape]

    def widths(place: Place) -> tuple[int, ...]:
        if place == STEM:
            return (role.stem,)
        if place == HEAD:
            return (role.head,)
        return space.widths if role.searches_widths else (FULL,)

    def mixed(scale: int, to: int, taken: Place, given: Place) -> Tensor:
        height, width = size[0] // (8 << scale), size[1] // (8 << scale)
        kinds: tuple[Kind, ...] = OPERATORS  # type: ignore[assignment]

        def cost(kind: Kind, one: int, other: int) -> float:
            channels = (space.channels(scale, one), space.channels(to, other))
            return asked(OperatorShape(kind, height, width, *channels, 1 + to - scale))

        return torch.tensor(
            [[[cost(kind, one, other) for other in widths(given)] for one in widths(taken)] for kind in kinds],
            dtype=torch.float64,
        )

    keep, down = {}, {}
    for layer in range(space.layers):
        for scale in SCALES[: layer + 1]:
            rows = space.rows(layer, scale)
            keep[layer, scale] = mixed(scale, scale, rows.taken, rows.kept)
            if rows.down is not None:
                down[layer, scale] = mixed(scale, scale + 1, rows.taken, rows.down)
    first, second, entry = space.stem(role)
    stem = price(OperatorShape("conv_norm", *size, 3, first, 2))
    stem += price(OperatorShape("conv_2x", size[0] // 2, size[1] // 2, first, second, 2))
    stem += price(OperatorShape("conv_2x", size[0] // 4, size[1] // 4, second, entry, 2))
    decoder = 0.0
    if behaviour == "corrected":
        fused = 2 * space.channels(0, role.head)
        at_8 = (size[0] // 8, size[1] // 8)
        shapes = [
            OperatorShape("fusion", *at_8, fused, fused, kernel=1),
            OperatorShape("head", *at_8, fused, num_classes),
        ]
        decoder = sum(map(asked, [*shapes, *decoder_shapes(space, role, 2, size)]))
        decoder += sum(map(asked, decoder_shapes(space, role, 1, size))) / 2
    return SupernetPrices(space, stem, decoder, keep, down)


def mean_latency(prices: SupernetPrices, chances: Choices, behaviour: Behaviour = "corrected") -> Tensor:
    """The latency for given probabilities, in milliseconds, a float64 scalar.

    Args:
        prices: of the supernet.
        chances: probabilities; the ratios may be any weights over widths, such as sampled ones times a factor.
        behaviour: see the module.
    """
    return (_published_sum if behaviour == "official" else _mean_over_paths)(prices, chances)


def _cell(prices: SupernetPrices, chances: Choices, layer: int, scale: int) -> tuple[Tensor, Tensor | None]:
    """The mean price of a cell's two mixed operators."""
    rows = prices.space.rows(layer, scale)
    one = torch.ones(1, dtype=torch.float64)

    def weights(place: Place) -> Tensor:
        return one if isinstance(place, str) else chances.ratio[place[0]][place[1]].double()

    alpha = chances.alpha[scale][layer - scale].double()
    kept = torch.einsum("k,i,o,kio->", alpha, weights(rows.taken), weights(rows.kept), prices.keep[layer, scale])
    if rows.down is None:
        return kept, None
    return kept, torch.einsum("k,i,o,kio->", alpha, weights(rows.taken), weights(rows.down), prices.down[layer, scale])


def _mean_over_paths(prices: SupernetPrices, chances: Choices) -> Tensor:
    space = prices.space
    zero = torch.zeros((), dtype=torch.float64)
    kept: list[Tensor] = [zero]
    halved: list[Tensor | None] = []
    for layer in range(space.layers):
        new_kept: list[Tensor] = []
        new_halved: list[Tensor | None] = []
        for scale in SCALES[: layer + 1]:
            if scale == 0:
                before = kept[0]
            else:
                before = halved[scale - 1]
                assert before is not None
                if layer > scale:
                    shares = chances.beta[scale - 1][layer - scale - 1].double()
                    before = shares[0] * before + shares[1] * kept[scale]
            keep, down = _cell(prices, chances, layer, scale)
            new_kept.append(before + keep)
            new_halved.append(None if down is None else before + down)
        kept, halved = new_kept, new_halved
    return prices.stem + prices.decoder + kept[2] + (kept[0] + kept[1]) / 2


def _published_sum(prices: SupernetPrices, chances: Choices) -> Tensor:
    space = prices.space
    zero = torch.zeros((), dtype=torch.float64)
    kept: list[Tensor] = [zero + prices.stem, zero, zero]
    halved: list[Tensor] = [zero, zero, zero]
    for layer in range(space.layers):
        scales = SCALES[: layer + 1]
        for scale in scales:
            keep, down = _cell(prices, chances, layer, scale)
            if scale and layer > scale:  # both inputs cost the same, so that the shares only add up to one
                own = chances.beta[scale - 1][layer - scale - 1].double().sum()
                keep, down = own * keep, None if down is None else own * down
            if scale == 0:
                kept[0] = kept[0] + keep
                halved[0] = halved[0] if down is None else kept[0] + down
            elif layer == scale:
                kept[scale] = halved[scale - 1] + keep
                halved[scale] = halved[scale] if down is None else halved[scale - 1] + down
            else:
                stale = scales[-1]
                shares = chances.beta[stale - 1][layer - stale - 1].double()
                kept[scale] = shares[1] * kept[scale] + shares[0] * halved[scale - 1] + keep
                if down is not None:
                    halved[scale] = shares[1] * kept[scale] + shares[0] * halved[scale - 1] + down
    return kept[0] + kept[1] + kept[2]


def decoupled_latency(
    prices: SupernetPrices,
    choices: Choices,
    *,
    behaviour: Behaviour = "corrected",
    widths: Widths | None = None,
    shares: tuple[float, float, float] = SHARES,
) -> Tensor:
    """The published regulariser, in milliseconds: three latencies, in each of which one group of parameters moves.

    The others are held: alpha alike for all operators, beta at one half, the widths full.

    Args:
        prices: of the supernet.
        choices: the architecture parameters.
        behaviour: see the module.
        widths: the sampled ones, for ``official``.
        shares: of alpha's, beta's and the ratios' term.
    """
    chances = choices.probabilities()
    columns = choices.ratio[0].shape[1]
    full = torch.zeros(columns).index_fill_(0, torch.tensor([columns - 1]), 1.0)
    held = Choices(
        tuple(torch.full_like(one, 1 / len(OPERATORS)) for one in choices.alpha),
        tuple(torch.full_like(one, 0.5) for one in choices.beta),
        tuple(full.expand(len(one), columns) for one in choices.ratio),
    )
    ratio = chances.ratio
    if widths is not None and behaviour == "official" and columns > 1:
        ratio = sampled_ratios(widths, columns)
    terms = (held._replace(alpha=chances.alpha), held._replace(beta=chances.beta), held._replace(ratio=ratio))
    total = torch.zeros((), dtype=torch.float64)
    for share, one in zip(shares, terms, strict=True):
        total = total + share * mean_latency(prices, one, behaviour)
    return total


def sampled_ratios(widths: Widths, columns: int) -> tuple[Tensor, ...]:
    """The widths of a pass as weights ``[rows, columns]``: the factor at the chosen one, nothing elsewhere."""
    made = []
    for scale, chosen in enumerate(widths.indices):
        hard = torch.from_numpy(np.eye(columns, dtype=np.float64)[list(chosen)])
        made.append(hard if widths.factors is None else hard * widths.factors[scale][:, None].double())
    return tuple(made)
