"""What FasterSeg searches over: layers, scales, widths, and who is searched; and where each choice is kept.

Chen et al., "FasterSeg: Searching for Faster Real-time Semantic Segmentation", ICLR 2020, Sec. 3, and its published
code.

Scales count from 0: 1/8, 1/16 and 1/32 of the image. Layer l has cells at the scales 0 to min(l, 2). With L layers,
every searched architecture has these parameters:

| parameter         | shape        | of                                                                           |
|-------------------|--------------|------------------------------------------------------------------------------|
| alpha 0, 1, 2     | L - s, 5     | the operator of cell (l, s): row l - s                                       |
| beta 1, 2         | L - s - 1, 2 | shares of what cell (l, s) takes from the scale above and its own: row l - s - 1 |
| ratio 0, 1, 2     | L - 1, L - 1, L - 2; W | the W widths between cells: rows as :meth:`SearchSpace.rows` gives them |

Design choices:
- a width is a whole number of twelfths of the full one, as published; ``base`` channels times 8, 16 and 32 are full. A
  ``base`` that 3 divides makes every width a whole number of channels;
- nothing here needs more than the numbers, so that spaces of a few layers serve the tests.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg_cells import OPERATORS

SCALES = (0, 1, 2)
FULL = 12
FEWEST_LAYERS = 4
STEM, HEAD = "stem", "head"
Place = str | tuple[int, int]
"""Where a width is decided: by the stem, by the head, or by (scale, row) of the ratio parameters."""


@dataclass(frozen=True)
class Role:
    """An architecture under search. ``stem`` and ``head`` are its widths there, in twelfths.

    The cells of one that does not search its widths have the full one.
    """

    name: str
    stem: int = FULL
    head: int = FULL
    searches_widths: bool = False


TEACHER = Role("teacher")
STUDENT = Role("student", stem=8, head=8, searches_widths=True)


class Rows(NamedTuple):
    """Where a cell's widths are decided; ``down`` is None where the cell has no output to the next scale."""

    taken: Place
    kept: Place
    down: Place | None


@dataclass(frozen=True)
class SearchSpace:
    """Sizes of the supernet and of what it can become.

    Raises:
        FeathersegError: no path leads through so few layers, or a width is none.
    """

    layers: int = 16
    base: int = FULL
    widths: tuple[int, ...] = (4, 6, 8, 10, 12)
    roles: tuple[Role, ...] = (TEACHER, STUDENT)

    def __post_init__(self) -> None:
        if self.layers < FEWEST_LAYERS:
            raise FeathersegError(
                f"a search space of {self.layers} layers has no path to 1/32: two cells that halve and one behind each "
                f"need {FEWEST_LAYERS}. Set space.layers={FEWEST_LAYERS} or more."
            )
        if self.base < 1 or self.base % 3:
            raise FeathersegError(f"space.base={self.base}: a third of it must be a whole number, as in 12 or 6.")
        given = (*self.widths, *(width for role in self.roles for width in (role.stem, role.head)))
        if not self.widths or list(self.widths) != sorted(set(self.widths)) or not all(0 < w <= FULL for w in given):
            raise FeathersegError(
                f"space.widths={list(self.widths)}: widths are whole twelfths of the full one, from 1 to {FULL}, each "
                "once and in rising order, for example [4,6,8,10,12]."
            )
        if not self.roles:
            raise FeathersegError("a search space without an architecture to search has nothing to find.")

    def channels(self, scale: int, width: int) -> int:
        """Channels at a scale for a width in twelfths."""
        return 8 * 2**scale * self.base * width // FULL

    def stem(self, role: Role) -> tuple[int, int, int]:
        """Channels after the stem's three layers."""
        entry = self.channels(0, role.stem)
        return entry // 2, entry, entry

    def has_cell(self, layer: int, scale: int) -> bool:
        return scale in SCALES and layer >= scale

    def rows(self, layer: int, scale: int) -> Rows:
        """Where the widths of cell (layer, scale) are decided."""
        taken: Place = (scale, layer - scale) if scale else (0, layer - 1)
        if layer == 0:
            taken = STEM
        last = layer == self.layers - 1
        kept: Place = HEAD if last else (scale, layer - scale + 1 if scale else layer)
        return Rows(taken, kept, None if last or scale == SCALES[-1] else (scale + 1, layer - scale))

    def ratio_rows(self) -> tuple[int, int, int]:
        """How many rows the ratio parameters of each scale have."""
        return self.layers - 1, self.layers - 1, self.layers - 2

    def least_kept(self, scale: int) -> int:
        """How many layers a branch that ends at ``scale`` keeps at least, when skips are deleted."""
        return min(self.layers, round(self.layers / 3) + 2 * scale)


class Choices(NamedTuple):
    """The parameters of one architecture, or their probabilities: tensors by scale, as the table above has them.

    ``beta[0]`` is of scale 1. ``ratio`` of an architecture that does not search its widths has one column.
    """

    alpha: tuple[Tensor, ...]
    beta: tuple[Tensor, ...]
    ratio: tuple[Tensor, ...]

    def probabilities(self) -> "Choices":
        """Softmax over the last dimension of every tensor."""
        return Choices(*(tuple(one.softmax(-1) for one in group) for group in self))


def check_choices(space: SearchSpace, choices: Choices) -> None:
    """Compare the shapes of ``choices`` with those of ``space``.

    Raises:
        FeathersegError: they are of another space.
    """
    wanted = [(space.layers - scale, len(OPERATORS)) for scale in SCALES]
    wanted += [(space.layers - scale - 1, 2) for scale in SCALES[1:]]
    given = [tuple(one.shape) for one in (*choices.alpha, *choices.beta)]
    rows = [one.shape[0] for one in choices.ratio]
    if given != wanted or rows != list(space.ratio_rows()):
        raise FeathersegError(
            f"architecture parameters of the shapes {given} and ratios of {rows} rows are not of a search space of "
            f"{space.layers} layers, which has {wanted} and {list(space.ratio_rows())}."
        )
