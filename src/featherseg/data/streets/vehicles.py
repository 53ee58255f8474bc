"""Vehicles as small meshes of quadrilaterals, one template for each kind, culled by winding.

The body and the cabin are convex, so their silhouettes are the hulls of their projected corners and the label needs
two polygons. CamVid's 11 classes put vans, lorries and buses into ``car``; so does this.
"""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from featherseg.data.streets.camera import UNIT
from featherseg.data.streets.canvas import CAR, Canvas
from featherseg.data.streets.chance import Dice
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.things import Plan, Vehicle

PAINT, TRIM, GLASS, LAMP_FRONT, LAMP_REAR, PLATE_FRONT, PLATE_REAR, DARK, CARGO = range(9)

COLOURS: tuple[RGB, ...] = (
    (40, 42, 48), (30, 30, 34), (150, 154, 160), (176, 180, 184), (214, 216, 218), (230, 230, 228),
    (120, 24, 30), (160, 32, 30), (28, 46, 96), (44, 70, 130), (70, 92, 120), (30, 66, 52), (96, 90, 84),
    (180, 160, 120), (200, 170, 50), (90, 96, 104), (60, 64, 72), (16, 18, 24),
)  # fmt: skip
LIVERIES: tuple[RGB, ...] = (
    (190, 40, 40),
    (40, 90, 160),
    (60, 130, 90),
    (225, 225, 220),
    (220, 180, 60),
    (180, 190, 200),
)


@dataclass(frozen=True)
class Shape:
    """A template: quadrilaterals ``[N, 4, 3]`` (x right, y up, z ahead), materials, and the two hulls' corners."""

    quads: np.ndarray
    materials: tuple[int, ...]
    normals: np.ndarray
    body: np.ndarray
    cabin: np.ndarray
    wheels: np.ndarray  # centres [M, 3]
    radius: float
    body_quads: int  # how many of the quadrilaterals belong to the body


# length, width, height, sill, bonnet height at the nose and at the windscreen, windscreen foot, roof front, roof rear,
# rear glass foot; lengthwise places are shares of the length from the middle, ahead positive
PROFILES = {
    "hatchback": (4.0, 1.7, 1.46, 0.24, 0.70, 0.95, 0.24, 0.02, -0.38, -0.47),
    "saloon": (4.5, 1.75, 1.42, 0.24, 0.68, 0.93, 0.20, 0.02, -0.20, -0.36),
    "estate": (4.6, 1.75, 1.48, 0.24, 0.70, 0.95, 0.22, 0.04, -0.43, -0.49),
    "suv": (4.6, 1.85, 1.78, 0.32, 0.90, 1.10, 0.24, 0.08, -0.44, -0.49),
    "van": (5.4, 1.95, 2.35, 0.28, 1.00, 1.25, 0.36, 0.22, -0.485, -0.495),
    "lorry": (8.0, 2.35, 3.10, 0.45, 1.10, 1.20, 0.485, 0.46, -0.49, -0.495),
    "bus": (11.0, 2.5, 3.05, 0.35, 1.05, 1.15, 0.495, 0.485, -0.49, -0.495),
}


def _face(corners: list[np.ndarray], a0: float, a1: float, b0: float, b1: float) -> np.ndarray:
    """A part of a face by shares: a along its foot, b up."""
    p0, p1, p2, p3 = corners
    places = ((a0, b0), (a1, b0), (a1, b1), (a0, b1))
    return np.array([(p0 * (1 - a) + p1 * a) * (1 - b) + (p3 * (1 - a) + p2 * a) * b for a, b in places])


@cache
def shape(kind: str) -> Shape:
    """The template of a kind of vehicle."""
    length, width, height, sill, nose, belt, screen, roof0, roof1, rear = PROFILES[kind]
    half, top_half = width / 2, width / 2 * (0.8 if kind not in ("van", "lorry", "bus") else 0.95)
    ahead, back = length / 2, -length / 2
    zs, z0, z1, zr = screen * length, roof0 * length, roof1 * length, rear * length
    tall = kind in ("van", "lorry", "bus")

    def at(x: float, y: float, z: float) -> np.ndarray:
        return np.array([x, y, z])

    # faces: foot left, foot right, top right, top left as seen from outside
    front = [at(half, sill, ahead), at(-half, sill, ahead), at(-half, nose, ahead), at(half, nose, ahead)]
    tail = [at(-half, sill, back), at(half, sill, back), at(half, belt, back), at(-half, belt, back)]
    bonnet = [at(half, nose, ahead), at(-half, nose, ahead), at(-half, belt, zs), at(half, belt, zs)]
    deck = [at(-half, belt, back), at(half, belt, back), at(half, belt, zr), at(-half, belt, zr)]
    screen_face = [
        at(half * 0.96, belt, zs),
        at(-half * 0.96, belt, zs),
        at(-top_half, height, z0),
        at(top_half, height, z0),
    ]
    rear_face = [
        at(-half * 0.96, belt, zr),
        at(half * 0.96, belt, zr),
        at(top_half, height, z1),
        at(-top_half, height, z1),
    ]
    roof = [at(-top_half, height, z1), at(top_half, height, z1), at(top_half, height, z0), at(-top_half, height, z0)]
    sides, glasses = [], []
    for sign in (1, -1):
        low = [at(sign * half, sill, back), at(sign * half, sill, ahead), at(sign * half, nose, ahead)]
        low += [at(sign * half, belt, zs)]
        aft = [at(sign * half, sill, back), at(sign * half, belt, zs), at(sign * half, belt, back)]
        upper = [at(sign * half * 0.96, belt, zr), at(sign * half * 0.96, belt, zs)]
        upper += [at(sign * top_half, height, z0), at(sign * top_half, height, z1)]
        order = (0, 1, 2, 3) if sign > 0 else (1, 0, 3, 2)
        sides.append([low[k] for k in order] if sign > 0 else [low[k] for k in (1, 0, 3, 2)])
        sides.append([aft[0], aft[1], aft[2], aft[2]] if sign > 0 else [aft[1], aft[0], aft[2], aft[2]])
        glasses.append([upper[k] for k in order])
    quads: list[np.ndarray] = []
    materials: list[int] = []

    def add(material: int, corners: list[np.ndarray] | np.ndarray) -> None:
        quads.append(np.array(corners))
        materials.append(material)

    for face in (bonnet, deck, *sides, front, tail):
        add(PAINT, face)
    for side in (sides[0], sides[2]):
        add(DARK, _face(side, 0.0, 1.0, 0.0, 0.12))
    add(DARK, _face(front, 0.0, 1.0, 0.0, 0.2))
    add(DARK, _face(front, 0.25, 0.75, 0.62, 0.88))
    add(TRIM, _face(tail, 0.0, 1.0, 0.12, 0.34))
    add(DARK, _face(tail, 0.0, 1.0, 0.0, 0.12))
    add(LAMP_FRONT, _face(front, 0.03, 0.22, 0.6, 0.92))
    add(LAMP_FRONT, _face(front, 0.78, 0.97, 0.6, 0.92))
    add(LAMP_REAR, _face(tail, 0.02, 0.16, 0.5, 0.95))
    add(LAMP_REAR, _face(tail, 0.84, 0.98, 0.5, 0.95))
    add(PLATE_FRONT, _face(front, 0.36, 0.64, 0.28, 0.46))
    add(PLATE_REAR, _face(tail, 0.36, 0.64, 0.42, 0.58))
    body_quads = len(quads)
    cargo = CARGO if kind == "lorry" else PAINT
    for face in glasses:
        add(cargo, face)
    add(PAINT, screen_face)
    add(cargo, rear_face)
    add(PAINT, roof)
    for index, face in enumerate(glasses):
        # the side faces run from tail to nose on the right and from nose to tail on the left
        spans = {"bus": ((0.02, 0.98),), "van": ((0.76, 0.97),), "lorry": ((0.87, 0.98),)}.get(
            kind, ((0.06, 0.46), (0.5, 0.93))
        )
        for low, high in spans:
            a0, a1 = (low, high) if index == 0 else (1 - high, 1 - low)
            add(GLASS, _face(face, a0, a1, 0.3 if kind == "bus" else 0.1, 0.8 if tall else 0.88))
    add(GLASS, _face(screen_face, 0.05, 0.95, 0.06, 0.72 if tall else 0.92))
    if kind in ("hatchback", "saloon", "estate", "suv", "bus"):
        add(GLASS, _face(rear_face, 0.08, 0.92, 0.12 if kind != "bus" else 0.45, 0.88))
    elif kind == "van":
        add(GLASS, _face(rear_face, 0.1, 0.46, 0.45, 0.85))
        add(GLASS, _face(rear_face, 0.54, 0.9, 0.45, 0.85))
    stacked = np.array(quads)
    normals = np.cross(stacked[:, 2] - stacked[:, 1], stacked[:, 1] - stacked[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    radius = 0.31 if not tall else (0.36 if kind == "van" else 0.48)
    axle = 0.31 if kind != "bus" else 0.27
    wheels = np.array([(sign * (half + 0.005), radius, z * length) for sign in (1, -1) for z in (-axle, axle)])
    feet = np.array([(x * 0.97, 0.0, z + d) for x, _, z in wheels for d in (-radius * 0.6, radius * 0.6)])
    body = np.concatenate([np.array(face) for face in (front, tail, bonnet, deck)] + [feet])
    cabin = np.array([*screen_face, *rear_face])
    return Shape(stacked, tuple(materials), normals, body, cabin, wheels, radius, body_quads)


def _palette(dice: Dice, kind: str, lamps: bool) -> dict[int, RGB]:
    colour = dice.pick(COLOURS) if kind not in ("bus", "lorry") else dice.pick(LIVERIES)
    if kind == "van" and dice.chance(0.6):
        colour = (222.0, 222.0, 220.0)
    bright = dice.uniform(0.8, 1.1)
    colour = (colour[0] * bright, colour[1] * bright, colour[2] * bright)
    glass = dice.uniform(16, 62)
    return {
        PAINT: colour,
        TRIM: (38, 38, 40) if dice.chance(0.5) else colour,
        GLASS: (glass, glass * 1.05, glass * 1.1),
        LAMP_FRONT: (255, 250, 225) if lamps else (196, 200, 204),
        LAMP_REAR: (225, 40, 34) if lamps else (150, 26, 26),
        PLATE_FRONT: (214, 214, 208),
        PLATE_REAR: (214, 186, 60) if dice.chance(0.5) else (210, 210, 206),
        DARK: (26, 26, 28),
        CARGO: dice.pick(LIVERIES),
    }


def paint_vehicle(canvas: Canvas, plan: Plan, vehicle: Vehicle) -> int | None:
    """Paint a vehicle and return its identity; None when it is out of view or the camera is inside it."""
    view, mood = canvas.view, canvas.mood
    x, _, z = plan.bend.place(vehicle.u, vehicle.s)
    turn = vehicle.turn + (plan.bend.heading(vehicle.s) if vehicle.length > 2 else 0.0)
    cos, sin = math.cos(turn), math.sin(turn)
    template = shape(vehicle.kind)
    dice = Dice.at(vehicle.seed)
    size = np.array([dice.uniform(0.95, 1.06), dice.uniform(0.94, 1.07), dice.uniform(0.92, 1.05)])
    rotation = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) * size[:, None]
    place = np.array([x, 0.0, z])
    count = len(template.quads)
    corners = np.concatenate([template.quads.reshape(-1, 3), template.body, template.cabin]) @ rotation + place
    pixels, depth = view.project(corners)
    if depth.min() < 0.6:
        return None
    low, high = pixels.min(0), pixels.max(0)
    if not canvas.in_frame(low[0], low[1], high[0], high[1]):
        return None
    fixed = np.rint(pixels * UNIT).astype(np.int32)
    identity = canvas.register(CAR)
    canvas.extents[identity] = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    body = cv2.convexHull(fixed[4 * count : 4 * count + len(template.body)])
    distance = float(depth.mean())
    under = canvas.tone((14, 14, 15), mood.light(0, 0, 1), distance)
    canvas.both(body, under, identity)
    canvas.claim(cv2.convexHull(fixed[4 * count + len(template.body) :]), identity)
    quads = fixed[: 4 * count].reshape(-1, 4, 2)
    edge0 = (quads[:, 2] - quads[:, 0]).astype(np.float64)
    edge1 = (quads[:, 3] - quads[:, 1]).astype(np.float64)
    seen = edge0[:, 0] * edge1[:, 1] - edge0[:, 1] * edge1[:, 0] < 0
    tall = high[1] - low[1]
    palette = _palette(dice, vehicle.kind, mood.lamps)
    normals = template.normals @ (rotation / size[:, None])
    wheels_done = tall < 7
    for index in np.flatnonzero(seen):
        material = template.materials[index]
        if tall < 10 and material not in (PAINT, GLASS, LAMP_REAR, LAMP_FRONT, CARGO):
            continue
        if index >= template.body_quads and not wheels_done:
            _wheels(canvas, template, rotation, place, distance)
            wheels_done = True
        nx, ny, nz = normals[index].tolist()
        light = mood.light(nx, ny, nz)
        if mood.lamps and material in (LAMP_FRONT, LAMP_REAR):
            light = (1.0, 1.0, 1.0)
        albedo = palette[material]
        if material in (GLASS, PAINT) and ny > 0.1:
            # what leans back mirrors the sky
            mirror = (0.3 if material == GLASS else 0.12) * ny
            sky = mood.zenith
            albedo = (
                albedo[0] + (sky[0] - albedo[0]) * mirror,
                albedo[1] + (sky[1] - albedo[1]) * mirror,
                albedo[2] + (sky[2] - albedo[2]) * mirror,
            )
        canvas.fill(quads[index], canvas.tone(albedo, light, distance))
    return identity


def _wheels(canvas: Canvas, template: Shape, rotation: np.ndarray, place: np.ndarray, distance: float) -> None:
    turns = np.linspace(0, 2 * math.pi, 14, endpoint=False)
    tyre = canvas.tone((24, 24, 25), canvas.mood.light(1, 0, 0), distance)
    rim = canvas.tone((140, 142, 146), canvas.mood.light(1, 0, 0), distance)
    for centre in template.wheels:
        outward = rotation[0] * math.copysign(1.0, centre[0])
        world = centre @ rotation + place
        if (canvas.view.centre - world) @ outward <= 0:
            continue
        for radius, colour in ((template.radius, tyre), (template.radius * 0.6, rim)):
            ring = np.stack(
                [np.full(14, centre[0]), centre[1] + radius * np.sin(turns), centre[2] + radius * np.cos(turns)], 1
            )
            polygon = canvas.view.polygon(ring @ rotation + place)
            if polygon is not None:
                canvas.fill(polygon, colour)
