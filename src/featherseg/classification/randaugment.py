"""RandAugment (Cubuk et al. 2020): a few operations drawn at random, all at one magnitude; and random erasing.

Choices worth knowing:

- The paper's 14 operations, its ten steps of magnitude and the ranges of AutoAugment, to which the paper refers (see
  the table of :data:`OPERATIONS`). Operations are drawn with replacement, each is applied.
- The paper does not say which way enhancements go. Here colour, contrast, brightness and sharpness move away from the
  image by the magnitude, either way at random, so that a larger magnitude is always a larger change; the published
  program runs from 0.1 to 1.9 and changes nothing in the middle.
- What comes in from outside the image is grey, 128.
- Everything is uint8 RGB and a pure function of the image and the generator.
"""

from collections.abc import Callable

import cv2
import numpy as np

MAX_MAGNITUDE = 10
GREY = (128, 128, 128)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_LEVELS = np.arange(256, dtype=np.float32)
_SOFTENING = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def _warp(image: np.ndarray, matrix: list[list[float]]) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    return cv2.warpAffine(image, np.array(matrix, np.float64), size, flags=cv2.INTER_LINEAR, borderValue=GREY)


def _looked_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _blend(other: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """``other`` at 0, the image at 1, and beyond it above."""
    return cv2.addWeighted(image, factor, other, 1 - factor, 0)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Turned about the middle, counter-clockwise."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return _warp(image, turn.tolist())


def shear_x(image: np.ndarray, amount: float) -> np.ndarray:
    """Rows slide by ``amount`` pixels for each pixel of distance from the middle."""
    return _warp(image, [[1, amount, -amount * (image.shape[0] - 1) / 2], [0, 1, 0]])


def shear_y(image: np.ndarray, amount: float) -> np.ndarray:
    """Columns slide by ``amount`` pixels for each pixel of distance from the middle."""
    return _warp(image, [[1, 0, 0], [amount, 1, -amount * (image.shape[1] - 1) / 2]])


def translate_x(image: np.ndarray, share: float) -> np.ndarray:
    """Moved to the right by a share of the width."""
    return _warp(image, [[1, 0, round(share * image.shape[1])], [0, 1, 0]])


def translate_y(image: np.ndarray, share: float) -> np.ndarray:
    """Moved down by a share of the height."""
    return _warp(image, [[1, 0, 0], [0, 1, round(share * image.shape[0])]])


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Black at 0, the image at 1."""
    return _looked_up(image, _LEVELS * factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Its mean grey at 0, the image at 1."""
    mean = round(float(np.dot(cv2.mean(image)[:3], _LUMA)))
    return _looked_up(image, mean + (_LEVELS - mean) * factor)


def colour(image: np.ndarray, factor: float) -> np.ndarray:
    """Grey at 0, the image at 1."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _blend(grey, image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Softened by a 3x3 kernel at 0, the image at 1; the outermost pixels stay."""
    soft = cv2.filter2D(image, -1, _SOFTENING)
    changed = image.copy()
    changed[1:-1, 1:-1] = _blend(soft, image, factor)[1:-1, 1:-1]
    return changed


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Only the ``bits`` highest bits of each value are kept."""
    return image & np.uint8(256 - (1 << (8 - bits)))


def solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    """Values of ``threshold`` and above are inverted."""
    inverted = np.greater_equal(_LEVELS, threshold)
    return _looked_up(image, np.where(inverted, 255 - _LEVELS, _LEVELS))


def auto_contrast(image: np.ndarray) -> np.ndarray:
    """Each channel stretched over 0..255; a channel of one value stays."""
    channels = []
    for channel in cv2.split(image):
        low, high, _, _ = cv2.minMaxLoc(channel)
        scale = 255 / (high - low) if high > low else 1.0
        channels.append(_looked_up(channel, (_LEVELS - low) * scale if high > low else _LEVELS))
    return cv2.merge(channels)


def equalize(image: np.ndarray) -> np.ndarray:
    """Each channel's histogram made even; a channel of one value stays."""
    return cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)])


_Operation = Callable[[np.ndarray, float, float], np.ndarray]

OPERATIONS: dict[str, _Operation] = {
    "identity": lambda image, strength, sign: image,
    "auto_contrast": lambda image, strength, sign: auto_contrast(image),
    "equalize": lambda image, strength, sign: equalize(image),
    "rotate": lambda image, strength, sign: rotate(image, sign * 30 * strength),
    "solarize": lambda image, strength, sign: solarize(image, 256 * (1 - strength)),
    "colour": lambda image, strength, sign: colour(image, 1 + sign * 0.9 * strength),
    "posterize": lambda image, strength, sign: posterize(image, 8 - round(4 * strength)),
    "contrast": lambda image, strength, sign: contrast(image, 1 + sign * 0.9 * strength),
    "brightness": lambda image, strength, sign: brightness(image, 1 + sign * 0.9 * strength),
    "sharpness": lambda image, strength, sign: sharpness(image, 1 + sign * 0.9 * strength),
    "shear_x": lambda image, strength, sign: shear_x(image, sign * 0.3 * strength),
    "shear_y": lambda image, strength, sign: shear_y(image, sign * 0.3 * strength),
    "translate_x": lambda image, strength, sign: translate_x(image, sign * 150 / 331 * strength),
    "translate_y": lambda image, strength, sign: translate_y(image, sign * 150 / 331 * strength),
}
"""What each operation does at a strength of 0 to 1 (the magnitude's share of 10) and a sign of -1 or 1.

AutoAugment moves by up to 150 pixels of an image of 331.
"""


def rand_augment(image: np.ndarray, operations: int, magnitude: float, rng: np.random.Generator) -> np.ndarray:
    """``operations`` operations, drawn evenly, one after the other, each at ``magnitude``.

    Args:
        image: uint8 RGB ``[H, W, 3]``.
        operations: N of the paper.
        magnitude: M of the paper, 0 (hardly a change) to 10.
        rng: where all choices come from.
    """
    names = list(OPERATIONS)
    for _ in range(operations):
        operation = OPERATIONS[names[rng.integers(len(names))]]
        sign = 1.0 if rng.random() < 0.5 else -1.0
        image = operation(np.ascontiguousarray(image), magnitude / MAX_MAGNITUDE, sign)
    return image


def random_erase(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of 2 to 33 % of the area and an aspect of 0.3 to 3.3 filled with noise (Zhong et al. 2020, RE-R).

    An image that no such rectangle was found in after ten tries stays as it is.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        pixels = height * width * rng.uniform(0.02, 0.33)
        aspect = np.exp(rng.uniform(np.log(0.3), np.log(3.3)))
        h, w = round(np.sqrt(pixels * aspect)), round(np.sqrt(pixels / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            image = image.copy()
            image[top : top + h, left : left + w] = rng.integers(0, 256, (h, w, 3), np.uint8)
            break
    return image
