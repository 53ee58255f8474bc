"""A file of another runtime in the clothes of a network, for what judges networks.

Choices worth knowing:

- Its InputSpec leaves pixels as they are, since the file or its session normalises them; they travel as whole numbers
  in float32.
- A file that gives labels alone is made to say each with full certainty. Its IoU is right, its calibration says
  nothing: ``sure_of_nothing``.
"""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherseg.data.labels import IGNORE
from featherseg.deploy.exported import load_exported
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec, SegmentationOutput

_CERTAIN = 100.0


class _Pixels(InputSpec):
    """An InputSpec of pixels that stay pixels."""

    def normalise(self, images: Tensor) -> Tensor:
        return images.permute(0, 3, 1, 2).float()


class SessionNetwork(nn.Module):
    """``forward``: pixels float ``[B, 3, H, W]``, 0 to 255, to :class:`SegmentationOutput`.

    Args:
        segmenter: what :func:`featherseg.deploy.exported.load_exported` gives.
    """

    def __init__(self, segmenter: Any) -> None:
        super().__init__()
        self.session, self.classes = segmenter.session, len(segmenter.labels)
        self.sure_of_nothing = self.session.output == "labels"
        values: dict[str, Any] = asdict(getattr(segmenter, "input_spec", InputSpec()))
        if self.session.output != "logits":
            values["min_size"] = 1  # what it gives has the image's size and lacks the padding
        self.input_spec = _Pixels(**values)
        self.none = nn.Parameter(torch.zeros(0), requires_grad=False)  # says on which device its images lie

    def forward(self, pixels: Tensor) -> SegmentationOutput:
        images = pixels.permute(0, 2, 3, 1).to(torch.uint8)
        found = self.session.run(images)
        if not self.sure_of_nothing:
            return SegmentationOutput(found)
        ids = found.long()
        greatest = int(ids.max())
        if greatest == IGNORE:
            raise FeathersegError(
                f"{self.session.where}: leaves pixels without a class ({IGNORE}), which cannot be judged. Export it so "
                "that each pixel gets one."
            )
        if greatest >= self.classes:
            raise FeathersegError(
                f"{self.session.where}: gives the class {greatest}, and {self.classes} are named. Name one for each."
            )
        return SegmentationOutput(_CERTAIN * F.one_hot(ids, self.classes).permute(0, 3, 1, 2).float())


def load_for_judging(file: str, device: str, precision: str, threads: int | None, classes: Any) -> Any:
    """:func:`featherseg.deploy.exported.load_exported`, for a precision that no runtime may have.

    Raises:
        FeathersegError: as there, or the precision is fp16.
    """
    if precision not in ("fp32", "bf16"):
        raise FeathersegError(f"--precision {precision}: exported files are judged in fp32 or bf16.")
    return load_exported(file, device=device, precision=precision, threads=threads, classes=classes)  # type: ignore[arg-type]
