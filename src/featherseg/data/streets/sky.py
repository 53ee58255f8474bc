"""The sky, and the skyline that closes the view where the street's own things end."""

import math

import cv2
import numpy as np

from featherseg.data.streets.canvas import BUILDING, TREE, Canvas
from featherseg.data.streets.chance import NOISE_SIZE, Dice, noise
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.things import Plan


def paint_sky(canvas: Canvas, dice: Dice) -> None:
    """Fill the whole image with sky: a gradient by elevation, clouds, and the glow about the sun."""
    view, mood = canvas.view, canvas.mood
    # painted on a coarse grid: nothing in a sky is sharp, and the label takes its edge from elsewhere
    rows, columns = 72, 96
    v = (np.arange(rows, dtype=np.float32) + 0.5) / rows * view.rows - 0.5
    u = (np.arange(columns, dtype=np.float32) + 0.5) / columns * view.columns - 0.5
    across = (u - (view.columns - 1) / 2) / view.scale
    down = (v - (view.rows - 1) / 2) / view.scale
    right, below, ahead = view.axes.astype(np.float32)
    x, y, z = ((across * right[k])[None] + (down * below[k] + ahead[k])[:, None] for k in range(3))
    norm = 1 / np.sqrt(x * x + y * y + z * z)
    height = np.clip(y * norm, 0, 1)
    share = np.sqrt(np.clip(height / 0.6, 0, 1))[..., None]
    colour = np.array(mood.horizon) * (1 - share) + np.array(mood.zenith) * share
    if mood.sky != "clear" or dice.chance(0.3):
        cover = {"clear": 0.15, "broken": 0.5, "overcast": 0.8, "storm": 0.75, "dusk": 0.4}[mood.sky]
        cover *= dice.uniform(0.7, 1.2)
        sharp = {"clear": 2.0, "broken": 4.0, "overcast": 1.2, "storm": 2.2, "dusk": 3.0}[mood.sky]
        # a flat layer of cloud: far cloud is squeezed towards the horizon
        reach = dice.uniform(60, 160) / (height + 0.18)
        row = (z * norm * reach + dice.uniform(0, NOISE_SIZE)).astype(np.int64) % NOISE_SIZE
        column = (x * norm * reach + dice.uniform(0, NOISE_SIZE)).astype(np.int64) % NOISE_SIZE
        field = cv2.blur(noise("clouds")[row, column].astype(np.float32), (3, 3)) / 255
        amount = np.clip((field - (1 - cover) * 0.75) * sharp, 0, 1)
        body = np.array(mood.cloud) * (1 - 0.25 * np.clip(field - 0.55, 0, 1)[..., None])
        colour += (body - colour) * amount[..., None]
    if max(mood.sun_light) > 0.05:
        facing = np.clip((x * mood.sun[0] + y * mood.sun[1] + z * mood.sun[2]) * norm, 0, 1)
        glow = 0.55 * facing**24 + 0.6 * facing**200
        colour += (np.array([255.0, 246.0, 226.0]) - colour) * np.clip(glow, 0, 1)[..., None]
    small = np.clip(colour, 0, 255).astype(np.uint8)
    canvas.image[:] = cv2.resize(small, (view.columns, view.rows), interpolation=cv2.INTER_LINEAR)


def paint_skyline(canvas: Canvas, plan: Plan) -> None:
    """Close the horizon with far houses and trees."""
    dice = Dice.at(plan.skyline_seed)
    view, mood = canvas.view, canvas.mood
    light = mood.light(0, 0, -1)
    layers = {"houses": ("houses", "houses"), "trees": ("trees", "trees"), "mixed": ("houses", "trees")}[plan.skyline]
    for kind, distance in zip(layers, (260.0, 190.0), strict=True):
        identity = canvas.register(BUILDING if kind == "houses" else TREE)
        if kind == "houses":
            houses = 40
            heights = np.repeat([dice.uniform(5, 13) if dice.chance(0.88) else 18.0 for _ in range(houses)], 2)
            x = np.repeat(np.linspace(-420, 420, houses + 1), 2)[1:-1]
            shade = dice.uniform(90, 150)
            albedo: RGB = (shade, shade * 0.95, shade * 0.9)
        else:
            steps = 90
            x = np.linspace(-420, 420, steps)
            heights = np.array([dice.uniform(0.75, 1.1) for _ in range(steps)])
            heights *= 8 + 3 * np.sin(np.linspace(0, 9, steps) + dice.uniform(0, 6))
            albedo = (70.0, 78.0, 56.0)
        z = np.sqrt(np.maximum(distance**2 - (x * 0.5) ** 2, 900.0))
        top = np.stack([x, heights, z], 1)
        # the foot bows with the layer, so that it never floats over the ground
        foot = np.stack([x, np.full(len(x), -0.5), z], 1)[::-1]
        polygon = view.polygon(np.concatenate([top, foot]))
        if polygon is not None:
            canvas.both(
                polygon, canvas.tone(albedo, light, min(distance, 140 + 60 * math.sqrt(distance / 260))), identity
            )
