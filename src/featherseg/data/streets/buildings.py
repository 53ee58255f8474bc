"""House fronts: walls, roofs, windows, doors and shops, each window a polygon on its wall.

Everything is laid out in metres along the front (a) and up (b) and projected together; a house whose storeys are
fewer than a few pixels high gets no windows. A masonry texture is laid over all walls afterwards.
"""

import math

import numpy as np

from featherseg.data.streets.camera import NEAR, UNIT
from featherseg.data.streets.canvas import BUILDING, PLAIN, SIGN, WALL, Canvas
from featherseg.data.streets.chance import Dice, noise, paving, sample
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.things import Building, Plan

ROOFS: tuple[RGB, ...] = ((92, 84, 80), (110, 74, 62), (78, 80, 86), (126, 88, 70), (66, 62, 60))
SHOPS: tuple[RGB, ...] = (
    (150, 30, 30), (30, 60, 120), (30, 90, 60), (40, 40, 44), (200, 160, 50),
    (220, 220, 214), (110, 40, 90), (60, 110, 130), (190, 90, 40),
)  # fmt: skip
FRAMES: tuple[RGB, ...] = ((225, 224, 218), (200, 196, 186), (70, 62, 56), (120, 90, 66), (48, 52, 58))


class Front:
    """A vertical rectangle of wall: from ``foot`` to ``end`` on the ground, seen in the light of its normal."""

    def __init__(self, foot: tuple[float, float, float], end: tuple[float, float, float]) -> None:
        self.foot = np.array(foot)
        along = np.array(end) - self.foot
        self.length = float(np.hypot(along[0], along[2]))
        self.along = along / max(self.length, 1e-6)
        self._listed: list[tuple[np.ndarray, RGB]] = []

    def points(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """World points of wall coordinates, ``[..., 3]``."""
        world = self.foot + a[..., None] * self.along
        world[..., 1] = b
        return world

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Wall rectangles ``[N, 4]`` (a0, a1, b0, b1) as world quadrilaterals ``[N, 4, 3]``."""
        return self.points(boxes[:, [0, 1, 1, 0]], boxes[:, [2, 2, 3, 3]])

    def add(self, boxes: np.ndarray, colour: RGB) -> None:
        """Put wall rectangles ``[N, 4]`` of one colour on the list of what :meth:`paint` paints."""
        self._listed.append((boxes, colour))

    def paint(self, canvas: Canvas) -> None:
        """Paint what was listed, in order, after projecting all of it together."""
        if not self._listed:
            return
        world = self.boxes(np.concatenate([boxes for boxes, _ in self._listed]))
        pixels, depth = canvas.view.project(world)
        fixed = np.rint(pixels * UNIT).astype(np.int32)
        kept = depth.min(1) > NEAR
        whole = bool(kept.all())
        start = 0
        for boxes, colour in self._listed:
            end = start + len(boxes)
            canvas.fill_all(fixed[start:end] if whole else fixed[start:end][kept[start:end]], colour)
            start = end
        self._listed.clear()


def _light(canvas: Canvas, front: Front) -> RGB:
    """Light on the side of the wall that is seen."""
    nx, nz = -front.along[2], front.along[0]
    towards = canvas.view.centre - front.foot
    if nx * towards[0] + nz * towards[2] < 0:
        nx, nz = -nx, -nz
    return canvas.mood.light(nx, 0.0, nz)


def _scaled(colour: RGB, factor: float) -> RGB:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _windows(canvas: Canvas, front: Front, house: Building, dice: Dice, light: RGB, distance: float) -> None:
    shops = house.use == "shop"
    bay = dice.uniform(1.7, 3.2) if house.use != "office" else dice.uniform(1.3, 2.4)
    count = max(1, round(front.length / bay))
    bay = front.length / count
    width = bay * (dice.uniform(0.32, 0.58) if house.use != "office" else dice.uniform(0.55, 0.9))
    low, high = dice.uniform(0.24, 0.36), dice.uniform(0.72, 0.88)
    if house.use == "office" and dice.chance(0.4):
        width = bay * 0.98
    first = 1 if shops or (house.use == "hall" and dice.chance(0.5)) else 0
    columns = (np.arange(count) + 0.5) * bay
    rows = np.arange(first, house.storeys) * house.storey
    if not len(rows):
        return
    a, b = (grid.ravel() for grid in np.meshgrid(columns, rows))
    glass = np.stack([a - width / 2, a + width / 2, b + low * house.storey, b + high * house.storey], 1)
    door = -1
    if first == 0 and house.use != "hall":
        door = dice.integer(0, count - 1)
        glass = np.delete(glass, door, axis=0)
    frame = canvas.tone(dice.pick(FRAMES), light, distance)
    if dice.chance(0.35):
        sills = glass.copy()
        sills[:, 0] -= 0.12
        sills[:, 1] += 0.12
        sills[:, 2] -= 0.16
        sills[:, 3] = sills[:, 2] + 0.14
        front.add(sills, frame)
    front.add(glass + np.array((-0.09, 0.09, -0.09, 0.09)), frame)
    groups = dice.many(len(glass))
    tones = (
        (dice.uniform(18, 60), (1.0, 1.04, 1.1)),
        (dice.uniform(30, 95), (1.0, 1.02, 1.06)),
        (dice.uniform(80, 190), (1.02, 1.0, 0.96)),
    )
    for (low_end, high_end), (value, tint) in zip(((0, 0.55), (0.55, 0.86), (0.86, 1.01)), tones, strict=True):
        chosen = glass[(groups >= low_end) & (groups < high_end)]
        if canvas.mood.lamps and value > 80:
            colour: RGB = (250, 214, 140)
        else:
            colour = canvas.tone((value * tint[0], value * tint[1], value * tint[2]), light, distance)
        if len(chosen):
            front.add(chosen, colour)
    if canvas.view.scale / distance * width > 9 and width < 3:
        cross = dice.uniform(0.35, 0.65)
        bars = np.concatenate([glass, glass])
        middle = (glass[:, 0] + glass[:, 1]) / 2
        height = glass[:, 2] + cross * (glass[:, 3] - glass[:, 2])
        bars[: len(glass), 0], bars[: len(glass), 1] = middle - 0.03, middle + 0.03
        bars[len(glass) :, 2], bars[len(glass) :, 3] = height - 0.03, height + 0.03
        front.add(bars, frame)
    if door >= 0:
        paint = canvas.tone(dice.pick(SHOPS), light, distance)
        middle = columns[door]
        half = min(0.5, bay * 0.4)
        front.add(np.array([[middle - half - 0.1, middle + half + 0.1, 0.0, 2.35]]), frame)
        front.add(np.array([[middle - half, middle + half, 0.0, 2.15]]), paint)


def _shop(canvas: Canvas, front: Front, house: Building, dice: Dice, light: RGB, distance: float) -> None:
    """A shop window with its fascia; a fascia with lettering is a sign, as CamVid's annotators had it."""
    fascia = dice.pick(SHOPS)
    top = min(house.storey * 0.95, 3.3)
    panel = canvas.tone(_scaled(fascia, dice.uniform(0.6, 1.0)), light, distance)
    front.add(np.array([[0.15, front.length - 0.15, 0.0, top]]), panel)
    panes = max(1, round(front.length / dice.uniform(1.6, 3.2)))
    edges = np.linspace(0.3, front.length - 0.3, panes + 1)
    glass = np.stack([edges[:-1] + 0.08, edges[1:] - 0.08, np.full(panes, 0.45), np.full(panes, top - 0.75)], 1)
    glass[dice.integer(0, panes - 1), 2] = 0.05
    inside = (248.0, 226.0, 176.0) if canvas.mood.lamps else (0.0, 0.0, 0.0)
    for pane in glass:
        value = dice.uniform(20, 85)
        colour = canvas.tone((value, value * 1.03, value * 1.06), light, distance)
        glow = 0.55 if canvas.mood.lamps else 0.0
        mixed = tuple(c + (i - c) * glow for c, i in zip(colour, inside, strict=True))
        front.add(pane[None], (mixed[0], mixed[1], mixed[2]))
        if canvas.view.scale / distance > 14:
            for _ in range(3):
                a = dice.uniform(pane[0], pane[1] - 0.2)
                goods = np.array([[a, a + 0.3, pane[2] + 0.1, pane[2] + dice.uniform(0.4, 1.3)]])
                front.add(goods, canvas.tone(_scaled(dice.pick(SHOPS), 0.6), light, distance))
    board = np.array([[0.3, front.length - 0.3, top - 0.62, top - 0.1]])
    front.add(board, canvas.tone(fascia, light, distance))
    if dice.chance(0.4):
        name = dice.uniform(0.25, 0.5) * front.length
        start = dice.uniform(0.4, front.length - name - 0.4)
        sign = np.array([[start, start + name, top - 0.6, top - 0.12]])
        front.paint(canvas)
        polygons = canvas.view.polygons(front.boxes(sign))
        if len(polygons):
            canvas.both(polygons[0], canvas.tone(fascia, light, distance), canvas.register(SIGN))
            letters = np.linspace(start + 0.15, start + name - 0.25, 9)
            kept = letters[dice.many(9) > 0.2]
            wide = name / 9 * 0.55
            boxes = np.stack([kept, kept + wide, np.full(len(kept), top - 0.5), np.full(len(kept), top - 0.22)], 1)
            ink: RGB = (235, 232, 222) if sum(fascia) < 420 else (40, 36, 40)
            front.add(boxes, canvas.tone(ink, light, distance))
    if dice.chance(0.18):
        out = np.array(_outward(canvas, front)) * 1.1
        points = front.points(np.array([0.3, front.length - 0.3] * 2), np.array([top, top, top - 0.7, top - 0.7]))
        points[2:] += out
        polygon = canvas.view.polygon(points[[0, 1, 3, 2]])
        front.paint(canvas)
        if polygon is not None:
            canvas.both(polygon, canvas.tone(fascia, light, distance), canvas.register(BUILDING))


def _outward(canvas: Canvas, front: Front) -> tuple[float, float, float]:
    nx, nz = -front.along[2], front.along[0]
    towards = canvas.view.centre - front.foot
    flip = -1.0 if nx * towards[0] + nz * towards[2] < 0 else 1.0
    return nx * flip, 0.0, nz * flip


def _roof(
    canvas: Canvas, house: Building, front: Front, back: np.ndarray, distance: float, identity: int, dice: Dice
) -> None:
    """The slope above the front, its near gable, chimneys."""
    wall = house.storeys * house.storey
    inward = back / max(1e-6, float(np.hypot(back[0], back[2])))
    run = min(house.depth / 2, house.roof * 1.4)
    albedo = dice.pick(ROOFS)
    eaves = front.points(np.array([-0.15, front.length + 0.15]), np.array([wall, wall])) - inward * 0.3
    ridge = eaves[::-1] + inward * (run + 0.3)
    ridge[:, 1] = wall + house.roof
    outward = -inward
    lift = house.roof / math.hypot(house.roof, run)
    light = canvas.mood.light(outward[0] * lift, math.sqrt(1 - lift * lift), outward[2] * lift)
    chimneys = []
    for end in (0.05, 0.95):
        if dice.chance(0.55):
            place = front.foot + front.along * (front.length * end) + inward * run
            chimneys.append(place)
    for place in chimneys:
        side = canvas.view.axes[0] * 0.45
        foot, top = wall + house.roof * 0.6, wall + house.roof + dice.uniform(0.7, 1.5)
        points = np.array([place - side, place + side, place + side, place - side])
        points[:, 1] = (foot, foot, top, top)
        polygon = canvas.view.polygon(points)
        if polygon is not None:
            canvas.both(polygon, canvas.tone(_scaled(house.colour, 0.75), light, distance), identity)
    slope = canvas.view.polygon(np.concatenate([eaves, ridge]))
    if slope is not None:
        canvas.both(slope, canvas.tone(albedo, light, distance), identity)


def paint_building(canvas: Canvas, plan: Plan, house: Building) -> None:
    """Paint one house: its near side wall, roof, front, and all that is on the front."""
    bend, view = plan.bend, canvas.view
    foot, end = bend.place(house.u0, house.s0), bend.place(house.u1, house.s1)
    level = house.s0 == house.s1
    away = (0.0, 0.0, house.depth) if level else (math.copysign(house.depth, house.u0), 0.0, 0.0)
    back = np.array(away)
    wall = house.storeys * house.storey
    front = Front(foot, end)
    reach = max(3.0, math.hypot((foot[0] + end[0]) / 2 - view.centre[0], max(0.0, house.s0)))
    identity = canvas.register(BUILDING, WALL)
    dice = Dice.at(house.seed)
    if not level:
        near = front.foot
        far = near + back
        gable = near + back / 2
        points = np.array([near, far, far, gable, near])
        points[:, 1] = (0, 0, wall, wall + house.roof, wall)
        polygon = view.polygon(points)
        if polygon is not None:
            side_light = canvas.mood.light(0.0, 0.0, -1.0)
            canvas.both(polygon, canvas.tone(_scaled(house.colour, 0.95), side_light, reach), identity)
            side = Front((near[0], 0.0, near[2]), (far[0], 0.0, far[2]))
            if house.detached and dice.chance(0.6) and view.scale / max(3.0, foot[2]) > 5:
                blank = Building(0, 0, 0, 1, 1, house.storeys, house.storey, "house", 0, house.colour, True, house.seed)
                _windows(canvas, side, blank, Dice.at(house.seed + 99), side_light, max(3.0, foot[2]))
                side.paint(canvas)
                side.paint(canvas)
    dice = Dice.at(house.seed + 7)
    face = view.polygon(front.boxes(np.array([[0.0, front.length, 0.0, wall]]))[0])
    roof_identity = canvas.register(BUILDING, PLAIN)
    if house.roof:
        _roof(canvas, house, front, back, reach, roof_identity, dice)
    if face is None:
        return
    light = _light(canvas, front)
    canvas.both(face, canvas.tone(house.colour, light, reach), identity)
    seen_width = (face[:, 0].max() - face[:, 0].min()) / UNIT
    if view.scale / reach * house.storey < 7 or seen_width < 5:
        return
    dice = Dice.at(house.seed + 31)
    if dice.chance(0.5):
        base = canvas.tone(_scaled(house.colour, dice.uniform(0.6, 0.85)), light, reach)
        front.add(np.array([[0.0, front.length, 0.0, dice.uniform(0.4, 1.0)]]), base)
    _windows(canvas, front, house, dice, light, reach)
    if house.use == "shop":
        _shop(canvas, front, house, Dice.at(house.seed + 61), light, reach)
    dice = Dice.at(house.seed + 83)
    trim = canvas.tone(_scaled(house.colour, dice.uniform(0.65, 1.25)), light, reach)
    front.add(np.array([[0.0, front.length, wall - 0.35, wall]]), trim)
    if dice.chance(0.5):
        pipe = np.array([[0.02, 0.14, 0.0, wall]])
        front.add(pipe, canvas.tone((50, 50, 52), light, reach))
    front.paint(canvas)


def masonry(canvas: Canvas, plan: Plan) -> None:
    """Lay brick courses and stains over all walls.

    Sampled where each pixel's ray meets an upright plane beside the street: near enough for every wall along it.
    """
    view = canvas.view
    walls = (np.array(canvas.surfaces, np.uint8)[canvas.identities] == WALL).ravel()
    places = np.flatnonzero(walls)
    if not len(places):
        return
    rows, columns = np.divmod(places, view.columns)
    across = ((columns - (view.columns - 1) / 2) / view.scale).astype(np.float32)
    down = ((rows - (view.rows - 1) / 2) / view.scale).astype(np.float32)
    right, below, ahead = view.axes.astype(np.float32)
    x, y, z = (across * right[k] + down * below[k] + ahead[k] for k in range(3))
    lateral = plan.camera.lateral
    planes = np.where(x < 0, np.float32(-plan.left.front - lateral), np.float32(plan.right.front - lateral))
    reach = np.clip(planes / np.where(np.abs(x) < 1e-3, np.float32(1e-3), x), 1.0, 120.0)
    along, up = z * reach, y * reach
    gain = sample(paving("bricks"), along * 60, up * 70) * (0.0022 * np.clip(8.0 / reach, 0, 1))
    gain += sample(noise("stains"), along * 12, up * 22) * np.float32(0.0011)
    gain += 1
    pixels = canvas.image.reshape(-1, 3)
    shown = np.stack([pixels[places, k] * gain for k in range(3)], 1)
    pixels[places] = np.clip(shown, 0, 255).astype(np.uint8)
