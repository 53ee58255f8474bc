"""The tutor: the FasterSeg student with a path at 1/4 of the image, heavier and more accurate, that teaches the other.

Yang et al., ISVC 2021, Sec. 3.1: two conv_2x layers behind the stem's map at 1/4; the fused map at 1/8 is enlarged to
1/4, refined and added. With 19 classes 3,865,267 parameters (4,796,313 with the heads that train alone) and 100.487 G
conv MACs at 1024x2048; the paper prints 3.9 M and 100 G.

Design choices:
- the paper gives neither widths nor the kernel of the refining. 64 and 128 channels and 3x3 are the only reading among
  those with an additive merge that gives both printed figures;
- the head stands at 1/4 and replaces the one at 1/8; those at 1/16 and 1/32 are the student's;
- nothing follows the sum but the head;
- ``quarter_path`` takes more layers than two, which the paper names as future work.
"""

from typing import Any

from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg, Features, SegmentationHead, find_architecture, initialise
from featherseg.models.fasterseg_architecture import LARGEST_WIDTH, Architecture
from featherseg.models.fasterseg_cells import ConvNorm, Resize, build_operator, resize_map
from featherseg.models.output import InputSpec
from featherseg.models.registry import register_model

QUARTER_PATH = (64, 128)


class FasterSegTutor(FasterSeg):
    """``forward``: float ``[B, 3, H, W]`` to :class:`SegmentationOutput` with logits at stride 4.

    Its first tensors are named as the student's, so that the student's weights start it (carry the backbone).
    """

    logits_prefixes = ("heads4.conv_1x1.", "heads16.conv_1x1.", "heads32.conv_1x1.")

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int = 19,
        *,
        resize: Resize = "bilinear",
        quarter_path: tuple[int, ...] = QUARTER_PATH,
    ) -> None:
        super().__init__(architecture, num_classes, resize=resize)
        del self.heads8
        layers, channels = [], architecture.stem[1]
        for width in quarter_path:
            layers.append(build_operator("conv_2x", channels, width))
            channels = width
        self.path4 = nn.Sequential(*layers)
        self.refine4 = ConvNorm(self.fused_channels, channels, 3)
        self.heads4 = SegmentationHead(channels, num_classes)
        self.input_spec = InputSpec(min_size=self.input_spec.min_size, output_stride=4)
        initialise(self)

    @property
    def distillation_paths(self) -> dict[str, str]:
        """Maps that a distillation may compare, see distillation/paths.py."""
        return {"1/4": "heads4.input"} | super().distillation_paths

    def prediction_map(self, features: Features) -> Tensor:
        quarter = self.path4(features.stem_4)
        return quarter + self.refine4(resize_map(features.fused, quarter.shape[-2:], self.resize))

    def classify(self, prediction_map: Tensor) -> Tensor:
        return self.heads4(prediction_map)


@register_model("fasterseg_tutor")
def fasterseg_tutor(
    num_classes: int = 19,
    *,
    architecture: Any = "fasterseg_student",
    resize: Resize = "bilinear",
    quarter_path: Any = QUARTER_PATH,
) -> FasterSegTutor:
    """The tutor of a student.

    Args:
        num_classes: channels of the logits.
        architecture: of the student: a JSON file, what such a file holds, or the name of a published one.
        resize: as of ``fasterseg``.
        quarter_path: channels of the path's layers at 1/4, one or more; the head works on the last.
    """
    widths = quarter_path if isinstance(quarter_path, list | tuple) else ()
    if not 1 <= len(widths) <= 64 or not all(type(w) is int and 1 <= w <= LARGEST_WIDTH for w in widths):
        raise FeathersegError(
            f"fasterseg_tutor: quarter_path is {quarter_path!r}; it must be a list of widths, as in [64, 128]."
        )
    found = find_architecture(architecture)
    network = FasterSegTutor(found, num_classes, resize=resize, quarter_path=tuple(widths))
    network.travelling_arguments = {"architecture": found.to_dict(), "quarter_path": list(widths)}  # type: ignore[assignment]
    return network
