"""Trees, bushes and hedges: irregular outlines filled with leaf noise, and branching winter trees.

The label is the outline of the crown, gaps and all, as people draw it; what shows through a thin crown is sky or
house in the image and tree in the label. Leaves never paint outside the outline.
"""

import math

import cv2
import numpy as np

from featherseg.data.streets.camera import SHIFT, UNIT
from featherseg.data.streets.canvas import TREE, Canvas, limb, stamped
from featherseg.data.streets.chance import Dice, noise
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.things import Plan, Tree

LEAVES: dict[str, tuple[RGB, ...]] = {
    "leafy": ((70, 98, 44), (58, 84, 48), (92, 112, 52), (50, 72, 44), (104, 116, 66)),
    "autumn": ((150, 104, 44), (128, 76, 40), (166, 132, 62), (118, 96, 50)),
    "conifer": ((36, 58, 42), (44, 64, 44), (52, 70, 58)),
    "bush": ((56, 76, 42), (72, 84, 50), (88, 78, 48), (46, 60, 40)),
    "hedge": ((50, 72, 40), (62, 78, 46), (76, 72, 48)),
    "bare": ((76, 66, 58), (92, 82, 74), (58, 50, 46)),
}


def foliage(
    canvas: Canvas, outline: np.ndarray, colour: RGB, grain: float, holes: float, ragged: float, seed: int
) -> None:
    """Fill an int32 outline with leaves.

    ``grain`` is the size of a clump in pixels, ``holes`` the share that shows what is behind, ``ragged`` how far the
    edge is eaten, as a share of the outline's height.
    """
    view = canvas.view
    low = np.maximum(outline.min(0) // UNIT - 1, 0)
    high = np.minimum(outline.max(0) // UNIT + 2, (view.columns, view.rows))
    width, height = int(high[0] - low[0]), int(high[1] - low[1])
    if width <= 0 or height <= 0:
        return
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [outline - (low * UNIT).astype(np.int32)], 255, cv2.LINE_8, SHIFT)
    step = min(12.0, 9.0 / max(grain, 0.5))
    dice = Dice.at(seed)
    start_x, start_y = dice.uniform(0, 512), dice.uniform(0, 512)
    tile = noise("leaves")
    column = ((np.arange(width) + low[0]) * step + start_x).astype(np.int32) & 511
    row = ((np.arange(height) + low[1]) * step + start_y).astype(np.int32) & 511
    leaves = tile[row[:, None], column[None, :]]
    if step < 3:
        leaves = cv2.blur(leaves, (2, 2))
    span = float(outline[:, 1].max() - outline[:, 1].min()) / UNIT
    eaten = int(span * ragged)
    if eaten >= 1:
        soft = cv2.blur(mask, (2 * eaten + 1, 2 * eaten + 1))
        dense = cv2.addWeighted(soft, 1.6, leaves, 0.9, -275)
    else:
        dense = leaves
    keep = (mask > 0) & (dense > 255 * holes * 0.5)
    top = float(outline[:, 1].min()) / UNIT
    bright = 1.25 - 0.65 * np.clip((np.arange(height) + float(low[1]) - top) / max(span, 1.0), 0, 1)
    coarse = max(step * 0.16, 0.2)
    column = ((np.arange(width) + low[0]) * coarse + start_y).astype(np.int32) & 511
    row = ((np.arange(height) + low[1]) * coarse * 1.3 + start_x).astype(np.int32) & 511
    clumps = tile[row[:, None], column[None, :]]
    light = cv2.addWeighted(leaves, 0.8 / 255, clumps, 0.75 / 255, 0.2, dtype=cv2.CV_32F)
    light *= bright[:, None].astype(np.float32)
    region = canvas.image[low[1] : high[1], low[0] : high[0]]
    painted = cv2.merge([np.minimum(light * c, 255).astype(np.uint8) for c in colour])
    cv2.copyTo(painted, keep.view(np.uint8), region)


def blob(dice: Dice, x: float, y: float, radius_x: float, radius_y: float, corners: int, rough: float) -> np.ndarray:
    """An irregular, scalloped round outline ``[corners, 2]`` in metres."""
    angle = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    radius = np.full(corners, 1 - rough)
    for wave, share in ((1.0, 0.8), (1.5, 1.2), (2.5, 1.1), (4.5, 0.7), (8.5, 0.35)):
        radius += rough * share * dice.uniform(0.3, 1.0) * np.abs(np.sin(wave * angle + dice.uniform(0, 3.1)))
    return np.stack([x + radius_x * radius * np.cos(angle), y + radius_y * radius * np.sin(angle)], 1)


def _branches(dice: Dice, x: float, y: float, direction: float, length: float, depth: int, found: list) -> None:
    end_x, end_y = x + length * math.sin(direction), y + length * math.cos(direction)
    found[depth].append(((x, y), (end_x, end_y)))
    if depth + 1 == len(found):
        return
    for side in (-1, 1, 0.2) if depth < 2 else (-1, 1):
        bent = direction + side * dice.uniform(0.2, 0.65) + dice.uniform(-0.12, 0.12)
        share = dice.uniform(0.3, 1.0)
        start_x, start_y = x + (end_x - x) * share, y + (end_y - y) * share
        _branches(dice, start_x, start_y, bent * 0.93, length * dice.uniform(0.55, 0.85), depth + 1, found)


def paint_tree(canvas: Canvas, plan: Plan, tree: Tree) -> None:
    """Paint a tree or bush."""
    placed = canvas.view.billboard(plan.bend.place(tree.u, tree.s))
    if placed is None:
        return
    foot, scale = placed
    wide, tall = tree.radius * 1.4 * scale, (tree.trunk + 2.4 * tree.radius) * scale
    if not canvas.in_frame(foot[0] - wide, foot[1] - tall, foot[0] + wide, foot[1]):
        return
    dice = Dice.at(tree.seed)
    distance = canvas.view.scale / scale
    identity = canvas.register(TREE)
    light = canvas.mood.light(0, 0.5, -0.7)
    bark_value = dice.uniform(50, 86)
    bark = canvas.tone((bark_value * 1.08, bark_value, bark_value * 0.9), canvas.mood.light(0, 0, -1), distance)
    albedo = dice.pick(LEAVES[tree.kind])
    bright = dice.uniform(0.8, 1.15)
    colour = canvas.tone((albedo[0] * bright, albedo[1] * bright, albedo[2] * bright), light, distance)
    radius = tree.radius
    lean = dice.uniform(-0.25, 0.25)
    thick = max(0.16, radius * dice.uniform(0.09, 0.15))
    if tree.trunk:
        rise = tree.trunk + radius * 0.8
        trunk = stamped(np.array(limb(0, -0.05, lean, rise, thick * 1.35, thick * 0.7)), foot, scale)
        canvas.both(trunk, bark, identity)
    if tree.kind == "bush":
        outline = blob(dice, 0, radius * 0.5, radius * 1.1, radius * 0.62, 32, 0.2)
    elif tree.kind == "conifer":
        steps = np.linspace(0, 1, 9)
        edge = (1 - steps) * radius * 0.75 * (1 + 0.22 * np.sin(np.arange(9) * 2.6))
        y = tree.trunk * 0.4 + steps * radius * 2.7
        outline = np.concatenate([np.stack([edge, y], 1), np.stack([-edge, y], 1)[::-1]])
    else:
        stretch = dice.uniform(0.9, 1.25)
        outline = blob(dice, lean, tree.trunk + radius * stretch * 0.9, radius, radius * stretch, 44, 0.24)
    fixed = stamped(outline, foot, scale)
    canvas.claim(fixed, identity)
    if tree.kind == "bare":
        _paint_bare(canvas, tree, dice, foot, scale, bark, thick, lean)
        foliage(canvas, fixed, colour, 0.05 * scale, 1.16, 0.1, tree.seed)
    else:
        holes = {"leafy": 0.42, "autumn": 0.75, "conifer": 0.3, "bush": 0.1}[tree.kind] * dice.uniform(0.6, 1.2)
        foliage(canvas, fixed, colour, dice.uniform(0.07, 0.16) * scale, holes, 0.05, tree.seed)


def _paint_bare(
    canvas: Canvas, tree: Tree, dice: Dice, foot: np.ndarray, scale: float, bark: RGB, thick: float, lean: float
) -> None:
    levels: list[list] = [[] for _ in range(6 if scale > 14 else 5 if scale > 7 else 4)]
    top = tree.trunk + tree.radius * 0.5
    _branches(dice, lean * 0.6, top * 0.75, 0.0, tree.radius * 0.8, 0, levels)
    for level, segments in enumerate(levels):
        lines = stamped(np.array(segments), foot, scale)
        width = max(1, round(thick * 0.6 * 0.62**level * scale))
        share = min(1.0, max(0.45, thick * 0.6 * 0.62**level * scale))
        veil = canvas.mood.horizon
        colour = tuple(
            b * share + v * (1 - share) * 0.6 + b * (1 - share) * 0.4 for b, v in zip(bark, veil, strict=True)
        )
        cv2.polylines(canvas.image, list(lines), False, colour, width, cv2.LINE_AA, SHIFT)
