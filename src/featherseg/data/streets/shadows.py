"""Shadows on the ground: of the sun, and the dark below every vehicle under any sky.

A shadow is the hull of a thing's outline on the ground and of the same outline moved by the sun; hulls are painted
into one mask, so that shadows which overlap are no darker than one.
"""

import math

import cv2
import numpy as np

from featherseg.data.streets.camera import SHIFT
from featherseg.data.streets.canvas import Canvas
from featherseg.data.streets.things import Building, Cyclist, Plan, Post, Tree, Vehicle, Walker

FAINT = 0.05  # sun on the ground below which no shadow is seen
_TURNS = np.linspace(0, 2 * np.pi, 8, endpoint=False)
RING = np.stack([np.cos(_TURNS), np.zeros(8), np.sin(_TURNS)], 1)


def _shadow(canvas: Canvas, mask: np.ndarray, points: np.ndarray, value: float) -> None:
    polygon = canvas.view.polygon(points)
    if polygon is not None:
        cv2.fillConvexPoly(mask, cv2.convexHull(polygon), value, cv2.LINE_AA, SHIFT)


def cast_shadows(canvas: Canvas, plan: Plan) -> np.ndarray:
    """How much light reaches the ground, uint8 ``[H, W]``, 255 for all of it."""
    mood = canvas.mood
    mask = np.full(canvas.identities.shape, 255, np.uint8)
    sun = mood.sun
    strength = max(mood.sun_light) * sun[1]
    # how far a shadow moves along the ground for each metre of height
    drop = np.array([-sun[0], 0.0, -sun[2]]) / max(sun[1], 0.15)
    shade = 255 * mood.sky_light[1] / (mood.sky_light[1] + strength)
    if strength >= FAINT:
        for thing in plan.things:
            if isinstance(thing, Building):
                if thing.s0 < 80:
                    height = thing.storeys * thing.storey + thing.roof * 0.6
                    base = np.array([plan.bend.place(thing.u0, thing.s0), plan.bend.place(thing.u1, thing.s1)])
                    _shadow(canvas, mask, np.concatenate([base, base + drop * height]), shade)
            elif isinstance(thing, Tree | Post | Walker | Cyclist) and thing.s < 60:
                height, wide = _extent(thing)
                foot = RING * wide + np.array(plan.bend.place(thing.u, thing.s))
                low = 0.55 * height if isinstance(thing, Tree) else 0.0
                _shadow(canvas, mask, np.concatenate([foot + drop * low, foot + drop * height]), shade)
    for thing in plan.things:
        if isinstance(thing, Vehicle) and thing.s < 90:
            length = thing.length if thing.length > 2 else 4.2
            turn = thing.turn + plan.bend.heading(thing.s)
            ahead = np.array([math.sin(turn), 0.0, math.cos(turn)]) * (length / 2 + 0.1)
            across = np.array([math.cos(turn), 0.0, -math.sin(turn)]) * 0.95
            corners = np.array([ahead + across, ahead - across, -ahead - across, -ahead + across])
            base = corners + np.array(plan.bend.place(thing.u, thing.s))
            if strength >= FAINT:
                height = 3.0 if thing.kind in ("bus", "lorry") else 1.3
                _shadow(canvas, mask, np.concatenate([base, base + drop * height]), shade)
            _shadow(canvas, mask, base, min(shade, 90.0))
    blur = max(3, canvas.view.rows // 120 * 2 + 1)
    return cv2.blur(mask, (blur, blur))


def _extent(thing: Tree | Post | Walker | Cyclist) -> tuple[float, float]:
    if isinstance(thing, Tree):
        return thing.trunk + 2 * thing.radius, thing.radius
    if isinstance(thing, Post):
        return thing.height, 0.12
    return thing.height, 0.28
