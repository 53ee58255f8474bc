"""What stands between the street and the picture: reflections, rain, and the camera's own faults.

None of it moves a label. All of it works on uint8 images ``[H, W, 3]`` in RGB; lengths are in shares of the image
height, so that a scene at twice the size looks the same.
"""

import math
from functools import lru_cache

import cv2
import numpy as np

from featherseg.data.streets.canvas import ROAD, Canvas
from featherseg.data.streets.chance import NOISE_SIZE, Dice, noise, sensor_noise
from featherseg.data.streets.mood import Mood


def reflect(canvas: Canvas, labels: np.ndarray) -> None:
    """Mirror the scene in a wet road, smeared upright as rough water does."""
    view = canvas.view
    horizon = (view.rows - 1) / 2 + view.scale * math.tan(view.camera.pitch)
    first = max(0, math.ceil(horizon))
    depth = view.rows - first
    if depth < 2 or first < 2:
        return
    rows = np.clip(2 * horizon - np.arange(first, view.rows), 0, view.rows - 1).astype(np.int32)
    smear = max(1, view.rows // 12)
    mirrored = cv2.blur(canvas.image[rows], (max(1, view.rows // 120), smear))
    share = canvas.mood.wet * 0.42 * np.linspace(1.0, 0.35, depth, dtype=np.float32)
    weight = np.where(labels[first:] == ROAD, share[:, None], np.float32(0))[..., None]
    region = canvas.image[first:].astype(np.float32)
    canvas.image[first:] = (region + (mirrored - region) * weight).astype(np.uint8)


def rain(image: np.ndarray, strength: float, dice: Dice) -> None:
    """Draw streaks of rain into the image."""
    rows, columns = image.shape[:2]
    count = int(260 * strength)
    slant = dice.uniform(-0.25, 0.25)
    start = np.stack([dice.many(count) * columns, dice.many(count) * rows], 1)
    length = (0.015 + 0.04 * dice.many(count)) * rows
    streaks = np.stack([start, start + np.stack([slant * length, length], 1)], 1)
    veil = image.copy()
    cv2.polylines(veil, list(np.rint(streaks * 16).astype(np.int32)), False, (205, 208, 212), 1, cv2.LINE_AA, 4)
    cv2.addWeighted(veil, 0.4, image, 0.6, 0, image)


@lru_cache(maxsize=8)
def _falloff(rows: int, columns: int) -> np.ndarray:
    """Squared distance from the middle, 1 in the corners, float32 ``[rows, columns]``."""
    y = np.linspace(-1, 1, rows, dtype=np.float32) if rows > 1 else np.zeros(1, np.float32)
    x = np.linspace(-1, 1, columns, dtype=np.float32) if columns > 1 else np.zeros(1, np.float32)
    return (y[:, None] ** 2 + x[None] ** 2) / 2


@lru_cache(maxsize=8)
def _noise_field(rows: int, columns: int) -> np.ndarray:
    """Sensor noise with room to be cropped at any offset below 512."""
    times = (math.ceil(rows / NOISE_SIZE) + 1, math.ceil(columns / NOISE_SIZE) + 1, 1)
    return np.tile(sensor_noise(), times)


def _curve(mood: Mood, channel: int) -> np.ndarray:
    """Exposure, colour temperature and contrast of one channel as a table of 256 levels."""
    level = np.arange(256, dtype=np.float64) / 255 * mood.exposure * mood.tint[channel]
    level = np.where(level > 0.8, 0.8 + 0.32 * (1 - np.exp(-(level - 0.8) / 0.2)), level)
    level = 0.4 * np.power(np.clip(level, 0, 1.2) / 0.4, mood.contrast)
    return np.clip(level * 255, 0, 255).astype(np.uint8)


def expose(image: np.ndarray, mood: Mood, dice: Dice) -> np.ndarray:
    """What the camera makes of the light that reaches it."""
    rows, columns = image.shape[:2]
    if mood.motion:
        length = max(1, round(mood.motion / 1000 * rows))
        if length > 1:
            kernel = (1, length) if dice.chance(0.3) else (length, 1)
            image = cv2.blur(image, kernel)
    if mood.defocus:
        sigma = mood.defocus / 1000 * rows
        if sigma > 0.25:
            image = cv2.GaussianBlur(image, (0, 0), sigma)
    if abs(mood.saturation - 1) > 0.03:
        keep = mood.saturation
        grey = np.array([0.299, 0.587, 0.114]) * (1 - keep)
        image = cv2.transform(image, np.eye(3) * keep + grey)
    tables = np.stack([_curve(mood, channel) for channel in range(3)], -1)[None]
    image = cv2.LUT(image, tables)
    mottle = 1 - np.float32(mood.vignette) * _falloff(rows, columns)
    offset = dice.integer(0, 300), dice.integer(0, 300)
    soft = cv2.resize(noise("stains")[offset[0] : offset[0] + 90, offset[1] : offset[1] + 120], (columns, rows))
    mottle += (soft.astype(np.float32) - 128) * np.float32(0.0005)
    top, left = dice.integer(0, NOISE_SIZE - 1), dice.integer(0, NOISE_SIZE - 1)
    grain = _noise_field(rows, columns)[top : top + rows, left : left + columns]
    image = cv2.multiply(image, cv2.merge((mottle, mottle, mottle)), dtype=cv2.CV_8U)
    image = cv2.addWeighted(image, 1.0, grain, mood.grain / 32, -128 * mood.grain / 32)
    if mood.compression:
        done, packed = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, mood.compression))
        unpacked = cv2.imdecode(packed, cv2.IMREAD_COLOR) if done else None
        if unpacked is not None:
            image = unpacked
    return image
