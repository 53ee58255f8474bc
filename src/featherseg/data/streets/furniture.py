"""Lamps, signs, traffic lights, bollards and boards.

A pole far away is thinner than a pixel: it keeps one pixel in the label, and in the image its colour gives way to
what is behind it by the share of the pixel it covers.
"""

import math

import numpy as np

from featherseg.data.labels import IGNORE
from featherseg.data.streets.canvas import POLE, SIGN, Canvas, limb, oval, stamped
from featherseg.data.streets.chance import Dice
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.things import Plan, Post

METALS: tuple[RGB, ...] = ((120, 122, 122), (70, 74, 72), (44, 48, 46), (150, 152, 150), (96, 98, 100), (36, 52, 44))
Points = list[tuple[float, float]]


def _thin(canvas: Canvas, colour: RGB, width: float, polygon: np.ndarray) -> RGB:
    """The colour of a bar ``width`` pixels wide: mixed with what is behind it when it fills less than a pixel."""
    if width >= 1.3:
        return colour
    share = max(0.3, width / 1.3)
    x, y = polygon.mean(0) / 16
    column = min(max(int(x), 0), canvas.view.columns - 1)
    row = min(max(int(y), 0), canvas.view.rows - 1)
    behind = canvas.image[row, column].tolist()
    return (
        colour[0] * share + behind[0] * (1 - share),
        colour[1] * share + behind[1] * (1 - share),
        colour[2] * share + behind[2] * (1 - share),
    )


class _Stand:
    """A billboard at a post's foot, ready to be painted on."""

    def __init__(self, canvas: Canvas, foot: np.ndarray, scale: float) -> None:
        self.canvas, self.foot, self.scale = canvas, foot, scale
        self.distance = canvas.view.scale / scale
        self.light = canvas.mood.light(0, 0, -1)

    def paint(self, points: Points, albedo: RGB, identity: int | None, lit: bool = False) -> None:
        polygon = stamped(np.array(points), self.foot, self.scale)
        colour = self.canvas.tone(albedo, (1.0, 1.0, 1.0) if lit else self.light, self.distance)
        self.canvas.fill(polygon, colour)
        if identity is not None:
            self.canvas.claim(polygon, identity)

    def bar(self, points: Points, albedo: RGB, width: float, identity: int) -> None:
        polygon = stamped(np.array(points), self.foot, self.scale)
        colour = self.canvas.tone(albedo, self.light, self.distance)
        self.canvas.fill(polygon, _thin(self.canvas, colour, width * self.scale, polygon))
        self.canvas.claim(polygon, identity)


def _plate(stand: _Stand, dice: Dice, x: float, y: float, size: float, identity: int) -> None:
    """One traffic sign: disc, warning triangle, or panel."""
    kind = dice.pick(("ring", "ring", "disc", "triangle", "panel", "panel", "back"))
    fine = stand.scale * size > 4
    red: RGB = (200, 30, 34)
    white: RGB = (236, 236, 232)
    if kind in ("ring", "disc"):
        blue = dice.chance(0.5)
        rim = red if kind == "ring" else ((28, 70, 160) if blue else red)
        stand.paint(oval(x, y, size / 2, size / 2, 16), rim, identity)
        if fine and kind == "ring":
            stand.paint(oval(x, y, size * 0.36, size * 0.36, 14), white, None)
            stand.paint(
                [(x - 0.08, y - 0.12), (x + 0.08, y - 0.12), (x + 0.08, y + 0.12), (x - 0.08, y + 0.12)],
                (30, 30, 32),
                None,
            )
        elif fine:
            stand.paint(
                [
                    (x - size * 0.3, y - 0.05),
                    (x + size * 0.3, y - 0.05),
                    (x + size * 0.3, y + 0.05),
                    (x - size * 0.3, y + 0.05),
                ],
                white,
                None,
            )
    elif kind == "triangle":
        flip = -1 if dice.chance(0.25) else 1
        for share, colour in ((1.0, red), (0.62, white)):
            corners = [
                (x + share * size * 0.56 * math.sin(t), y + flip * share * size * 0.56 * math.cos(t))
                for t in (0, 2.094, 4.189)
            ]
            if colour is red or fine:
                stand.paint(corners, colour, identity if colour is red else None)
    else:
        wide, high = size * dice.uniform(0.4, 0.85), size * dice.uniform(0.3, 0.75)
        colour = dice.pick(((28, 80, 165), (236, 236, 230), (20, 100, 66), (228, 190, 50), (196, 120, 40)))
        if kind == "back":
            colour = (120.0, 122.0, 124.0)
        stand.paint(
            [(x - wide, y - high), (x + wide, y - high), (x + wide, y + high), (x - wide, y + high)], colour, identity
        )
        if fine and kind == "panel":
            ink = white if sum(colour) < 420 else (40.0, 42.0, 46.0)
            for line in range(3):
                row = y + high * (0.5 - 0.45 * line)
                end = x - wide * 0.8 + wide * dice.uniform(0.6, 1.6)
                stand.paint(
                    [(x - wide * 0.8, row), (end, row), (end, row + high * 0.18), (x - wide * 0.8, row + high * 0.18)],
                    ink,
                    None,
                )


def _signals(stand: _Stand, dice: Dice, x: float, top: float, identity: int) -> None:
    """A traffic light, by CamVid's 11 classes a sign."""
    stand.paint(
        [(x - 0.26, top - 1.05), (x + 0.26, top - 1.05), (x + 0.26, top + 0.05), (x - 0.26, top + 0.05)],
        (24, 26, 26),
        identity,
    )
    lamps = (((255, 50, 40), (64, 16, 14)), ((255, 190, 60), (66, 48, 16)), ((70, 255, 170), (14, 56, 40)))
    lit = dice.integer(0, 2) if dice.chance(0.75) else 9
    for place, (on, off) in enumerate(lamps):
        y = top - 0.16 - 0.32 * place
        stand.paint(oval(x, y, 0.115, 0.115, 10), on if place == lit else off, None, lit=place == lit)


def paint_post(canvas: Canvas, plan: Plan, post: Post) -> None:
    """Paint a pole and what it carries."""
    placed = canvas.view.billboard(plan.bend.place(post.u, post.s))
    if placed is None:
        return
    foot, scale = placed
    if not canvas.in_frame(foot[0] - 3 * scale, foot[1] - (post.height + 1.5) * scale, foot[0] + 3 * scale, foot[1]):
        return
    dice = Dice.at(post.seed)
    stand = _Stand(canvas, foot, scale)
    metal = dice.pick(METALS)
    height = post.height
    if post.kind == "bin":
        void = canvas.register(IGNORE)
        shade = dice.pick(((40.0, 44.0, 44.0), (30.0, 60.0, 44.0), (110.0, 30.0, 30.0)))
        stand.paint([(-0.26, 0), (0.26, 0), (0.29, height), (-0.29, height)], shade, void)
        stand.paint(
            [(-0.31, height - 0.12), (0.31, height - 0.12), (0.28, height), (-0.28, height)], (20, 20, 20), void
        )
        return
    pole = canvas.register(POLE)
    width = {"lamp": 0.13, "bollard": 0.15, "mast": 0.17, "banner": 0.12, "board": 0.08, "lights": 0.11}.get(
        post.kind, 0.08
    )
    width *= dice.uniform(0.85, 1.3)
    stand.bar(limb(0, 0, 0, height, width * 1.15, width * 0.75), metal, width, pole)
    if post.kind == "lamp":
        arm = post.inward * dice.uniform(0.3, 1.9)
        if dice.chance(0.25):
            stand.paint(
                [(-0.2, height), (0.2, height), (0.26, height + 0.5), (-0.26, height + 0.5)], (190, 190, 180), pole
            )
        else:
            stand.bar(limb(0, height - 0.06, arm, height + 0.25, width * 0.75, width * 0.6), metal, width * 0.6, pole)
            end = arm + post.inward * 0.55
            head = [(arm, height + 0.18), (end, height + 0.2), (end, height + 0.32), (arm, height + 0.36)]
            stand.paint(head, (255, 226, 150) if canvas.mood.lamps else metal, pole, lit=canvas.mood.lamps)
        stand.bar(limb(0, 0, 0, 1.1, width * 1.5, width * 1.4), metal, width * 1.5, pole)
        if dice.chance(0.22):
            _plate(stand, dice, 0.0, min(2.6, height * 0.6), dice.uniform(0.5, 0.8), canvas.register(SIGN))
    elif post.kind == "bollard":
        stand.paint(limb(0, height * 0.72, 0, height * 0.88, width * 1.05, width), (220, 220, 214), None)
    elif post.kind == "mast":
        for share in (0.82, 0.9):
            if dice.chance(0.5):
                stand.bar(
                    [
                        (-0.7, height * share),
                        (0.7, height * share),
                        (0.7, height * share + 0.1),
                        (-0.7, height * share + 0.1),
                    ],
                    metal,
                    0.1,
                    pole,
                )
    else:
        sign = canvas.register(SIGN)
        if post.kind == "sign":
            size = dice.uniform(0.55, 0.95)
            _plate(stand, dice, 0.0, height, size, sign)
            if dice.chance(0.35):
                _plate(stand, dice, 0.0, height - size * 1.1, size * 0.8, sign)
        elif post.kind == "lights":
            _signals(stand, dice, 0.0, height + 0.1, sign)
            if dice.chance(0.5):
                _signals(stand, dice, post.inward * 0.55, height - 0.2, sign)
        elif post.kind == "banner":
            side, colour = post.inward, dice.pick(((170, 34, 40), (40, 70, 150), (210, 120, 40), (60, 120, 80)))
            flag = [
                (side * 0.1, height - 2.3),
                (side * 0.95, height - 2.3),
                (side * 0.95, height - 0.15),
                (side * 0.1, height - 0.15),
            ]
            stand.paint(flag, colour, sign)
            stripe = [
                (side * 0.3, height - 1.9),
                (side * 0.6, height - 1.9),
                (side * 0.6, height - 0.5),
                (side * 0.3, height - 0.5),
            ]
            stand.paint(stripe, (230, 226, 214), None)
        else:
            half = dice.uniform(0.45, 0.9)
            panel = [(-half, 0.5), (half, 0.5), (half, height + 0.6), (-half, height + 0.6)]
            stand.paint(panel, dice.pick(((36, 52, 110), (220, 220, 214), (40, 90, 80), (170, 60, 40))), sign)
            inner = [(-half * 0.8, 0.9), (half * 0.8, 0.9), (half * 0.8, height * 0.62), (-half * 0.8, height * 0.62)]
            stand.paint(inner, (dice.uniform(60, 220), dice.uniform(60, 220), dice.uniform(60, 220)), None)
            stand.paint(
                [
                    (-half * 0.7, height * 0.75),
                    (half * 0.5, height * 0.75),
                    (half * 0.5, height * 0.9),
                    (-half * 0.7, height * 0.9),
                ],
                (236, 234, 226),
                None,
            )
