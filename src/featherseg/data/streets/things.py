"""What can stand in a street: one frozen value per thing, in street coordinates (u, s) and metres.

``order`` says when a thing is painted: far to near, by the end that matters. A thing along the street (a house, a
wall) takes its far end, since whatever stands beside it and nearer to the road hides it and never the other way round.
``seed`` is the thing's place in the table of chance (see ``chance.Dice.at``) for all that is only its look.
"""

from dataclasses import dataclass

from featherseg.data.streets.camera import Bend, Camera
from featherseg.data.streets.mood import RGB


@dataclass(frozen=True)
class Building:
    """A house from (u0, s0) to (u1, s1) at its street front, ``depth`` deep away from the street."""

    u0: float
    s0: float
    u1: float
    s1: float
    depth: float
    storeys: int
    storey: float
    use: str  # "house", "shop", "office", "hall"
    roof: float  # height of a pitched roof, 0 for a flat one
    colour: RGB
    detached: bool  # its near side wall can be seen
    seed: int

    @property
    def order(self) -> float:
        return max(self.s0, self.s1)


@dataclass(frozen=True)
class Tree:
    """A tree or, with ``trunk`` 0, a bush."""

    u: float
    s: float
    trunk: float  # height of the trunk
    radius: float  # of the crown
    kind: str  # "leafy", "autumn", "bare", "conifer", "bush"
    behind: bool  # stands behind the street front
    seed: int

    @property
    def order(self) -> float:
        return self.s + (30.0 if self.behind else 0.0)


@dataclass(frozen=True)
class Barrier:
    """A fence, wall, railing or hedge between two places."""

    u0: float
    s0: float
    u1: float
    s1: float
    height: float
    kind: str  # "wall", "railing", "boards", "mesh", "guard", "hedge"
    seed: int

    @property
    def order(self) -> float:
        return max(self.s0, self.s1)


@dataclass(frozen=True)
class Post:
    """Anything on a pole, and poles alone."""

    u: float
    s: float
    height: float
    kind: str  # "lamp", "sign", "lights", "bollard", "mast", "banner", "board", "bin"
    inward: float  # +1 when the road lies to the right of it, -1 when to the left
    seed: int

    @property
    def order(self) -> float:
        return self.s


@dataclass(frozen=True)
class Vehicle:
    """A car, van, lorry or bus centred at (u, s); ``turn`` radians to the right of the street's own direction."""

    u: float
    s: float
    turn: float
    kind: str
    seed: int
    length: float

    @property
    def order(self) -> float:
        return self.s - self.length / 2


@dataclass(frozen=True)
class Walker:
    """A pedestrian."""

    u: float
    s: float
    height: float
    facing: float  # radians: 0 walks away, pi comes nearer
    seed: int

    @property
    def order(self) -> float:
        return self.s


@dataclass(frozen=True)
class Cyclist:
    """A bicycle with its rider."""

    u: float
    s: float
    height: float
    facing: float
    seed: int

    @property
    def order(self) -> float:
        return self.s


Thing = Building | Tree | Barrier | Post | Vehicle | Walker | Cyclist


@dataclass(frozen=True)
class Side:
    """One side of the street, metres outwards from the kerb."""

    kerb: float  # distance of the kerb from the centre line
    verge: float  # grass strip beside the kerb
    pavement: float
    front: float  # distance of the house fronts from the centre line
    paving: str  # "asphalt", "slabs", "cobbles"
    beyond: str  # what the ground is behind the pavement: "paved", "grass", "road"


@dataclass(frozen=True)
class Crossing:
    """A side street between ``start`` and ``end`` metres ahead, to the left, to the right or both."""

    start: float
    end: float
    left: bool
    right: bool


@dataclass(frozen=True)
class Plan:
    """A whole scene before anything is painted."""

    camera: Camera
    bend: Bend
    left: Side
    right: Side
    lanes: tuple[float, ...]  # centres of the lanes
    lane_width: float
    drives_left: bool
    crossing: Crossing | None
    zebra: float | None  # where a pedestrian crossing begins
    end: float | None  # where the street ends in a T junction
    things: tuple[Thing, ...]
    bonnet: float  # share of the image height hidden by the camera's own car, 0 for none
    ground_seed: int
    skyline_seed: int
    skyline: str  # "houses", "trees", "mixed"
