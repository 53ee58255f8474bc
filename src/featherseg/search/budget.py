"""Networks that keep a budget of milliseconds: the fastest there is, and the likeliest that is fast enough.

The regulariser of the search pushes towards a latency and promises none. What it leaves over is settled here, when the
parameters are decoded, by the same table.

Design choices:
- the fastest network of a space (:func:`fastest_architecture`) is found exactly, sharing of the branches' first layers
  included, by dynamic programming over layers, scales and widths: below it no budget can be met, and that is known
  before the first step of a search;
- :func:`decode_within` first decodes as always. If that is too slow, each branch is decoded again for the greatest
  log-probability minus a price for milliseconds, exactly, and the price is raised until the network fits. Probabilities
  of operators and widths are taken relative to the likeliest of their row, so that at a price of nothing the path is
  that of the plain decoding;
- where even that fails, which sharing can make happen, the fastest network is given.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_architecture import Architecture
from featherseg.models.fasterseg_cells import OPERATORS
from featherseg.models.fasterseg_shapes import Kind, OperatorShape
from featherseg.search.decoding import PAIRS, SKIP, DecodedBranch, decode_pairs, to_architecture
from featherseg.search.latency import Price, architecture_latency, decoder_shapes
from featherseg.search.space import FULL, SCALES, Choices, Role, SearchSpace, check_choices

CONVOLUTIONS: tuple[Kind, ...] = OPERATORS[1:]  # type: ignore[assignment]
PRICES = tuple(10.0 ** (power / 4) for power in range(-16, 17))
"""What a millisecond may cost, in units of log-probability."""


@dataclass(frozen=True)
class Fitted:
    """A network by the table: its milliseconds, and the scales at which its branches end."""

    architecture: Architecture
    milliseconds: float
    ends: tuple[int, int]


@dataclass(frozen=True)
class Pricing:
    """A table asked for a role's cells at a size of image.

    Widths are in twelfths; channels of the stem are ``role.stem``, of a branch's last map ``role.head``.
    """

    space: SearchSpace
    role: Role
    price: Price
    size: tuple[int, int] = (1024, 2048)
    num_classes: int = 19

    def cell(self) -> Callable[[str, int, int, int, int], float]:
        """A function of operator, scale, scale of its output, and widths in and out; each is asked for once."""

        @cache
        def cost(kind: Kind, scale: int, to: int, taken: int, given: int) -> float:
            height, width = self.size[0] // (8 << scale), self.size[1] // (8 << scale)
            channels = self.space.channels(scale, taken), self.space.channels(to, given)
            return self.price(OperatorShape(kind, height, width, *channels, 1 + to - scale))

        return cost  # type: ignore[return-value]

    def refine(self) -> Callable[[int, int], float]:
        """What the decoder's refine at a scale costs, by the width of the branch's last map there."""

        @cache
        def cost(scale: int, width: int) -> float:
            at = self.size[0] // (8 << scale), self.size[1] // (8 << scale)
            arm = self.space.channels(scale, self.role.head)
            return self.price(OperatorShape("conv_norm", *at, arm + self.space.channels(scale, width), arm))

        return cost

    def whole(self, architecture: Architecture) -> float:
        """Of a network, decoder and head included."""
        return architecture_latency(architecture, self.price, self.size, self.num_classes)

    def widths(self) -> tuple[int, ...]:
        """What a cell may give."""
        return self.space.widths if self.role.searches_widths else (FULL,)


Step = tuple[str, int, int]
"""An operator, the scale it works on, and the width it gives."""


def fastest_architecture(pricing: Pricing) -> Fitted:
    """The network of least latency that decoding could give, by its scales the better of the two."""
    space, role, cost, refine = pricing.space, pricing.role, pricing.cell(), pricing.refine()

    @cache
    def cheapest(scale: int, to: int, taken: int, given: int) -> tuple[float, str]:
        return min((cost(kind, scale, to, taken, given), kind) for kind in CONVOLUTIONS)

    # A branch's refine at a scale takes its last map there: what it costs is known when the branch halves.
    @cache
    def to_go(left: int, scale: int, taken: int, end: int) -> tuple[float, tuple[Step, ...]]:
        best: tuple[float, tuple[Step, ...]] = (math.inf, ())
        if left == 1:
            if scale != end:
                return best
            paid, kind = cheapest(scale, scale, taken, role.head)
            return paid, ((kind, scale, role.head),)
        for to in (one for one in (scale, scale + 1) if one <= end):
            joining = refine(scale, taken) if to > scale else 0.0
            for given in pricing.widths():
                paid, kind = cheapest(scale, to, taken, given)
                rest, steps = to_go(left - 1, to, given, end)
                if paid + joining + rest < best[0]:
                    best = (paid + joining + rest, ((kind, scale, given), *steps))
        return best

    @cache
    def finishing(done: int, scale: int, taken: int, end: int) -> tuple[float, tuple[Step, ...]]:
        least = max(1, space.least_kept(end) - done)
        lengths = range(least, space.layers - done + 1)
        return min((to_go(left, scale, taken, end) for left in lengths), key=lambda one: one[0])

    arms = {end: sum(map(pricing.price, decoder_shapes(space, role, end, pricing.size)[::2])) for end in SCALES}
    shared: dict[tuple[int, int], tuple[float, tuple[Step, ...]]] = {(0, role.stem): (0.0, ())}
    found: list[tuple[float, tuple[int, int], tuple[tuple[Step, ...], ...]]] = []
    for done in range(space.layers):
        further: dict[tuple[int, int], tuple[float, tuple[Step, ...]]] = {}
        for (scale, taken), (paid, steps) in shared.items():
            for ends in PAIRS:
                tails = [finishing(done, scale, taken, end) for end in ends]
                total = paid + sum(tail for tail, _ in tails) + sum(arms[end] for end in ends)
                found.append((total, ends, tuple((*steps, *tail) for _, tail in tails)))
            for to in SCALES[scale : scale + 2]:
                joining = 2 * refine(scale, taken) if to > scale else 0.0  # both branches have one
                for given in pricing.widths():
                    one, kind = cheapest(scale, to, taken, given)
                    one += paid + joining
                    if (to, given) not in further or one < further[to, given][0]:
                        further[to, given] = (one, (*steps, (kind, scale, given)))
        shared = further
    _, ends, branches = min(found, key=lambda one: one[0])
    architecture = to_architecture(space, role, tuple(_branch(steps) for steps in branches))
    return Fitted(architecture, pricing.whole(architecture), ends)


def _branch(steps: tuple[Step, ...]) -> DecodedBranch:
    operators, path, widths = zip(*steps, strict=True)
    return DecodedBranch(operators, path, widths[:-1])


def check_budget(pricing: Pricing, budget: float, measure: Callable[[Architecture], float] | None = None) -> Fitted:
    """The fastest network, if it keeps ``budget`` (milliseconds).

    Args:
        pricing: of the space.
        budget: what a network may take.
        measure: gives the milliseconds of a network as a whole; None: the table is believed.

    Raises:
        FeathersegError: no network of the space does; the message says what the fastest takes.
    """
    fastest = fastest_architecture(pricing)
    takes, how = fastest.milliseconds, "by the table"
    if takes <= budget and measure is not None:
        takes, how = measure(fastest.architecture), "measured"
    if takes > budget:
        height, width = pricing.size
        raise FeathersegError(
            f"a budget of {budget:g} ms cannot be met: the fastest network of this search space takes "
            f"{_rounded_up(takes):g} ms ({how}) for {height}x{width}. Raise the budget, make latency.size smaller, or "
            "search a smaller space (space.base, space.widths, space.layers)."
        )
    return fastest


def _rounded_up(milliseconds: float) -> float:
    """To three digits, so that as a budget it is kept."""
    step = 10.0 ** (math.floor(math.log10(milliseconds)) - 2)
    return math.ceil(milliseconds / step) * step


def decode_within(
    pricing: Pricing, choices: Choices, budget: float, ends: tuple[tuple[int, int], ...] = PAIRS
) -> dict[tuple[int, int], Fitted]:
    """For each pair of ends the likeliest network that keeps ``budget`` by the table, where one was found.

    The fastest network of the space stands in where none was found for any pair.
    """
    space, role = pricing.space, pricing.role
    check_choices(space, choices)
    plain = decode_pairs(space, role, choices)
    found: dict[tuple[int, int], Fitted] = {}
    priced = _Priced(pricing, choices)
    for pair in ends:
        taken = pricing.whole(plain[pair])
        if taken <= budget:
            found[pair] = Fitted(plain[pair], taken, pair)
            continue

        @cache
        def priced_at(price: float, pair: tuple[int, int] = pair) -> Fitted:
            architecture = priced.network(pair, price)
            return Fitted(architecture, pricing.whole(architecture), pair)

        first = bisect_left(PRICES, True, key=lambda price: priced_at(price).milliseconds <= budget)
        if first < len(PRICES) and priced_at(PRICES[first]).milliseconds <= budget:
            found[pair] = priced_at(PRICES[first])
    if not found:
        fastest = check_budget(pricing, budget)
        found[fastest.ends] = fastest
    return found


class _Priced:
    """Branches of the greatest log-probability minus a price for their milliseconds."""

    def __init__(self, pricing: Pricing, choices: Choices) -> None:
        self.pricing = pricing
        self.cost = pricing.cell()
        logs = [[one.detach().double().cpu().log_softmax(-1) for one in group] for group in choices]
        self.beta = [one.tolist() for one in logs[1]]
        self.alpha, self.ratio = ([(one - one.amax(-1, keepdim=True)).tolist() for one in logs[i]] for i in (0, 2))
        self.branch = cache(self._branch)

    def network(self, pair: tuple[int, int], price: float) -> Architecture:
        branches = tuple(self.branch(end, price)[1] for end in pair)
        return to_architecture(self.pricing.space, self.pricing.role, branches)

    def _branch(self, end: int, price: float) -> tuple[float, DecodedBranch]:
        """Its score and itself, by dynamic programming.

        A state is the scale and width that a layer takes, and how many layers were kept.
        """
        space, role = self.pricing.space, self.pricing.role
        least, layers = space.least_kept(end), space.layers
        columns = {width: i for i, width in enumerate(space.widths)} if role.searches_widths else {FULL: 0}

        @cache
        def step(layer: int, scale: int, to: int, taken: int, given: int) -> tuple[float, str]:
            row = self.alpha[scale][layer - scale]
            return max(
                (row[1 + i] - price * self.cost(kind, scale, to, taken, given), kind)
                for i, kind in enumerate(CONVOLUTIONS)
            )

        # The score, and the steps so far; the width is None behind the branch's last layer.
        states: dict[tuple[int, int | None, int], tuple[float, tuple[Step, ...]]] = {(0, role.stem, 0): (0.0, ())}
        for layer in range(layers):
            following: dict[tuple[int, int | None, int], tuple[float, tuple[Step, ...]]] = {}

            def keep(key: tuple[int, int | None, int], score: float, steps: tuple[Step, ...]) -> None:
                if key not in following or score > following[key][0]:  # noqa: B023
                    following[key] = (score, steps)  # noqa: B023

            for (scale, taken, kept), (score, steps) in states.items():
                for to in (scale, scale + 1):
                    if to > end or (to > scale and layer == layers - 1):
                        continue
                    moved = score + self._chance(layer + 1, scale, to)
                    if to == scale and role.searches_widths:
                        keep((to, taken, kept), moved + self.alpha[scale][layer - scale][SKIP], steps)
                    if taken is None:
                        continue
                    count = min(kept + 1, least)
                    if to == scale == end and count == least:
                        gain, kind = step(layer, scale, to, taken, role.head)
                        keep((to, None, count), moved + gain, (*steps, (kind, scale, role.head)))
                    if layer == layers - 1:
                        continue
                    row = self.ratio[to][layer + 1 - to if to else layer]
                    for given, column in columns.items():
                        gain, kind = step(layer, scale, to, taken, given)
                        keep((to, given, count), moved + gain + row[column], (*steps, (kind, scale, given)))
            states = following
        best, steps = states[end, None, least]
        return best, _branch(steps)

    def _chance(self, layer: int, scale: int, to: int) -> float:
        """Of cell (layer, to) taking its input from ``scale``."""
        if layer >= self.pricing.space.layers or not to or layer == to:
            return 0.0
        return self.beta[to - 1][layer - to - 1][int(scale == to)]
