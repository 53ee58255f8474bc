"""A pinhole camera over a flat world, and the bend of the road through it.

World axes in metres: x right, y up, z forward. Places along the street are (u, s): metres beside the centre line and
metres ahead. The focal length is in image heights, so the same scene at twice the size is the same picture, finer.
Pixel (0, 0) has its centre at (0, 0); polygons are int32 in sixteenths of a pixel, as cv2 takes them (``SHIFT``).
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

SHIFT = 4
UNIT = 1 << SHIFT
NEAR = 0.3


@dataclass(frozen=True)
class Camera:
    """Where the camera stands and looks: metres and radians, ``focal`` in image heights."""

    lateral: float
    height: float
    yaw: float
    pitch: float  # positive looks up
    roll: float
    focal: float


@dataclass(frozen=True)
class Bend:
    """The street's centre line ``x = bend * s^2 / 2 + twist * s^3 / 6``."""

    bend: float
    twist: float

    def offset(self, s: np.ndarray | float) -> np.ndarray | float:
        """How far the centre line lies to the right at ``s`` metres ahead."""
        return s * s * (self.bend / 2 + self.twist / 6 * s)

    def place(self, u: float, s: float, y: float = 0.0) -> tuple[float, float, float]:
        """World point of (u, s) at height y."""
        return u + s * s * (self.bend / 2 + self.twist / 6 * s), y, s

    def heading(self, s: float) -> float:
        """Direction of the street at ``s``, radians to the right of straight ahead."""
        return math.atan(s * (self.bend + self.twist / 2 * s))


class View:
    """A camera with an image of ``size`` (rows, columns)."""

    def __init__(self, camera: Camera, size: tuple[int, int]) -> None:
        self.camera = camera
        self.rows, self.columns = size
        self.scale = camera.focal * self.rows
        self.centre = np.array([camera.lateral, camera.height, 0.0])
        cy, sy = math.cos(camera.yaw), math.sin(camera.yaw)
        cp, sp = math.cos(camera.pitch), math.sin(camera.pitch)
        cr, sr = math.cos(camera.roll), math.sin(camera.roll)
        # rows: the camera's right, down and forward axes in world coordinates
        turn = np.array([[cy, 0, -sy], [sp * sy, -cp, sp * cy], [cp * sy, sp, cp * cy]])
        roll = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
        self.axes = roll @ turn
        self._axes_columns = np.ascontiguousarray(self.axes.T)
        self._middle = np.array([(self.columns - 1) / 2, (self.rows - 1) / 2])

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points ``[..., 3]`` to pixels ``[..., 2]`` and depths ``[...]`` in metres (at least ``NEAR``)."""
        seen = (points - self.centre) @ self._axes_columns
        depth = seen[..., 2]
        return seen[..., :2] * (self.scale / np.maximum(depth, NEAR))[..., None] + self._middle, depth

    def polygon(self, points: np.ndarray) -> np.ndarray | None:
        """A world polygon ``[N, 3]`` as int32 ``[M, 2]``, cut at the near plane; None when none of it is in view."""
        seen = (points - self.centre) @ self._axes_columns
        depth = seen[:, 2]
        if depth.min() < NEAR:
            if depth.max() < NEAR:
                return None
            seen = _cut(seen)
            depth = seen[:, 2]
        fixed = np.rint(seen[:, :2] * (self.scale * UNIT / depth)[:, None] + self._middle * UNIT).astype(np.int32)
        left, top, width, height = cv2.boundingRect(fixed)
        if left > self.columns * UNIT or top > self.rows * UNIT or left + width < -UNIT or top + height < -UNIT:
            return None
        return fixed

    def polygons(self, points: np.ndarray) -> np.ndarray:
        """Many world polygons ``[N, Q, 3]`` as int32 ``[M, Q, 2]``; those that reach behind the camera are left out."""
        pixels, depth = self.project(points)
        kept = (depth > NEAR).all(1)
        return np.rint(pixels[kept] * UNIT).astype(np.int32)

    def billboard(self, place: tuple[float, float, float]) -> tuple[np.ndarray, float] | None:
        """Foot pixel ``[2]`` and pixels per metre of an upright thing at ``place``; None behind the camera."""
        pixel, depth = self.project(np.array(place))
        if depth < 2 * NEAR:
            return None
        return pixel, self.scale / float(depth)

    def rays(self, first_row: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World direction (x, y, z) of every pixel from ``first_row`` down, float32 ``[rows, columns]`` each.

        The step along the camera's forward axis is 1, so a multiple of the direction is a depth.
        """
        across = ((np.arange(self.columns) - self._middle[0]) / self.scale).astype(np.float32)
        down = ((np.arange(first_row, self.rows) - self._middle[1]) / self.scale).astype(np.float32)
        right, below, ahead = self.axes.astype(np.float32)
        x, y, z = ((across * right[axis])[None, :] + (down * below[axis] + ahead[axis])[:, None] for axis in range(3))
        return x, y, z


def _cut(points: np.ndarray) -> np.ndarray:
    """The part of a polygon ``[N, 3]`` in camera axes with depth >= NEAR (Sutherland and Hodgman 1974)."""
    kept = []
    previous = points[-1]
    for point in points:
        if (previous[2] >= NEAR) != (point[2] >= NEAR):
            share = (NEAR - previous[2]) / (point[2] - previous[2])
            kept.append(previous + share * (point - previous))
        if point[2] >= NEAR:
            kept.append(point)
        previous = point
    return np.array(kept)
