"""Draws the plan of a street: camera, road, the two sides, and everything that stands on them.

- Three kinds of place, as in CamVid's drives: town (closed fronts), suburb (gardens, hedges, walls, verges) and open
  (car parks, avenues, few houses).
- Numbers of people and vehicles are set so that classes come near CamVid's shares of pixels; small classes (bicyclist,
  pedestrian, sign, pole) are put near the camera often enough to be learnt.
"""

import math

from featherseg.data.streets.camera import Bend, Camera
from featherseg.data.streets.chance import Dice
from featherseg.data.streets.sides import close_end, fill_side
from featherseg.data.streets.things import Crossing, Cyclist, Plan, Post, Side, Thing, Vehicle, Walker

LENGTHS = {"hatchback": 4.0, "saloon": 4.5, "estate": 4.6, "suv": 4.6, "van": 5.4, "lorry": 8.0, "bus": 11.0}


def _camera(dice: Dice, lateral: float) -> Camera:
    focal = dice.uniform(0.78, 1.35)
    yaw = dice.uniform(-0.09, 0.09) if dice.chance(0.86) else dice.uniform(-0.42, 0.42)
    horizon = dice.uniform(0.39, 0.56)
    return Camera(
        lateral=lateral,
        height=dice.uniform(1.15, 1.75) if dice.chance(0.9) else dice.uniform(1.75, 2.6),
        yaw=yaw,
        pitch=math.atan((horizon - 0.5) / focal),
        roll=dice.uniform(-0.02, 0.02),
        focal=focal,
    )


def _side(dice: Dice, place: str, kerb: float) -> Side:
    verge = dice.uniform(0.6, 2.2) if dice.chance({"town": 0.03, "suburb": 0.3, "open": 0.35}[place]) else 0.0
    pavement = dice.uniform(1.5, 3.6) if dice.chance(0.93) else 0.0
    if place == "town":
        garden = 0.0 if dice.chance(0.75) else dice.uniform(0.5, 3.0)
    else:
        garden = dice.uniform(2.5, 7.0) if place == "suburb" else dice.uniform(5.0, 22.0)
    beyond = {
        "town": "paved",
        "suburb": "grass" if dice.chance(0.7) else "paved",
        "open": dice.pick(("grass", "road", "road", "paved")),
    }[place]
    return Side(
        kerb=kerb,
        verge=verge,
        pavement=pavement,
        front=kerb + verge + pavement + garden,
        paving=dice.pick(("asphalt", "slabs", "slabs", "cobbles")),
        beyond=beyond,
    )


def _vehicle_kind(dice: Dice, parked: bool) -> str:
    roll = dice.random()
    if roll < 0.86:
        return ("hatchback", "hatchback", "saloon", "estate", "suv", "hatchback")[int(roll / 0.86 * 6)]
    if parked or roll < 0.945:
        return "van"
    return "bus" if roll < 0.975 else "lorry"


def _parked(dice: Dice, side: Side, sign: int, blocked: Crossing | None, things: list[Thing]) -> None:
    s = dice.uniform(2.5, 14.0)
    end = dice.uniform(20.0, 90.0)
    usual = 0.0 if dice.chance(0.7) else math.pi
    full = dice.uniform(0.4, 0.95)
    while s < end:
        kind = _vehicle_kind(dice, parked=True)
        length = LENGTHS[kind]
        middle = s + length / 2
        turn = (usual if dice.chance(0.85) else math.pi - usual) + dice.uniform(-0.03, 0.03)
        here = dice.chance(full)
        u = sign * (side.kerb - dice.uniform(1.02, 1.25))
        seed = dice.seed()
        if here and not (blocked and blocked.start - 3 < middle < blocked.end + 3):
            things.append(Vehicle(u, middle, turn, kind, seed, length))
        s += length + dice.uniform(0.6, 1.6)


def _rank(dice: Dice, side: Side, sign: int, things: list[Thing]) -> None:
    """A row of cars nose in on a car park behind the pavement."""
    u = sign * (side.kerb + side.verge + side.pavement + dice.uniform(2.6, 4.5))
    s = dice.uniform(3.0, 12.0)
    end = dice.uniform(18.0, 60.0)
    while s < end:
        if dice.chance(0.7):
            turn = (math.pi / 2 if dice.chance(0.5) else -math.pi / 2) + dice.uniform(-0.05, 0.05)
            kind = _vehicle_kind(dice, parked=True)
            things.append(Vehicle(u + dice.uniform(-0.3, 0.3), s, turn, kind, dice.seed(), 1.9))
        s += dice.uniform(2.4, 2.8)


def _traffic(dice: Dice, plan_lanes: tuple[float, ...], own: float, drives_left: bool, things: list[Thing]) -> None:
    busy = dice.uniform(0.15, 1.0)
    for lane in plan_lanes:
        away = (lane < 0) == drives_left
        s = dice.uniform(7.0, 26.0) if lane == own else dice.uniform(4.0, 26.0)
        while s < 120:
            if dice.chance(busy):
                kind = _vehicle_kind(dice, parked=False)
                turn = (0.0 if away else math.pi) + dice.uniform(-0.04, 0.04)
                length = LENGTHS[kind]
                middle = s + length / 2
                things.append(Vehicle(lane + dice.uniform(-0.3, 0.3), middle, turn, kind, dice.seed(), length))
                s += length
            s += dice.uniform(3.0, 9.0) if dice.chance(busy * 0.5) else dice.uniform(10.0, 45.0)


def _walkers(dice: Dice, side: Side, sign: int, place: str, things: list[Thing]) -> None:
    groups = dice.integer(0, {"town": 7, "suburb": 3, "open": 3}[place])
    for _ in range(groups):
        s = 4.0 + 60.0 * dice.random() ** 1.6
        inner = side.kerb + side.verge + 0.3
        u = inner + dice.random() * max(0.3, side.pavement - 0.6)
        facing = dice.pick((0.0, math.pi, 0.0, math.pi, math.pi / 2, -math.pi / 2)) + dice.uniform(-0.3, 0.3)
        for _ in range(dice.pick((1, 1, 1, 2, 2, 3))):
            height = dice.uniform(1.55, 1.9) if dice.chance(0.88) else dice.uniform(0.95, 1.45)
            things.append(Walker(sign * u, s, height, facing + dice.uniform(-0.2, 0.2), dice.seed()))
            u += dice.uniform(0.45, 0.8)
            s += dice.uniform(-0.5, 0.5)


def _cyclists(dice: Dice, plan_lanes: tuple[float, ...], left: Side, right: Side, things: list[Thing]) -> None:
    for _ in range(dice.pick((0, 1, 1, 1, 2, 3))):
        s = dice.uniform(5.0, 10.0) if dice.chance(0.42) else dice.uniform(9.0, 45.0)
        if dice.chance(0.7):
            sign, side = (-1, left) if dice.chance(0.5) else (1, right)
            u = sign * (side.kerb - dice.uniform(0.5, 1.2) - (2.1 if dice.chance(0.3) else 0.0))
        else:
            u = dice.pick(plan_lanes) + dice.uniform(-0.8, 0.8)
        facing = dice.pick((0.0, 0.0, math.pi)) + dice.uniform(-0.25, 0.25)
        if dice.chance(0.2):
            facing = dice.pick((-1, 1)) * dice.uniform(1.0, 1.9)
        things.append(Cyclist(u, s, dice.uniform(1.6, 1.85), facing, dice.seed()))


def draw_plan(dice: Dice) -> Plan:
    """Draw a scene. The dice must hold numbers drawn for this scene alone."""
    roll = dice.random()
    place = "town" if roll < 0.46 else ("suburb" if roll < 0.76 else "open")
    drives_left = dice.chance(0.55)
    lane_width = dice.uniform(2.8, 3.6)
    per_way = (1, 1, 1, 2)[dice.integer(0, 3)] if place != "suburb" else 1
    one_way = dice.chance(0.15)
    lanes = tuple(lane_width * (k + 0.5) for k in range(-per_way, 0 if one_way else per_way))
    middle = 0.0 if not one_way else lane_width * per_way / 2
    lanes = tuple(lane + middle for lane in lanes)
    if not drives_left:
        lanes = tuple(-lane for lane in lanes)
    own_side = [lane for lane in lanes if (lane < 0) == drives_left] or list(lanes)
    own = dice.pick(own_side)
    bays = (dice.chance(0.5), dice.chance(0.5))
    half = lane_width * len(lanes) / 2
    left = _side(dice, place, half + (2.1 if bays[0] else dice.uniform(0.1, 0.7)))
    right = _side(dice, place, half + (2.1 if bays[1] else dice.uniform(0.1, 0.7)))
    crossing = None
    if dice.chance(0.4):
        start = dice.uniform(10.0, 60.0)
        both = dice.random()
        crossing = Crossing(start, start + dice.uniform(6.0, 10.0), both < 0.7, both > 0.35)
    bend = Bend(0.0, 0.0)
    if dice.chance(0.55):
        bend = Bend(dice.uniform(-0.012, 0.012), dice.uniform(-1e-4, 1e-4))
    end = dice.uniform(35.0, 90.0) if dice.chance(0.22) else None
    zebra = dice.uniform(7.0, 35.0) if dice.chance(0.22) else None

    things: list[Thing] = []
    _traffic(dice, lanes, own, drives_left, things)
    for sign, side, bay in ((-1, left, bays[0]), (1, right, bays[1])):
        if bay or dice.chance(0.12):
            _parked(dice, side, sign, crossing, things)
        if side.beyond == "road" and side.front > side.kerb + side.pavement + 8 and dice.chance(0.7):
            _rank(dice, side, sign, things)
        _walkers(dice, side, sign, place, things)
        gap = crossing if crossing and (crossing.left if sign < 0 else crossing.right) else None
        things.extend(fill_side(dice, side, sign, place, gap, end))
    _cyclists(dice, lanes, left, right, things)
    if zebra is not None:
        for _ in range(dice.integer(0, 4)):
            u = dice.uniform(-left.kerb, right.kerb)
            facing = dice.pick((-1, 1)) * math.pi / 2 + dice.uniform(-0.2, 0.2)
            things.append(Walker(u, zebra + dice.uniform(0.5, 2.5), dice.uniform(1.5, 1.9), facing, dice.seed()))
        for sign, side in ((-1, left), (1, right)):
            u = sign * (side.kerb + 0.4)
            things.append(Post(u, zebra - 0.6, dice.uniform(2.8, 3.6), "lights", -sign, dice.seed()))
    if end is not None:
        things = [thing for thing in things if thing.order < end - 1]
        things.extend(close_end(dice, place, end))
    things = _spaced(things, zebra)
    return Plan(
        camera=_camera(dice, own + dice.uniform(-0.5, 0.5)),
        bend=bend,
        left=left,
        right=right,
        lanes=lanes,
        lane_width=lane_width,
        drives_left=drives_left,
        crossing=crossing,
        zebra=zebra,
        end=end,
        things=tuple(sorted(things, key=lambda thing: -thing.order)),
        bonnet=dice.uniform(0.03, 0.09) if dice.chance(0.06) else 0.0,
        ground_seed=dice.seed(),
        skyline_seed=dice.seed(),
        skyline=dice.pick(("houses", "trees", "mixed")) if place != "town" else dice.pick(("houses", "mixed")),
    )


def _spaced(things: list[Thing], zebra: float | None) -> list[Thing]:
    """Leave out vehicles that stand in one another, on a cyclist or on people who cross the road."""
    taken: list[tuple[float, float, float, float]] = []
    kept: list[Thing] = []
    if zebra is not None:
        taken.append((0.0, zebra + 1.5, 30.0, 2.0))
    for thing in things:
        if isinstance(thing, Cyclist):
            taken.append((thing.u, thing.s, 0.35, 1.0))
    for thing in things:
        if isinstance(thing, Vehicle):
            along = abs(math.cos(thing.turn)) * thing.length / 2 + 0.3 if thing.length > 2 else 0.95
            across = 0.95 if thing.length > 2 else 2.2
            if any(abs(thing.u - u) < a + across and abs(thing.s - s) < b + along for u, s, a, b in taken):
                continue
            taken.append((thing.u, thing.s, across, along))
        kept.append(thing)
    return kept
