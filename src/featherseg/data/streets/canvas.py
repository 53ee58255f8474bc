"""The two pictures that are painted together: colours (antialiased) and identities (not).

Every thing that owns pixels registers an identity with a class and a surface; labels, boxes and surface textures are
looked up from the identity picture afterwards, so a label can never disagree with what was painted last.
"""

import math

import cv2
import numpy as np

from featherseg.data.labels import CAMVID11
from featherseg.data.streets.camera import SHIFT, UNIT, View
from featherseg.data.streets.mood import RGB, Mood

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(len(CAMVID11))

PLAIN, WALL = 0, 1  # surfaces: walls receive a masonry texture afterwards


class Canvas:
    """An image and its identities under construction."""

    def __init__(self, view: View, mood: Mood) -> None:
        self.view = view
        self.mood = mood
        self.image = np.zeros((view.rows, view.columns, 3), np.uint8)
        self.identities = np.zeros((view.rows, view.columns), np.int16)
        self.classes = [SKY]
        self.surfaces = [PLAIN]
        # Of identities whose whole extent is known: left, top, right and bottom, where pixel 0 has its centre at 0.
        self.extents: dict[int, tuple[float, float, float, float]] = {}

    def register(self, class_id: int, surface: int = PLAIN) -> int:
        """A new identity for a thing of this class."""
        self.classes.append(class_id)
        self.surfaces.append(surface)
        return len(self.classes) - 1

    def tone(self, albedo: RGB, light: RGB, distance: float) -> RGB:
        """The colour of a surface under ``light``, seen through ``distance`` metres of haze."""
        clear = math.exp(-self.mood.haze * distance)
        veil = 1 - clear
        fog = self.mood.horizon
        return (
            min(255.0, albedo[0] * light[0]) * clear + fog[0] * veil,
            min(255.0, albedo[1] * light[1]) * clear + fog[1] * veil,
            min(255.0, albedo[2] * light[2]) * clear + fog[2] * veil,
        )

    def fill(self, polygon: np.ndarray, colour: RGB) -> None:
        """Paint an int32 polygon ``[N, 2]`` into the image, antialiased."""
        cv2.fillPoly(self.image, [polygon], colour, cv2.LINE_AA, SHIFT)

    def fill_all(self, polygons: np.ndarray, colour: RGB) -> None:
        """Paint many polygons ``[M, N, 2]`` that do not overlap."""
        if len(polygons):
            cv2.fillPoly(self.image, list(polygons), colour, cv2.LINE_AA, SHIFT)

    def claim(self, polygon: np.ndarray, identity: int) -> None:
        """Give the pixels of a polygon to an identity."""
        cv2.fillPoly(self.identities, [polygon], identity, cv2.LINE_8, SHIFT)

    def both(self, polygon: np.ndarray, colour: RGB, identity: int) -> None:
        """Paint a polygon and claim its pixels."""
        self.fill(polygon, colour)
        self.claim(polygon, identity)

    def in_frame(self, left: float, top: float, right: float, bottom: float) -> bool:
        """Whether a pixel box touches the image."""
        return right >= 0 and bottom >= 0 and left < self.view.columns and top < self.view.rows


def stamped(points: np.ndarray, foot: np.ndarray, scale: float) -> np.ndarray:
    """Billboard points ``[..., 2]`` (metres right and up of the foot) as int32 for cv2."""
    return np.rint((points * (scale, -scale) + foot) * UNIT).astype(np.int32)


def limb(x0: float, y0: float, x1: float, y1: float, width0: float, width1: float) -> list[tuple[float, float]]:
    """A tapered bar between two points as a quadrilateral."""
    length = math.hypot(x1 - x0, y1 - y0) or 1e-6
    nx, ny = (y0 - y1) / length / 2, (x1 - x0) / length / 2
    return [
        (x0 + nx * width0, y0 + ny * width0),
        (x1 + nx * width1, y1 + ny * width1),
        (x1 - nx * width1, y1 - ny * width1),
        (x0 - nx * width0, y0 - ny * width0),
    ]


def oval(x: float, y: float, radius_x: float, radius_y: float, corners: int = 12) -> list[tuple[float, float]]:
    """An ellipse as a polygon."""
    step = 2 * math.pi / corners
    return [(x + radius_x * math.cos(k * step), y + radius_y * math.sin(k * step)) for k in range(corners)]
