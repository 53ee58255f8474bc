"""FasterSeg's supernet: every cell of every path, every operator and every width in one network.

Chen et al. 2020 (see space.py). At 1024x2048 with 19 classes, teacher and student, published behaviour:

|                                   | published code        |
|-----------------------------------|-----------------------|
| parameters, with its unused ones  | 252.06 M              |
| teacher, full widths              | 1288.0 G conv MACs    |
| student, full widths              | 1224.2 G              |
| student, least widths             | 177.5 G               |

A cell takes what the scale above and its own scale give, weighted by beta. Its two mixed operators, one that keeps the
scale and one that halves it, have the same alpha.

Design choices:
- ``official`` runs a cell on each of its two inputs and mixes the outputs, as published; ``corrected`` mixes the inputs
  and runs it once (861.4, 806.0 and 126.3 G). A derived cell has one input as well;
- the choice of widths is made outside (:meth:`Supernet.choose_widths`) and handed in, so that a pass is a pure function
  of weights, images and that choice;
- cells and their batch norms are shared by all architectures; stems, fusion and heads are each one's own;
- logits stay at 1/8 of the image.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError, nearest
from featherseg.models.fasterseg import SegmentationHead, initialise
from featherseg.models.fasterseg_cells import OPERATORS, ConvNorm, build_operator, resize_map
from featherseg.models.output import InputSpec
from featherseg.search.slimmable import MixedOperator
from featherseg.search.space import FULL, SCALES, STEM, Choices, Place, Role, SearchSpace

Behaviour = Literal["official", "corrected"]
WidthMode = Literal["max", "min", "random", "arch_ratio"]
OUTPUTS = ("0", "1", "2", "02", "12")
"""The scales that each of the five outputs is made of."""
START = 1e-3


class Widths(NamedTuple):
    """The widths of one pass, as indices into ``space.widths`` by scale and row, and a factor of value 1 for each.

    The factors carry the gradient to the ratio parameters (straight-through); None where widths were not sampled.
    """

    indices: tuple[tuple[int, ...], ...]
    factors: tuple[Tensor, ...] | None = None


class ArchitectureParameters(nn.Module):
    """Alpha, beta and ratio (gamma) of one architecture, all alike at the start."""

    def __init__(self, space: SearchSpace, role: Role) -> None:
        super().__init__()
        columns = len(space.widths) if role.searches_widths else 1

        def group(rows: list[int], columns: int) -> nn.ParameterList:
            return nn.ParameterList(nn.Parameter(torch.full((count, columns), START)) for count in rows)

        self.alpha = group([space.layers - scale for scale in SCALES], len(OPERATORS))
        self.beta = group([space.layers - scale - 1 for scale in SCALES[1:]], 2)
        self.ratio = group(list(space.ratio_rows()), columns)

    def choices(self) -> Choices:
        """The parameters themselves."""
        return Choices(tuple(self.alpha), tuple(self.beta), tuple(self.ratio))


class Cell(nn.Module):
    """The mixed operators of one place; ``down`` is None at the last scale and in the last layer."""

    def __init__(self, space: SearchSpace, scale: int, halves: bool, published_extras: bool) -> None:
        super().__init__()
        widths = sorted({*space.widths, *(role.head for role in space.roles), FULL})
        full = space.channels(scale, FULL)

        def mixed(to: int, stride: int) -> MixedOperator:
            return MixedOperator(full, tuple(space.channels(to, one) for one in widths), stride, published_extras)

        self.keep = mixed(scale, 1)
        self.down = mixed(scale + 1, 2) if halves else None


class FusionHeads(nn.Module):
    """The five outputs of one architecture from its last maps at 1/8, 1/16 and 1/32."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        at_8, at_16, at_32 = channels, 2 * channels, 4 * channels
        self.arms16, self.refines16 = ConvNorm(at_16, at_8, 1), ConvNorm(at_16, at_8, 3)
        self.arms32 = nn.ModuleList([ConvNorm(at_32, at_16, 1), ConvNorm(at_16, at_8, 1)])
        self.refines32 = nn.ModuleList([ConvNorm(at_32, at_16, 3), ConvNorm(at_16, at_8, 3)])
        self.heads = nn.ModuleList(SegmentationHead(at_8 * len(output), num_classes) for output in OUTPUTS)

    def forward(self, at_8: Tensor, at_16: Tensor, at_32: Tensor) -> tuple[Tensor, ...]:
        def joined(arm: nn.Module, refine: nn.Module, deep: Tensor, shallow: Tensor) -> Tensor:
            enlarged = resize_map(arm(deep), shallow.shape[-2:], "bilinear")
            return refine(torch.cat([enlarged, shallow], 1))

        from_16 = joined(self.arms16, self.refines16, at_16, at_8)
        between = joined(self.arms32[0], self.refines32[0], at_32, at_16)
        branches = {"0": at_8, "1": from_16, "2": joined(self.arms32[1], self.refines32[1], between, at_8)}
        return tuple(
            head(torch.cat([branches[scale] for scale in output], 1))
            for output, head in zip(OUTPUTS, self.heads, strict=True)
        )


class Supernet(nn.Module):
    """The network that is searched.

    ``forward``: float ``[B, 3, H, W]`` to five logits ``[B, K, H/8, W/8]``, in the order of :data:`OUTPUTS`.

    Args:
        space: its sizes, and which architectures share its cells.
        num_classes: of the logits.
        behaviour: see the module.
        published_extras: build the parameters that the published network has and never uses.
    """

    def __init__(
        self,
        space: SearchSpace,
        num_classes: int = 19,
        *,
        behaviour: Behaviour = "corrected",
        published_extras: bool = False,
    ) -> None:
        super().__init__()
        check_behaviour(behaviour)
        self.space, self.behaviour = space, behaviour
        self.input_spec = InputSpec(min_size=64, output_stride=8)
        self.stems = nn.ModuleList(self._stem(role) for role in space.roles)
        self.cells = nn.ModuleDict(
            {
                f"{layer}-{scale}": Cell(space, scale, space.rows(layer, scale).down is not None, published_extras)
                for layer in range(space.layers)
                for scale in SCALES
                if space.has_cell(layer, scale)
            }
        )
        self.heads = nn.ModuleList(FusionHeads(space.channels(0, role.head), num_classes) for role in space.roles)
        self.architectures = nn.ModuleList(ArchitectureParameters(space, role) for role in space.roles)
        initialise(self)

    def _stem(self, role: Role) -> nn.Sequential:
        first, second, entry = self.space.stem(role)
        return nn.Sequential(
            ConvNorm(3, first, 3, 2),
            build_operator("conv_2x", first, second, 2),
            build_operator("conv_2x", second, entry, 2),
        )

    def architecture_parameters(self) -> list[nn.Parameter]:
        """What the search optimises on the second half of the data."""
        return list(self.architectures.parameters())

    def weight_parameters(self) -> list[nn.Parameter]:
        """All others."""
        searched = set(self.architecture_parameters())
        return [parameter for parameter in self.parameters() if parameter not in searched]

    def choices(self, role: int) -> Choices:
        """The architecture parameters of a role."""
        return self.architectures[role].choices()  # type: ignore[operator]

    def choose_widths(self, mode: WidthMode, role: int = 0, rng: np.random.Generator | None = None) -> Widths:
        """The widths of a pass: the greatest, the least, any ("random"), or sampled by the ratios ("arch_ratio").

        Sampling is Gumbel's (Jang et al. 2017) at temperature 1, hard, with straight-through factors. An architecture
        that does not search its widths has the greatest instead. ``rng`` is for the last two.
        """
        space, rows = self.space, self.space.ratio_rows()
        if mode == "max" or (mode == "arch_ratio" and not space.roles[role].searches_widths):
            return Widths(tuple((len(space.widths) - 1,) * count for count in rows))
        if mode == "min":
            return Widths(tuple((0,) * count for count in rows))
        assert rng is not None, "random widths need their generator"
        if mode == "random":
            return Widths(tuple(tuple(map(int, rng.integers(len(space.widths), size=count))) for count in rows))
        indices, factors = [], []
        for ratio in self.choices(role).ratio:
            noise = torch.from_numpy(rng.gumbel(size=tuple(ratio.shape))).to(ratio)
            soft = (ratio.log_softmax(-1) + noise).softmax(-1)
            chosen = soft.argmax(-1)
            picked = soft.gather(-1, chosen[:, None])[:, 0]
            indices.append(tuple(chosen.tolist()))
            factors.append(picked - picked.detach() + 1)
        return Widths(tuple(indices), tuple(factors))

    def likeliest_widths(self, role: int) -> Widths:
        """The widths whose ratios are greatest; all full where the role does not search them."""
        if not self.space.roles[role].searches_widths:
            return self.choose_widths("max", role)
        return Widths(tuple(tuple(ratio.argmax(-1).tolist()) for ratio in self.choices(role).ratio))

    def forward(self, images: Tensor, role: int = 0, widths: Widths | None = None) -> tuple[Tensor, ...]:
        return self.heads[role](*self.last_maps(images, role, widths or self.choose_widths("max", role)))

    def last_maps(self, images: Tensor, role: int, widths: Widths) -> list[Tensor]:
        """The last layer's maps at 1/8, 1/16 and 1/32, of the role's head width."""
        space, own = self.space, self.space.roles[role]
        probabilities = self.choices(role).probabilities()

        def width(place: Place) -> tuple[int, Tensor | None]:
            if isinstance(place, str):
                return (own.stem if place == STEM else own.head), None
            scale, row = place
            factor = None if widths.factors is None else widths.factors[scale][row]
            return space.widths[widths.indices[scale][row]], factor

        kept: list[Tensor] = [self.stems[role](self.input_spec.pad(images))]
        halved: list[Tensor | None] = []
        for layer in range(space.layers):
            new_kept: list[Tensor] = []
            new_halved: list[Tensor | None] = []
            for scale in SCALES[: layer + 1]:
                cell: Cell = self.cells[f"{layer}-{scale}"]  # type: ignore[assignment]
                taken, keep, down = space.rows(layer, scale)
                inputs: list[tuple[Tensor, Tensor | None]] = [(kept[scale], None)] if scale == 0 else []
                if scale:
                    inputs = [(x, None) for x in (halved[scale - 1], *kept[scale : scale + 1]) if x is not None]
                if len(inputs) == 2:
                    shares = probabilities.beta[scale - 1][layer - scale - 1].unbind()
                    inputs = [(x, share) for (x, _), share in zip(inputs, shares, strict=True)]
                    if self.behaviour == "corrected":
                        inputs = [(inputs[0][0] * shares[0] + inputs[1][0] * shares[1], None)]
                alpha = probabilities.alpha[scale][layer - scale]
                factor_in = width(taken)[1]

                def run(mixed: MixedOperator, place: Place, to: int) -> Tensor:
                    out, factor_out = width(place)
                    weights = alpha  # noqa: B023
                    for factor in (factor_in, factor_out):  # noqa: B023
                        weights = weights if factor is None else weights * factor
                    return _mixed_over(mixed, inputs, weights, space.channels(to, out))  # noqa: B023

                new_kept.append(run(cell.keep, keep, scale))
                new_halved.append(None if cell.down is None or down is None else run(cell.down, down, scale + 1))
            kept, halved = new_kept, new_halved
        return kept


def _mixed_over(
    mixed: MixedOperator, inputs: list[tuple[Tensor, Tensor | None]], weights: Tensor, channels: int
) -> Tensor:
    """The mixed operator on each input, the outputs weighted by the inputs' shares."""
    total: Tensor | None = None
    for x, share in inputs:
        y = mixed(x, weights, channels)
        y = y if share is None else y * share
        total = y if total is None else total + y
    assert total is not None
    return total


def check_behaviour(behaviour: str) -> None:
    """Raises FeathersegError where there is no such behaviour."""
    if behaviour not in get_args(Behaviour):
        raise FeathersegError(
            f"behaviour={behaviour}: it is official or corrected{nearest(behaviour, get_args(Behaviour))}."
        )
