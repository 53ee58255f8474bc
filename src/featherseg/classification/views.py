"""How a classifier is shown an image: random crops in training, one fixed view when it is judged or used.

Choices worth knowing:

- The fixed view belongs to the weights (their metadata's ``view``), so that judging, using and the training's own
  figures all see the same pixels. Weights that say nothing are taken to want the centre of 224 of 256.
- Resizing averages where an image shrinks (INTER_AREA) and interpolates where it grows, in training as in judging: a
  network that was trained on pixels with aliasing would be judged on others.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np

from featherseg.errors import FeathersegError

ViewKind = Literal["whole", "centre"]


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 ``[H, W, 3]`` resized to ``size`` (H, W), averaged where it shrinks on both axes."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(image)
    shrinks = height >= size[0] and width >= size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), size[::-1], interpolation=how)


def random_resized_crop(
    image: np.ndarray, size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """A crop of a random share of the area and a random aspect (3:4 to 4:3), resized to ``size`` (H, W).

    Szegedy et al. 2015. An image that no crop was found in after ten tries is resized as a whole.
    """
    height, width = image.shape[:2]
    for _ in range(10):
        pixels = height * width * rng.uniform(*area)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(np.sqrt(pixels * aspect)), round(np.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            image = image[top : top + h, left : left + w]
            break
    return resize(image, size)


@dataclass(frozen=True)
class ClassificationView:
    """The view that a classifier is judged by and used with.

    Attributes:
        size: (height, width) that the network sees.
        kind: "whole" resizes the image to ``size``, whatever its aspect; "centre" resizes it with its aspect kept and
            cuts the middle out.
        share: for "centre", the cut's side as a share of the resized image's short side: 0.875 is 224 of 256.
    """

    size: tuple[int, int]
    kind: ViewKind = "whole"
    share: float = 0.875

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """uint8 RGB ``[H, W, 3]`` of any size to uint8 ``[*size, 3]``."""
        if self.kind == "whole":
            return resize(image, self.size)
        height, width = image.shape[:2]
        factor = max(round(side / self.share) / own for side, own in zip(self.size, (height, width), strict=True))
        scaled = resize(image, (max(self.size[0], round(height * factor)), max(self.size[1], round(width * factor))))
        top, left = ((own - side) // 2 for own, side in zip(scaled.shape[:2], self.size, strict=True))
        return np.ascontiguousarray(scaled[top : top + self.size[0], left : left + self.size[1]])

    def __str__(self) -> str:
        """As protocol strings have it: ``128x128`` (width x height) or ``128x128-centre0.875``."""
        height, width = self.size
        return f"{width}x{height}" + ("" if self.kind == "whole" else f"-centre{self.share:g}")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; :meth:`of_weights` reads it back."""
        return asdict(self)

    @classmethod
    def of_weights(cls, metadata: dict[str, Any], where: str) -> "ClassificationView":
        """The view that weights ask for: their ``view``, or the whole image at their recipe's crop, as trainings had it
        before there was a choice.

        Raises:
            FeathersegError: the metadata is garbled.
        """
        given = metadata.get("view")
        crop = ((metadata.get("recipe") or {}).get("augment") or {}).get("crop")
        if given is None:
            given = {"size": crop, "kind": "whole"} if crop else {"size": (224, 224), "kind": "centre"}
        try:
            height, width = (int(side) for side in given["size"])
            view = cls((height, width), given["kind"], float(given.get("share", cls.share)))
            if min(height, width) < 1 or view.kind not in get_args(ViewKind) or not 0 < view.share <= 1:
                raise ValueError(view)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise FeathersegError(
                f"{where}: the metadata garbles how images are shown to the network (view: {given!r}). Copy or export "
                "the file again."
            ) from None
        return view
