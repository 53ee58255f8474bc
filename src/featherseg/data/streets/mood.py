"""Light and weather of a scene: sun, sky, colour temperature, haze, rain, and what the camera adds.

Surfaces are lit by a constant from the sky plus a sun term by their normal. The brightness of things was set beside
CamVid's train split, whose skies are mostly blown out (mean 226-240) over streets in their own shadow (mean 40-95).
"""

import math
from dataclasses import dataclass

from featherseg.data.streets.chance import Dice

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Mood:
    """All that is the same for a whole scene."""

    sky: str  # "clear", "broken", "overcast", "storm", "dusk"
    sun: tuple[float, float, float]  # unit vector towards the sun
    sun_light: RGB  # 0 when the sun is hidden
    sky_light: RGB
    zenith: RGB
    horizon: RGB
    cloud: RGB
    haze: float  # extinction per metre
    rain: float  # 0..1
    wet: float  # 0..1
    lamps: bool  # headlights and windows are lit
    exposure: float
    contrast: float
    tint: RGB
    saturation: float
    defocus: float  # standard deviation in thousandths of the image height
    motion: float  # length in thousandths of the image height
    grain: float  # grey levels of noise at mid grey
    vignette: float
    compression: int  # JPEG quality, 0 for none

    def light(self, nx: float, ny: float, nz: float) -> RGB:
        """Light that falls on a surface with this unit normal, 1 for full."""
        sun = max(0.0, nx * self.sun[0] + ny * self.sun[1] + nz * self.sun[2])
        open_sky = 0.72 + 0.28 * ny
        return (
            self.sky_light[0] * open_sky + self.sun_light[0] * sun,
            self.sky_light[1] * open_sky + self.sun_light[1] * sun,
            self.sky_light[2] * open_sky + self.sun_light[2] * sun,
        )


def _scaled(colour: RGB, factor: float) -> RGB:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def draw_mood(dice: Dice) -> Mood:
    """Draw the light and weather of a scene."""
    roll = dice.random()
    if roll < 0.26:
        sky = "clear"
    elif roll < 0.48:
        sky = "broken"
    elif roll < 0.78:
        sky = "overcast"
    elif roll < 0.88:
        sky = "storm"
    else:
        sky = "dusk"
    azimuth, elevation = dice.uniform(-math.pi, math.pi), dice.uniform(0.22, 1.0)
    if sky == "dusk":
        elevation = dice.uniform(0.08, 0.25)
    flat = math.cos(elevation)
    sun = (flat * math.sin(azimuth), math.sin(elevation), flat * math.cos(azimuth))
    glow = dice.uniform(0.82, 1.0)
    white = dice.uniform(222, 262)
    if sky == "clear":
        warm = dice.uniform(0.0, 0.16)
        sun_light = _scaled((1.0, 0.97 - warm * 0.5, 0.92 - warm), dice.uniform(0.38, 0.62))
        sky_light = _scaled((0.92, 0.98, 1.08), dice.uniform(0.32, 0.46))
        zenith = (dice.uniform(70, 165), dice.uniform(125, 195), dice.uniform(195, 245))
        horizon = (white * 0.93, white * 0.97, white)
        cloud = horizon
    elif sky == "broken":
        sun_light = _scaled((1.0, 0.97, 0.92), dice.uniform(0.1, 0.5))
        sky_light = _scaled((0.97, 1.0, 1.04), dice.uniform(0.38, 0.52))
        zenith = (dice.uniform(105, 185), dice.uniform(145, 205), dice.uniform(190, 240))
        horizon = (white * 0.95, white * 0.97, white)
        cloud = (white, white, white)
    elif sky == "overcast":
        sun_light = (0.0, 0.0, 0.0)
        sky_light = _scaled((1.0, 1.0, 1.02), dice.uniform(0.46, 0.66))
        zenith = (white, white, white * 1.01)
        horizon = (white * 1.04, white * 1.04, white * 1.04)
        cloud = _scaled(zenith, dice.uniform(0.86, 1.0))
    elif sky == "storm":
        sun_light = (0.0, 0.0, 0.0)
        sky_light = _scaled((0.98, 1.0, 1.05), dice.uniform(0.2, 0.42))
        grey = dice.uniform(120, 190)
        zenith = (grey * 0.94, grey * 0.97, grey)
        horizon = _scaled((1.0, 1.0, 0.97), min(250.0, grey * 1.35))
        cloud = _scaled(zenith, dice.uniform(0.5, 0.75))
    else:
        sun_light = _scaled((1.0, 0.72, 0.45), dice.uniform(0.0, 0.45))
        sky_light = _scaled((0.95, 0.94, 1.05), dice.uniform(0.18, 0.34))
        zenith = (dice.uniform(60, 130), dice.uniform(80, 140), dice.uniform(120, 190))
        horizon = (dice.uniform(215, 255), dice.uniform(150, 215), dice.uniform(95, 190))
        cloud = (dice.uniform(120, 220), dice.uniform(90, 160), dice.uniform(100, 150))
    rain = dice.uniform(0.3, 1.0) if sky in ("overcast", "storm") and dice.chance(0.2) else 0.0
    wet = dice.uniform(0.4, 1.0) if rain else (dice.uniform(0.1, 0.8) if dice.chance(0.12) else 0.0)
    haze = dice.uniform(0.0006, 0.0035) if dice.chance(0.8) else dice.uniform(0.005, 0.016)
    return Mood(
        sky=sky,
        sun=sun,
        sun_light=sun_light,
        sky_light=sky_light,
        zenith=zenith,
        horizon=horizon,
        cloud=cloud,
        haze=haze * (1.6 if rain else 1.0),
        rain=rain,
        wet=wet,
        lamps=sky == "dusk" or bool(rain) or dice.chance(0.12),
        exposure=glow * (dice.uniform(1.15, 2.1) if dice.chance(0.85) else dice.uniform(0.7, 1.15)),
        contrast=dice.uniform(0.85, 1.25),
        tint=(dice.uniform(0.93, 1.07), dice.uniform(0.97, 1.03), dice.uniform(0.92, 1.08)),
        saturation=dice.uniform(0.45, 1.15),
        defocus=dice.uniform(0.8, 2.6) if dice.chance(0.6) else 0.0,
        motion=dice.uniform(3.0, 14.0) if dice.chance(0.14) else 0.0,
        grain=dice.uniform(0.8, 4.0) if dice.chance(0.8) else dice.uniform(4.0, 10.0),
        vignette=dice.uniform(0.0, 0.3),
        compression=dice.integer(45, 92) if dice.chance(0.3) else 0,
    )
