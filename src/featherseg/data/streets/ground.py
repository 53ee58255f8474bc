"""The ground: road, pavements, verges, markings and wear.

Areas and markings are polygons in street coordinates; grain, stains and paving joints are sampled per pixel at the
point where its ray meets the ground, and fade with distance before they would alias.
"""

import math
from itertools import pairwise

import cv2
import numpy as np

from featherseg.data.streets.camera import SHIFT
from featherseg.data.streets.canvas import PAVEMENT, ROAD, TREE, Canvas
from featherseg.data.streets.chance import Dice, noise, paving, sample
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.shadows import cast_shadows
from featherseg.data.streets.things import Plan

FAR = 260.0


def ribbon(plan: Plan, u0: float, u1: float, s0: float, s1: float) -> np.ndarray:
    """The strip between two distances from the centre line as a world polygon ``[N, 3]``."""
    steps = max(2, min(26, int((s1 - s0) / 2) + 2))
    # quadratic spacing puts the corners where the picture is large
    s = s0 + (s1 - s0) * np.linspace(0, 1, steps) ** 2
    x = plan.bend.offset(s)
    near = np.stack([x + u0, np.zeros(steps), s], 1)
    far = np.stack([x + u1, np.zeros(steps), s], 1)
    return np.concatenate([near, far[::-1]])


def patches(plan: Plan, boxes: np.ndarray) -> np.ndarray:
    """Street rectangles ``[N, 4]`` (u0, u1, s0, s1) as world polygons ``[N, 4, 3]``."""
    u = boxes[:, [0, 1, 1, 0]]
    s = boxes[:, [2, 2, 3, 3]]
    return np.stack([plan.bend.offset(s) + u, np.zeros_like(u), s], -1)


def _lay(canvas: Canvas, points: np.ndarray, colour: RGB, identity: int | None = None) -> None:
    polygon = canvas.view.polygon(points)
    if polygon is not None:
        canvas.fill(polygon, colour)
        if identity is not None:
            canvas.claim(polygon, identity)


def _grey(value: float, warmth: float = 0.0) -> RGB:
    return value * (1 + warmth), value, value * (1 - warmth)


def _areas(canvas: Canvas, plan: Plan, dice: Dice, ids: dict[str, int], road: float) -> None:
    warmth = dice.uniform(-0.03, 0.04)
    tar = _grey(road, warmth)
    stone = _grey(road * dice.uniform(1.0, 1.4), dice.uniform(0.0, 0.06))
    kerb = _grey(road * dice.uniform(1.15, 1.5), 0.02)
    green = dice.uniform(0.8, 1.2)
    grass = (92 * green, 112 * green, 62 * green)
    far = FAR if plan.end is None else plan.end
    colours = {"paved": (stone, "pavement"), "grass": (grass, "grass"), "road": (tar, "road")}
    for sign, side in ((-1, plan.left), (1, plan.right)):
        colour, kind = colours[side.beyond]
        _lay(canvas, ribbon(plan, 0.0, sign * 300.0, -4.0, FAR), colour, ids[kind])
    for sign, side in ((-1, plan.left), (1, plan.right)):
        inner, outer = side.kerb + side.verge, side.kerb + side.verge + side.pavement
        if side.verge:
            _lay(canvas, ribbon(plan, sign * side.kerb, sign * (inner + 0.05), -4.0, far), grass, ids["grass"])
        if side.pavement:
            _lay(canvas, ribbon(plan, sign * inner, sign * outer, -4.0, far), stone, ids["pavement"])
        _lay(canvas, ribbon(plan, sign * side.kerb, sign * (side.kerb + 0.16), -4.0, far), kerb, ids["pavement"])
    _lay(canvas, ribbon(plan, -plan.left.kerb, plan.right.kerb, -4.0, far + 1), tar, ids["road"])
    for sign, side in ((-1, plan.left), (1, plan.right)):
        gutter = _grey(road * 0.72)
        _lay(canvas, ribbon(plan, sign * (side.kerb - 0.12), sign * side.kerb, -4.0, far), gutter)
    if plan.end is not None:
        # a level band across the whole picture: the street the T junction meets
        boxes = np.array([[-300.0, 300.0, plan.end, plan.end + 7.5], [-300.0, 300.0, plan.end + 7.5, FAR]])
        for points, (colour, kind) in zip(patches(plan, boxes), ((tar, "road"), (stone, "pavement")), strict=True):
            _lay(canvas, points, colour, ids[kind])
    if plan.crossing:
        for used, sign, side in ((plan.crossing.left, -1, plan.left), (plan.crossing.right, 1, plan.right)):
            if used:
                box = np.array([[sign * (side.kerb - 0.2), sign * 120.0, plan.crossing.start, plan.crossing.end]])
                _lay(canvas, patches(plan, box)[0], tar, ids["road"])


def _wear(canvas: Canvas, plan: Plan, dice: Dice, road: float) -> None:
    view = canvas.view
    for _ in range(dice.integer(0, 5)):
        u, s = dice.uniform(-plan.left.kerb, plan.right.kerb), dice.uniform(3.0, 35.0)
        box = np.array([[u, u + dice.uniform(0.5, 2.5), s, s + dice.uniform(0.8, 9.0)]])
        box[0, 1] = min(box[0, 1], plan.right.kerb)
        _lay(canvas, patches(plan, box)[0], _grey(road * dice.uniform(0.72, 1.18)))
    for lane in plan.lanes:
        for side in (-0.8, 0.8):
            if dice.chance(0.5):
                shade = _grey(road * dice.uniform(0.9, 1.1))
                _lay(canvas, ribbon(plan, lane + side - 0.22, lane + side + 0.22, 1.0, 90.0), shade)
    cracks = []
    for _ in range(dice.integer(0, 8)):
        u, s = dice.uniform(-plan.left.kerb, plan.right.kerb), dice.uniform(2.5, 16.0)
        direction = dice.uniform(-math.pi, math.pi)
        points = []
        for _ in range(14):
            points.append(plan.bend.place(u, max(s, 2.0)))
            direction += dice.uniform(-0.7, 0.7)
            u, s = u + 0.4 * math.sin(direction), s + 0.4 * math.cos(direction)
        pixels, depth = view.project(np.array(points))
        if depth.min() > 1.0:
            cracks.append(np.rint(pixels * (1 << SHIFT)).astype(np.int32))
    if cracks:
        cv2.polylines(canvas.image, cracks, False, _grey(road * 0.6), max(1, view.rows // 300), cv2.LINE_AA, SHIFT)
    turns = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    for _ in range(dice.integer(0, 4)):
        u, s = dice.uniform(-plan.left.kerb, plan.right.kerb), dice.uniform(3.0, 30.0)
        x, _, _ = plan.bend.place(u, s)
        ring = np.stack([x + 0.32 * np.cos(turns), np.zeros(14), s + 0.32 * np.sin(turns)], 1)
        _lay(canvas, ring, _grey(road * dice.uniform(0.5, 0.8)))


def _markings(canvas: Canvas, plan: Plan, dice: Dice) -> None:
    paint = dice.uniform(150, 235)
    white = _grey(paint, dice.uniform(-0.01, 0.04))
    width = dice.uniform(0.1, 0.17)
    borders = sorted(plan.lanes)
    far = 170.0 if plan.end is None else plan.end - 2
    boxes = []
    if dice.chance(0.9):
        for low, high in pairwise(borders):
            u = (low + high) / 2
            on, off = dice.pick(((2.0, 4.0), (4.0, 2.0), (3.0, 6.0), (1.0, 1.0)))
            if dice.chance(0.16):
                on, off = 6.0, 0.0
            s = dice.uniform(-6.0, 0.0)
            while s < far:
                boxes.append((u - width / 2, u + width / 2, s, min(s + on, far)))
                s += on + off
    if plan.zebra is not None:
        u = -plan.left.kerb + 0.2
        while u < plan.right.kerb - 0.5:
            boxes.append((u, u + 0.5, plan.zebra, plan.zebra + 2.8))
            u += 1.0
    elif dice.chance(0.15) or plan.end is not None:
        s = (plan.end or dice.uniform(8.0, 30.0)) - 0.8
        mine = [lane for lane in plan.lanes if (lane < 0) == plan.drives_left]
        if mine:
            half = plan.lane_width / 2
            boxes.append((min(mine) - half + 0.1, max(mine) + half - 0.1, s - 0.35, s))
    bay = min(plan.left.kerb, plan.right.kerb) - plan.lane_width * len(plan.lanes) / 2
    if bay > 1.5 and dice.chance(0.5):
        for k in range(12):
            s = 3.0 + 5.6 * k
            for sign, side in ((-1, plan.left), (1, plan.right)):
                ends = sorted((sign * side.kerb, sign * (side.kerb - 2.0)))
                boxes.append((ends[0], ends[1], s, s + 0.1))
    if boxes:
        canvas.fill_all(canvas.view.polygons(patches(plan, np.array(boxes))), white)
    if dice.chance(0.5):
        yellow = (paint, paint * 0.82, paint * 0.35) if dice.chance(0.55) else white
        double = dice.chance(0.5)
        for sign, side in ((-1, plan.left), (1, plan.right)):
            for inset in (0.3, 0.5) if double else (0.3,):
                u = sign * (side.kerb - inset)
                _lay(canvas, ribbon(plan, u - 0.05, u + 0.05, -2.0, far), yellow)
    if dice.chance(0.25):
        lane, s = dice.pick(plan.lanes), dice.uniform(6.0, 22.0)
        shape = np.array([(-0.08, 0), (0.08, 0), (0.08, 2), (0.45, 2), (0, 4), (-0.45, 2), (-0.08, 2)])
        x = plan.bend.offset(s)
        points = np.stack([x + lane + shape[:, 0], np.zeros(7), s + shape[:, 1]], 1)
        _lay(canvas, points, white)


def paint_ground(canvas: Canvas, plan: Plan) -> None:
    """Paint everything below the horizon; the sky must be there already."""
    view, mood = canvas.view, canvas.mood
    dice = Dice.at(plan.ground_seed)
    ids = {
        "road": canvas.register(ROAD),
        "pavement": canvas.register(PAVEMENT),
        "grass": canvas.register(TREE),
    }
    road = dice.uniform(88, 150)
    first = _first_row(canvas)
    if first >= view.rows:
        return
    x, y, z = view.rays(first)
    below = y < -1e-4
    reach = np.where(below, plan.camera.height / np.maximum(-y, 1e-4), FAR).astype(np.float32)
    canvas.identities[first:][below] = ids["pavement"]
    sky = canvas.image[first:].copy()
    canvas.image[first:] = _byte(_grey(road * 1.1))
    _areas(canvas, plan, dice, ids, road)
    _wear(canvas, plan, dice, road)
    _markings(canvas, plan, dice)
    lit = cast_shadows(canvas, plan)
    if not below.all():
        canvas.identities[first:][~below] = 0

    near = np.clip(9.0 / reach, 0.0, 1.0)
    across = x * reach + np.float32(plan.camera.lateral)
    ahead = z * reach
    gain = sample(noise("grain"), across * 40, ahead * 40) * (dice.uniform(0.0007, 0.0022) * near)
    stains = sample(noise("stains"), across * 9, ahead * 5)
    gain += stains * np.float32(dice.uniform(0.0006, 0.0022))
    surface = canvas.identities[first:]
    kind = plan.left.paving
    if kind != "asphalt":
        density = 85 if kind == "slabs" else 110
        _overlay(gain, surface == ids["pavement"], paving(kind), across, ahead, density, 0.0045 * near)
    _overlay(gain, surface == ids["grass"], noise("leaves"), across, ahead, 45, 0.004 * np.sqrt(near))
    gain += 1
    gain *= lit[first:] * np.float32(1 / 255)
    veil = 1 - np.exp(reach * np.float32(-mood.haze))
    if mood.wet:
        # a wet road mirrors the sky at grazing angles and is darker below
        gain *= np.float32(1 - 0.35 * mood.wet)
        puddles = np.clip(stains * np.float32(0.02) + np.float32(0.6), 0.15, 1)
        veil += (1 - veil) * puddles * np.clip(reach * np.float32(1 / 60), 0.04, 0.8) * np.float32(0.55 * mood.wet)
    gain *= 1 - veil
    light = mood.light(0, 1, 0)
    shown = [
        canvas.image[first:, :, k] * (gain * np.float32(light[k])) + veil * np.float32(mood.horizon[k])
        for k in range(3)
    ]
    done = cv2.convertScaleAbs(cv2.merge(shown))
    cv2.copyTo(done, below.view(np.uint8), sky)
    canvas.image[first:] = sky


def _overlay(
    gain: np.ndarray,
    where: np.ndarray,
    tile: np.ndarray,
    across: np.ndarray,
    ahead: np.ndarray,
    density: float,
    strength: np.ndarray,
) -> None:
    """Add a texture to ``gain`` on one kind of ground only."""
    places = np.flatnonzero(where)
    if len(places):
        u, s = across.ravel()[places] * np.float32(density), ahead.ravel()[places] * np.float32(density)
        gain.ravel()[places] += sample(tile, u, s) * strength.ravel()[places]


def _first_row(canvas: Canvas) -> int:
    """The first image row in which some ray points down."""
    view = canvas.view
    right, below, ahead = view.axes[:, 1]
    edges = np.array([-(view.columns - 1) / 2, (view.columns - 1) / 2]) / view.scale
    rows = np.arange(view.rows)
    down = (rows - (view.rows - 1) / 2) / view.scale
    lowest = (edges[:, None] * right).min() + below * down + ahead
    hit = np.flatnonzero(lowest < -1e-4)
    return int(hit[0]) if len(hit) else view.rows


def _byte(colour: RGB) -> tuple[int, int, int]:
    return min(255, int(colour[0])), min(255, int(colour[1])), min(255, int(colour[2]))
