"""Label maps as pictures: class colours, overlays on the image, and a legend.

Choices worth knowing:

- Ignored pixels (255) are black in a coloured label map and leave the image untouched in an overlay.
- An id that has no colour is refused, not painted: it is a defect that a picture would hide.
- The legend is drawn with Pillow's own font: smooth, with accents, and the same on every machine.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from featherseg.data.labels import IGNORE, LabelSet

Palette = Sequence[tuple[int, int, int]]


def colourise(label: np.ndarray, palette: Palette) -> np.ndarray:
    """Paint each id in its colour: uint8 ids ``[H, W]`` to uint8 RGB ``[H, W, 3]``; ignored pixels are black.

    Raises:
        ValueError: an id has no colour in the palette; the message names the ids.
    """
    strange = label[(label >= len(palette)) & (label != IGNORE)]
    if strange.size:
        raise ValueError(f"ids {np.unique(strange).tolist()} have no colour: the palette ends at {len(palette) - 1}")
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return np.take(table, label, axis=0)


def overlay(image: np.ndarray, label: np.ndarray, palette: Palette, alpha: float = 0.5) -> np.ndarray:
    """Lay the class colours over the image.

    Args:
        image: uint8 RGB ``[H, W, 3]``.
        label: uint8 ids ``[H, W]``; where it is 255 the image stays as it is.
        palette: one RGB colour for each id.
        alpha: share of the class colour, 0..1.

    Returns:
        uint8 RGB ``[H, W, 3]``.

    Raises:
        ValueError: image and label differ in size, ``alpha`` is outside 0..1, or an id has no colour.
    """
    if image.shape != (*label.shape, 3):
        raise ValueError(f"an image of {image.shape} does not fit a label of {label.shape}")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha must lie in 0..1, not {alpha}")
    mixed = cv2.addWeighted(image, 1.0 - alpha, colourise(label, palette), alpha, 0.0)
    ignored = label == IGNORE
    if ignored.any():
        mixed[ignored] = image[ignored]
    return mixed


def legend_strip(labels: LabelSet, present_ids: Sequence[int], width: int, row_height: int = 24) -> np.ndarray:
    """Draw swatches with class names on white, in rows as wide as the picture they go under.

    Args:
        labels: the names and colours.
        present_ids: the classes to name, in this order; 255 is passed over.
        width: of the strip in pixels; a name too long for it ends in an ellipsis.
        row_height: in pixels; swatch and text scale with it.

    Returns:
        uint8 RGB ``[rows * row_height, width, 3]``; no rows when no class is present.

    Raises:
        ValueError: an id is no class of the label set.
    """
    ids = [int(i) for i in present_ids if int(i) != IGNORE]
    strange = [i for i in ids if not 0 <= i < len(labels)]
    if strange:
        raise ValueError(f"ids {strange} are no classes of {labels.name}")
    font = ImageFont.load_default(size=round(row_height * 0.58))
    margin, swatch, gap = row_height // 4, row_height // 2, row_height // 4
    room = width - 2 * margin - swatch - gap
    entries = [(labels.palette[i], _shortened(labels.classes[i], font, room)) for i in ids]

    placed: list[tuple[int, int, tuple[int, int, int], str]] = []
    left, row = margin, 0
    for colour, name in entries:
        extent = swatch + gap + round(font.getlength(name))
        if left > margin and left + extent > width - margin:
            left, row = margin, row + 1
        placed.append((left, row, colour, name))
        left += extent + 3 * gap

    picture = Image.new("RGB", (width, (row + 1) * row_height if placed else 0), "white")
    draw = ImageDraw.Draw(picture)
    for left, row, colour, name in placed:
        middle = row * row_height + row_height // 2
        box = (left, middle - swatch // 2, left + swatch, middle + swatch // 2)
        draw.rectangle(box, fill=colour, outline=(90, 90, 90))
        draw.text((left + swatch + gap, middle), name, fill=(20, 20, 20), font=font, anchor="lm")
    return np.asarray(picture, np.uint8).reshape(picture.height, width, 3)


def _shortened(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int) -> str:
    """``name``, or as much of its beginning as fits into ``room`` pixels with an ellipsis."""
    if font.getlength(name) <= room:
        return name
    while name and font.getlength(name + "…") > room:
        name = name[:-1]
    return name + "…"
