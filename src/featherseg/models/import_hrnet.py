"""HRNet's published weights: three layouts of names, and two conventions of corners that no tensor shows.

| layout                                  | names                                    | align_corners                   |
|-----------------------------------------|------------------------------------------|---------------------------------|
| HRNet-Semantic-Segmentation, any branch | ``model.`` before all, ``loss.`` beside  | false; with object context true |
| ImageNet classifiers, and bare networks | as here; a classifier's own head besides | as above                        |
| NVIDIA's semantic-segmentation          | ``backbone.``, ``ocr.``, ``scale_attn.`` | false                           |

Design choices:
- a plain network's file may come from the branch HRNet-OCR, which aligns corners, and looks the same; the report says
  to give ``align_corners=true`` for it;
- NVIDIA's attention over scales is ignored: networks here see one scale;
- classifiers are encoders (start.encoder): what they have beyond the stages is ignored there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from featherseg.models.import_mobile import Source, Translation

_MARK = "stage4.0.fuse_layers.0.1.0.weight"
_OCR = (r"^(aux_head|conv3x3_ocr|ocr_distri_head|cls_head)\.", r"ocr.\1.")


@dataclass(frozen=True)
class HRNetSource(Source):
    """A layout of HRNet's weights: what to ``rename``, and which names only a training or another use ``need``."""

    rename: tuple[tuple[str, str], ...] = ()
    needless: str = "$^"
    ocr_aligns_corners: bool = True

    def arguments_for(self, name: str) -> dict[str, Any]:
        if not name.startswith("hrnet_"):
            return {}
        return {"align_corners": self.ocr_aligns_corners and name.endswith("_ocr")}

    def advice(self) -> str:
        return (
            f"{self.title} is imported as the hrnet_* network of its width, with object context (_ocr) or without. "
            "A classifier, and a plain network for one with object context, are encoders to start from (start.encoder)."
        )


SOURCES = (
    HRNetSource(
        "NVIDIA's HRNet with object context",
        "hrnet",
        f"backbone.{_MARK}",
        {},
        {},
        rename=(
            (r"^backbone\.", ""),
            (r"^ocr\.(conv3x3_ocr|aux_head)\.1\.0\.", r"ocr.\1.1."),
            (r"^ocr\.aux_head\.2\.", "ocr.aux_head.3."),
        ),
        needless=r"scale_attn\.",
        ocr_aligns_corners=False,
    ),
    HRNetSource(
        "HRNet-Semantic-Segmentation",
        "hrnet",
        f"model.{_MARK}",
        {},
        {},
        rename=((r"^model\.", ""), _OCR),
        needless=r"loss\.",
    ),
    HRNetSource("a bare HRNet", "hrnet", _MARK, {}, {}, rename=(_OCR,)),
)


def translate(tensors: Mapping[str, Tensor]) -> Translation | None:
    """``tensors`` by our names, or None where they are no HRNet's."""
    source = next((source for source in SOURCES if source.sign in tensors), None)
    if source is None:
        return None
    renamed, originals, training_state = {}, {}, []
    for name, tensor in tensors.items():
        if re.match(source.needless, name):
            training_state.append(name)
            continue
        ours = name
        for pattern, replacement in source.rename:
            ours = re.sub(pattern, replacement, ours)
        if ours != name:
            originals[ours] = name
        renamed[ours] = tensor
    notes = ()
    if not any(name.startswith("ocr.") for name in renamed):
        notes = ("weights of the repository's branch HRNet-OCR need align_corners=true, and no tensor tells",)
    return Translation(source, renamed, originals, tuple(training_state), notes)
