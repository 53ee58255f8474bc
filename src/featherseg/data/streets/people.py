"""Pedestrians and cyclists: jointed figures drawn as billboards, in the proportions of the human body.

Heights are in shares of the body height: hip 0.5, shoulder 0.82, head 0.93. What is farther from the viewer is
painted first; ``turned`` (the sine of the facing) narrows the shoulders and widens the stride.
"""

import math

import numpy as np

from featherseg.data.streets.canvas import BICYCLIST, PEDESTRIAN, Canvas, limb, oval, stamped
from featherseg.data.streets.chance import Dice
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.things import Cyclist, Plan, Walker

CLOTHES: tuple[RGB, ...] = (
    (30, 32, 40), (44, 46, 52), (22, 24, 28), (60, 62, 70), (36, 48, 80), (70, 50, 44), (110, 100, 90),
    (150, 40, 44), (40, 80, 130), (190, 186, 178), (50, 74, 56), (120, 90, 60), (90, 40, 80), (200, 160, 60),
)  # fmt: skip
TROUSERS: tuple[RGB, ...] = ((34, 40, 58), (28, 28, 32), (56, 66, 92), (80, 74, 66), (44, 44, 48), (120, 112, 100))
SKINS: tuple[RGB, ...] = ((224, 178, 150), (204, 156, 128), (160, 112, 84), (112, 76, 56), (236, 194, 168))
HAIRS: tuple[RGB, ...] = ((40, 30, 26), (70, 50, 34), (24, 22, 22), (150, 120, 70), (150, 148, 144))
VESTS: tuple[RGB, ...] = ((214, 230, 60), (240, 140, 40))

Points = list[tuple[float, float]]
Part = tuple[Points, RGB]


def _walker_parts(dice: Dice, height: float, facing: float) -> list[Part]:
    turned = math.sin(facing)
    side = abs(turned)
    way = 1.0 if turned >= 0 else -1.0
    build = dice.uniform(0.85, 1.2) * height
    coat = dice.pick(CLOTHES)
    legs = dice.pick(TROUSERS)
    dark = (legs[0] * 0.7, legs[1] * 0.7, legs[2] * 0.7)
    skin, hair = dice.pick(SKINS), dice.pick(HAIRS)
    stride = dice.uniform(-0.16, 0.16) * height
    hip, shoulder, knee = 0.5 * height, 0.82 * height, 0.27 * height
    half = build * (0.115 * (1 - side) + 0.075 * side)
    spread = 0.05 * build * (1 - side)
    swing = stride * (0.25 + 0.75 * side)
    parts: list[Part] = []
    skirt = dice.chance(0.16)
    for sign, colour in ((-1, dark), (1, legs)):
        foot = sign * (spread + swing * way)
        bend = foot * 0.5 + way * side * 0.03 * height
        parts.append((limb(sign * spread * 0.8, hip, bend, knee, 0.095 * build, 0.075 * build), colour))
        parts.append((limb(bend, knee + 0.01, foot, 0.02, 0.07 * build, 0.055 * build), colour))
        toe = way * 0.075 * height * side
        parts.append((limb(foot - 0.02 * height, 0.02, foot + toe + 0.02 * height, 0.015, 0.05, 0.045), (26, 24, 24)))
    hem = hip - (0.2 if skirt else dice.uniform(0.0, 0.16)) * height
    arm = 0.062 * build
    far_hand = -stride * way * 0.9 * side - half * 1.15 * (1 - side)
    near_hand = stride * way * 0.9 * side + half * 1.15 * (1 - side)
    sleeve = (coat[0] * 0.82, coat[1] * 0.82, coat[2] * 0.82)
    parts.append((limb(-half * (1 - side), shoulder - 0.02, far_hand, 0.47 * height, arm, arm * 0.8), sleeve))
    torso: Points = [
        (-half * (1.25 if skirt else 0.95), hem),
        (half * (1.25 if skirt else 0.95), hem),
        (half * 0.85, 0.6 * height),
        (half * 1.05, shoulder - 0.03 * height),
        (half * 0.5, shoulder + 0.02 * height),
        (-half * 0.5, shoulder + 0.02 * height),
        (-half * 1.05, shoulder - 0.03 * height),
        (-half * 0.85, 0.6 * height),
    ]
    parts.append((torso, coat))
    parts.append((limb(half * (1 - side), shoulder - 0.02, near_hand, 0.47 * height, arm, arm * 0.8), sleeve))
    if dice.chance(0.3):
        bag_x = (near_hand + half * 0.4) if dice.chance(0.5) else -way * half
        bag_y = 0.42 * height if dice.chance(0.6) else 0.66 * height
        bag = dice.pick(CLOTHES)
        parts.append((limb(bag_x, bag_y + 0.1 * height, bag_x, bag_y - 0.07 * height, 0.13, 0.18), bag))
    head_x = way * side * 0.02 * height
    parts.append((limb(head_x, shoulder, head_x, 0.88 * height, 0.06 * build, 0.06 * build), skin))
    away = math.cos(facing) > 0.3
    parts.append((oval(head_x, 0.925 * height, 0.052 * height, 0.072 * height), hair if away else skin))
    if not away:
        top = oval(head_x - way * side * 0.02, 0.958 * height, 0.052 * height, 0.044 * height)
        parts.append((top, hair))
    return parts


def _cyclist_parts(dice: Dice, height: float, facing: float) -> tuple[list[Part], list[Part]]:
    """What is drawn, and what is claimed besides: the discs of the wheels, as people outline a bicycle."""
    turned = math.sin(facing)
    side = abs(turned)
    way = 1.0 if turned >= 0 else -1.0
    frame = dice.pick(((150, 30, 30), (30, 30, 34), (40, 70, 140), (170, 172, 176), (40, 100, 60)))
    coat = dice.pick(CLOTHES) if dice.chance(0.75) else dice.pick(VESTS)
    legs, skin = dice.pick(TROUSERS), dice.pick(SKINS)
    radius = 0.34
    reach = 0.52 * side * way
    ring = max(0.09, radius * side)
    parts: list[Part] = []
    claimed: list[Part] = []
    # seen from behind or ahead one wheel hides the other
    for x in (-reach, reach) if side > 0.3 else (0.0,):
        wheel = oval(x, radius, ring, radius, 16)
        claimed.append((wheel, (0, 0, 0)))
        hole = oval(x, radius, max(0.0, ring - 0.045), radius - 0.045, 16)
        # a ring as one polygon: round the outside, across, and back round the inside
        parts.append(([*wheel, wheel[0], hole[0], *hole[:0:-1], hole[0]], (20, 20, 22)))
    crank = (-0.05 * side * way, 0.3)
    saddle = (-0.2 * side * way, 0.95)
    bars = (0.38 * side * way, 1.02)
    for start, end in (
        (crank, saddle),
        (crank, (reach * 0.8, 0.75)),
        (saddle, (reach * 0.75, 0.85)),
        ((-reach, radius), crank),
    ):
        parts.append((limb(*start, *end, 0.045, 0.045), frame))
    parts.append((limb(reach, radius, *bars, 0.045, 0.045), frame))
    hip = (-0.16 * side * way, 0.98)
    scale = height / 1.75
    shoulder = (hip[0] + 0.34 * side * way, 1.0 + 0.5 * scale)
    half = 0.2 * scale * (1 - side) + 0.13 * side
    turn = dice.uniform(0, 2 * math.pi)
    for sign, shade in ((-1, 0.7), (1, 1.0)):
        pedal = (
            crank[0] + 0.17 * side * math.cos(turn) * sign + 0.1 * sign * (1 - side),
            0.3 + 0.17 * sign * math.sin(turn),
        )
        knee = ((hip[0] + pedal[0]) / 2 + 0.2 * side * way + 0.12 * sign * (1 - side), (hip[1] + pedal[1]) / 2 + 0.12)
        colour = (legs[0] * shade, legs[1] * shade, legs[2] * shade)
        parts.append((limb(*hip, *knee, 0.17, 0.13), colour))
        parts.append((limb(*knee, *pedal, 0.12, 0.08), colour))
        parts.append(
            (
                limb(
                    pedal[0] - 0.06, pedal[1] - 0.03, pedal[0] + 0.12 * way * side + 0.06, pedal[1] - 0.03, 0.06, 0.06
                ),
                (24, 22, 22),
            )
        )
    torso: Points = [
        (hip[0] - half * 0.85, hip[1] - 0.06),
        (hip[0] + half * 0.85, hip[1] - 0.06),
        (shoulder[0] + half, shoulder[1] - 0.06),
        (shoulder[0] + half * 0.4, shoulder[1] + 0.06),
        (shoulder[0] - half * 0.5, shoulder[1] + 0.06),
        (shoulder[0] - half, shoulder[1] - 0.06),
    ]
    parts.append((torso, coat))
    sleeve = (coat[0] * 0.85, coat[1] * 0.85, coat[2] * 0.85)
    for sign in (-1, 1):
        hand = (bars[0] + 0.24 * sign * (1 - side), bars[1])
        parts.append((limb(shoulder[0] + sign * half * (1 - side), shoulder[1] - 0.03, *hand, 0.11, 0.08), sleeve))
    head = (shoulder[0] + 0.08 * side * way, shoulder[1] + 0.2 * scale)
    parts.append((oval(*head, 0.095 * scale, 0.125 * scale), skin if math.cos(facing) < 0.3 else dice.pick(HAIRS)))
    if dice.chance(0.6):
        parts.append(
            (oval(head[0], head[1] + 0.05, 0.115 * scale, 0.085 * scale), dice.pick((*CLOTHES, (230, 230, 230))))
        )
    return parts, claimed


def _paint(canvas: Canvas, foot: np.ndarray, scale: float, parts: list[Part], identity: int) -> None:
    distance = canvas.view.scale / scale
    light = canvas.mood.light(0, 0, -1)
    points = stamped(np.array([point for part, _ in parts for point in part]), foot, scale)
    start = 0
    for part, albedo in parts:
        polygon = points[start : start + len(part)]
        start += len(part)
        canvas.both(polygon, canvas.tone(albedo, light, distance), identity)


def paint_walker(canvas: Canvas, plan: Plan, walker: Walker) -> int | None:
    """Paint a pedestrian and return its identity; None when it is out of view."""
    placed = canvas.view.billboard(plan.bend.place(walker.u, walker.s))
    if placed is None:
        return None
    foot, scale = placed
    if not canvas.in_frame(foot[0] - scale, foot[1] - walker.height * scale, foot[0] + scale, foot[1]):
        return None
    identity = canvas.register(PEDESTRIAN)
    _paint(canvas, foot, scale, _walker_parts(Dice.at(walker.seed), walker.height, walker.facing), identity)
    return identity


def paint_cyclist(canvas: Canvas, plan: Plan, cyclist: Cyclist) -> int | None:
    """Paint a cyclist and return its identity; None when it is out of view."""
    placed = canvas.view.billboard(plan.bend.place(cyclist.u, cyclist.s))
    if placed is None:
        return None
    foot, scale = placed
    if not canvas.in_frame(foot[0] - scale, foot[1] - 2 * scale, foot[0] + scale, foot[1]):
        return None
    identity = canvas.register(BICYCLIST)
    parts, claimed = _cyclist_parts(Dice.at(cyclist.seed), cyclist.height, cyclist.facing)
    for disc, _ in claimed:
        canvas.claim(stamped(np.array(disc), foot, scale), identity)
    _paint(canvas, foot, scale, parts, identity)
    return identity
