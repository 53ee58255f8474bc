"""Streets: procedural street scenes with exact labels in CamVid's 11 classes, for every index and any size.

- A scene is a pure function of (seed, split, index); its layout does not depend on the size it is painted at.
- Labels and boxes come from the picture of identities, so they agree with what is painted. Labels are the same bytes
  wherever the same OpenCV rasterises them (5.0 and 4.10 differ along edges, in 0.2 % of pixels); images may differ by
  rounding between platforms.
- Vehicles of all kinds are ``car``, lawns and hedges ``tree``, walls ``fence``, traffic lights and boards ``sign``, as
  in CamVid; litter bins and the camera's own bonnet are void (255).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.dataset import Sample
from featherseg.data.labels import CAMVID11, IGNORE, LabelSet
from featherseg.data.streets.barriers import paint_barrier
from featherseg.data.streets.buildings import masonry, paint_building
from featherseg.data.streets.camera import SHIFT, View
from featherseg.data.streets.canvas import Canvas
from featherseg.data.streets.chance import Dice
from featherseg.data.streets.furniture import paint_post
from featherseg.data.streets.ground import paint_ground
from featherseg.data.streets.layout import draw_plan
from featherseg.data.streets.mood import draw_mood
from featherseg.data.streets.people import paint_cyclist, paint_walker
from featherseg.data.streets.plants import paint_tree
from featherseg.data.streets.sky import paint_sky, paint_skyline
from featherseg.data.streets.things import Barrier, Building, Cyclist, Plan, Post, Thing, Tree, Vehicle, Walker
from featherseg.data.streets.vehicles import paint_vehicle
from featherseg.data.streets.weather import expose, rain, reflect
from featherseg.errors import FeathersegError, nearest
from featherseg.randomness import generator

VERSION = 1  # raised whenever the same arguments would give another scene
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Box:
    """What is seen of one car, pedestrian or bicyclist.

    Pixels from ``x0`` to ``x1`` and ``y0`` to ``y1``, the last ones not included; ``visible`` is the share of the
    pixels it covers inside the image that nothing nearer hides.
    """

    name: str
    x0: int
    y0: int
    x1: int
    y1: int
    visible: float


@dataclass(frozen=True)
class SceneVehicle:
    """One vehicle of a scene that shows at least one pixel.

    ``kind`` is one of ``vehicles.PROFILES``; ``extent`` is left, top, right and bottom of the whole of it, hidden or
    not, in pixels from the image's left upper corner and, it may be, beyond the image; ``visible`` is the share of the
    pixels it covers inside the image that nothing nearer hides, and ``pixels`` their number.
    """

    kind: str
    extent: tuple[float, float, float, float]
    visible: float
    pixels: int


def _paint_thing(canvas: Canvas, plan: Plan, thing: Thing) -> int | None:
    """Paint one thing; the identity of those that have boxes."""
    match thing:
        case Building():
            paint_building(canvas, plan, thing)
        case Tree():
            paint_tree(canvas, plan, thing)
        case Barrier():
            paint_barrier(canvas, plan, thing)
        case Post():
            paint_post(canvas, plan, thing)
        case Vehicle():
            return paint_vehicle(canvas, plan, thing)
        case Walker():
            return paint_walker(canvas, plan, thing)
        case Cyclist():
            return paint_cyclist(canvas, plan, thing)
    return None


def _paint_bonnet(canvas: Canvas, plan: Plan) -> None:
    view = canvas.view
    x = np.linspace(-0.05, 1.05, 24)
    y = 1 - plan.bonnet * (1 - ((x - 0.5) * 1.5) ** 2)
    edge = np.stack([x * view.columns - 0.5, y * view.rows - 0.5], 1)
    corners = np.array([[view.columns * 1.05, view.rows * 1.1], [-view.columns * 0.05, view.rows * 1.1]])
    polygon = np.rint(np.concatenate([edge, corners]) * (1 << SHIFT)).astype(np.int32)
    shade = 30.0 + 40 * canvas.mood.sky_light[0]
    canvas.both(polygon, (shade, shade, shade * 1.05), canvas.register(IGNORE))


def _paint(dice: Dice, size: tuple[int, int], count: bool) -> tuple[Canvas, np.ndarray, dict[int, tuple[Thing, int]]]:
    """Paint a scene: the canvas, its labels, and the things with boxes by identity, far to near.

    With ``count``, each thing comes with how many pixels it first covered.
    """
    plan = draw_plan(dice)
    mood = draw_mood(dice)
    look = Dice.at(dice.seed())
    canvas = Canvas(View(plan.camera, size), mood)
    paint_sky(canvas, look)
    paint_ground(canvas, plan)
    paint_skyline(canvas, plan)
    things: dict[int, tuple[Thing, int]] = {}
    for thing in plan.things:
        identity = _paint_thing(canvas, plan, thing)
        if identity is not None:
            covered = int(np.count_nonzero(canvas.identities == identity)) if count else 0
            things[identity] = thing, covered
    masonry(canvas, plan)
    if plan.bonnet:
        _paint_bonnet(canvas, plan)
    labels = np.array(canvas.classes, np.uint8)[canvas.identities]
    if mood.wet:
        reflect(canvas, labels)
    if mood.rain:
        rain(canvas.image, mood.rain, look)
    canvas.image = expose(canvas.image, mood, look)
    return canvas, labels, things


class Streets:
    """``count`` scenes of one split, painted when they are read.

    Splits, and seeds, are independent streams. ``size`` is (rows, columns), from (1, 1) up.

    Raises:
        FeathersegError: unknown split, a size or count below one, an index outside the split.
    """

    labels: LabelSet = CAMVID11

    def __init__(self, split: str, count: int, size: tuple[int, int] = (240, 320), seed: int = 0) -> None:
        if split not in SPLITS:
            known = ", ".join(SPLITS)
            raise FeathersegError(f"streets: no split {split!r}{nearest(split, SPLITS)}. Choose one of {known}.")
        if count < 1:
            raise FeathersegError(f"streets: count is {count}, but a split holds at least one scene.")
        if min(size) < 1:
            raise FeathersegError(f"streets: size is {size[0]}x{size[1]} (rows x columns); both must be at least 1.")
        self.split = split
        self.size = (int(size[0]), int(size[1]))
        self.seed = seed
        self.name = f"streets/{self.size[1]}x{self.size[0]}"
        self._count = count

    def __len__(self) -> int:
        return self._count

    def _dice(self, index: int) -> Dice:
        if not 0 <= index < self._count:
            raise FeathersegError(f"streets: no scene {index} in {self.split}: it holds 0 to {self._count - 1}.")
        return Dice(generator(self.seed, f"streets-{self.split}", index).random(8192).tolist())

    def read(self, index: int) -> Sample:
        """Paint one scene: image uint8 ``[H, W, 3]`` RGB, label uint8 ``[H, W]`` with ids 0..10 or 255."""
        canvas, labels, _ = _paint(self._dice(index), self.size, count=False)
        return Sample(canvas.image, labels, self.key(index))

    def read_with_instances(self, index: int) -> tuple[Sample, np.ndarray]:
        """Paint one scene, and tell its cars, pedestrians and bicyclists apart.

        Returns:
            what :meth:`read` gives, and int16 ``[H, W]``: each thing's number from 1, far to near, and 0 elsewhere.
        """
        canvas, labels, things = _paint(self._dice(index), self.size, count=False)
        numbers = np.zeros(len(canvas.classes), np.int16)
        numbers[np.fromiter(things, np.intp, len(things))] = np.arange(1, len(things) + 1)
        return Sample(canvas.image, labels, self.key(index)), numbers[canvas.identities]

    def scene_boxes(self, index: int) -> list[Box]:
        """Boxes of the cars, pedestrians and bicyclists of a scene that show at least one pixel, far to near."""
        canvas, _, things = _paint(self._dice(index), self.size, count=True)
        boxes = []
        for identity, (_, pixels) in things.items():
            mask = (canvas.identities == identity).view(np.uint8)
            x, y, width, height = cv2.boundingRect(mask)
            if width and height:
                name = CAMVID11.classes[canvas.classes[identity]]
                boxes.append(Box(name, x, y, x + width, y + height, int(mask.sum(dtype=np.int64)) / pixels))
        return boxes

    def read_with_vehicles(self, index: int) -> tuple[Sample, list[SceneVehicle]]:
        """Paint one scene, and tell of its vehicles, far to near: what :meth:`read` gives, and one value for each."""
        canvas, labels, things = _paint(self._dice(index), self.size, count=True)
        seen = np.bincount(canvas.identities.ravel(), minlength=len(canvas.classes))
        vehicles = []
        for identity, (thing, covered) in things.items():
            if isinstance(thing, Vehicle) and seen[identity]:
                left, top, right, bottom = (value + 0.5 for value in canvas.extents[identity])
                pixels = int(seen[identity])
                vehicles.append(SceneVehicle(thing.kind, (left, top, right, bottom), pixels / covered, pixels))
        return Sample(canvas.image, labels, self.key(index)), vehicles

    def key(self, index: int) -> str:
        """The name of a scene in messages and logs, ``streets-train-000012``."""
        return f"streets-{self.split}-{index:06d}"

    def paths(self, index: int) -> tuple[Path, Path] | None:
        """None: no files stand behind a scene."""
        return None

    def fingerprint(self) -> str:
        """SHA-256 of the procedure's version and its arguments, in hex."""
        said = f"streets v{VERSION} {self.split} {self._count} {self.size[0]}x{self.size[1]} seed {self.seed}"
        return hashlib.sha256(said.encode()).hexdigest()
