"""Display colours for classes that come without."""

import colorsys

_GOLDEN_ANGLE = 0.381966


def distinct_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return ``count`` RGB colours, no two alike; neighbours in the list are far apart in hue.

    >>> distinct_colours(2)
    ((217, 54, 54), (133, 242, 165))
    """
    colours = []
    for index in range(count):
        # Three rings of brightness and saturation, since hue alone is used up after a dozen classes.
        saturation, value = ((0.75, 0.85), (0.45, 0.95), (0.85, 0.55))[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN_ANGLE % 1.0, saturation, value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours)
