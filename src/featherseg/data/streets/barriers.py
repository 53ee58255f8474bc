"""Walls, fences, railings and hedges along the street.

A barrier's label is its whole outline, as people draw it, though a railing shows what is behind between its bars.
"""

import math

import numpy as np

from featherseg.data.streets.canvas import FENCE, TREE, Canvas
from featherseg.data.streets.chance import Dice
from featherseg.data.streets.furniture import METALS
from featherseg.data.streets.plants import LEAVES, foliage
from featherseg.data.streets.things import Barrier, Plan


def paint_barrier(canvas: Canvas, plan: Plan, barrier: Barrier) -> None:
    """Paint a wall, fence, railing, guard rail or hedge; CamVid's 11 classes call all but the hedge a fence."""
    view, mood = canvas.view, canvas.mood
    start, end = np.array(plan.bend.place(barrier.u0, barrier.s0)), np.array(plan.bend.place(barrier.u1, barrier.s1))
    points = np.array([start, end, end, start])
    points[2:, 1] = barrier.height
    polygon = view.polygon(points)
    if polygon is None:
        return
    dice = Dice.at(barrier.seed)
    middle = max(2.0, (max(barrier.s0, 0.0) + barrier.s1) / 2)
    light = mood.light(-math.copysign(1.0, barrier.u0), 0.0, 0.0)
    scale = view.scale / middle
    if barrier.kind == "hedge":
        identity = canvas.register(TREE)
        canvas.claim(polygon, identity)
        colour = canvas.tone(dice.pick(LEAVES["hedge"]), light, middle)
        canvas.fill(polygon, (colour[0] * 0.75, colour[1] * 0.75, colour[2] * 0.75))
        foliage(canvas, polygon, colour, 0.12 * view.scale / max(4.0, barrier.s0), 0.1, 0.0, barrier.seed)
        return
    identity = canvas.register(FENCE)
    canvas.claim(polygon, identity)
    along = (end - start) / max(1e-6, float(np.hypot(end[0] - start[0], end[2] - start[2])))
    length = float(np.hypot(end[0] - start[0], end[2] - start[2]))

    def bars(places: np.ndarray, width: float, low: float, high: float) -> np.ndarray:
        a = np.stack([places - width / 2, places + width / 2, places + width / 2, places - width / 2], 1)
        world = start + a[..., None] * along
        world[..., 1] = (low, low, high, high)
        return view.polygons(world)

    height = barrier.height
    if barrier.kind in ("wall", "boards"):
        base = (
            ((138, 84, 66), (156, 150, 140), (176, 160, 130), (200, 196, 186))
            if barrier.kind == "wall"
            else ((112, 90, 66), (88, 70, 54), (130, 116, 98))
        )
        albedo = dice.pick(base)
        canvas.fill(polygon, canvas.tone(albedo, light, middle))
        dark = canvas.tone((albedo[0] * 0.7, albedo[1] * 0.7, albedo[2] * 0.7), light, middle)
        if barrier.kind == "wall":
            rail = np.array([start, end, end, start])
            rail[:, 1] = (height - 0.12, height - 0.12, height, height)
            cap = view.polygon(rail)
            if cap is not None:
                canvas.fill(cap, canvas.tone((albedo[0] * 1.15, albedo[1] * 1.15, albedo[2] * 1.15), light, middle))
            if scale > 25:
                for y in np.arange(0.22, height - 0.15, 0.22):
                    course = np.array([start, end, end, start])
                    course[:, 1] = (y, y, y + 0.02, y + 0.02)
                    line = view.polygon(course)
                    if line is not None:
                        canvas.fill(line, dark)
        elif scale > 12:
            canvas.fill_all(bars(np.arange(0.0, length, 0.5), 0.05, 0.0, height), dark)
        return
    metal = canvas.tone(dice.pick(METALS), light, middle)
    rails = {"railing": (0.1, height * 0.92), "mesh": (0.05, height * 0.97), "guard": (height * 0.55,)}[barrier.kind]
    thick = {"railing": 0.06, "mesh": 0.05, "guard": 0.34}[barrier.kind]
    step = {"railing": 0.16, "mesh": 0.35, "guard": 2.0}[barrier.kind]
    if scale < 14 or barrier.kind == "mesh":
        # bars too fine to draw one by one: a veil over what is behind
        low = np.maximum(polygon.min(0) // 16, 0)
        high = np.minimum(polygon.max(0) // 16 + 2, (view.columns, view.rows))
        if (high > low).all():
            mask = canvas.identities[low[1] : high[1], low[0] : high[0]] == identity
            region = canvas.image[low[1] : high[1], low[0] : high[0]]
            region[mask] = (region[mask] * 0.6 + np.array(metal) * 0.4).astype(np.uint8)
    for y in rails:
        rail = np.array([start, end, end, start])
        rail[:, 1] = (y, y, y + thick, y + thick)
        line = view.polygon(rail)
        if line is not None:
            canvas.fill(line, metal)
    if scale >= 8:
        step = step if scale > 22 else max(step, 0.5)
        canvas.fill_all(
            bars(np.arange(0.0, length, step), 0.045 if barrier.kind != "guard" else 0.12, 0.0, height), metal
        )
