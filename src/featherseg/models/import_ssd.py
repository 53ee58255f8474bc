"""Weights for SSD300: torchvision's detector, and VGG-16 trained on ImageNet to start its trunk from.

| file of torchvision            | names                | input of its network                | fc6, fc7 |
|--------------------------------|----------------------|-------------------------------------|----------|
| ssd300_vgg16                   | as here              | as here                             | as here  |
| vgg16                          | features, classifier | 0..1, ImageNet's mean and deviation | linear   |
| vgg16, ``IMAGENET1K_FEATURES`` | features, classifier | as here                             | NaN      |

Design choices:
- SSD's own file needs no translation, only its number of classes: the background's score is among its scores;
- VGG's first convolution takes the change of input into its weights. The padding of a picture's border, zero in both,
  is then 0.01 deviations away from what it was;
- fc6 and fc7 become convolutions and are thinned out as Liu et al. 2016 (Sec. 3) and Chen et al. 2015 do it: every
  fourth channel, and of fc6's 7x7 places every third: a 3x3 kernel, of rate 6 on the map that is twice as dense;
- NaN there tells that the file holds the features alone, and that these see pixels as here;
- what lies behind VGG-16 (conv8 to conv11, the scale of conv4_3) starts fresh, and is told.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from featherseg.models.import_mobile import Source, Translation
from featherseg.models.mobile_layers import NORMALISATIONS
from featherseg.models.ssd import ASPECTS, SSD300

SCORES = "head.classification_head.module_list.0.weight"
_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_IN_FEATURES = 23
_CONNECTED = {"classifier.0": "backbone.extra.0.7.1", "classifier.3": "backbone.extra.0.7.3"}
_BEHIND = r"backbone\.(scale_weight$|extra\.[1-4]\.)"


@dataclass(frozen=True)
class VGGSource(Source):
    """VGG-16 of ImageNet, an encoder for SSD300 alone."""

    def arguments_for(self, name: str) -> dict[str, Any]:
        return {}

    def advice(self) -> str:
        return f"{self.title} starts a training (start.encoder) of {self.backbone}."


SOURCE = VGGSource("torchvision's VGG-16", "ssd300_vgg16", "features.28.weight", {}, {})


def ssd_classes(tensors: Mapping[str, Tensor]) -> int | None:
    """How many classes of objects SSD's ``tensors`` tell apart; None for those of another network."""
    scores = tensors.get(SCORES)
    anchors = 2 + 2 * len(ASPECTS[0])
    if scores is None or scores.dim() != 4 or scores.shape[0] % anchors or scores.shape[0] < 2 * anchors:
        return None
    return scores.shape[0] // anchors - 1


def translate(tensors: Mapping[str, Tensor]) -> Translation | None:
    """VGG-16's ``tensors`` by our names, or None where they are none of it."""
    found = {name for name in tensors if re.fullmatch(r"features\.\d+\.weight", name)}
    if found != {f"features.{place}.weight" for place in _CONVOLUTIONS}:
        return None
    renamed, originals = {}, {}
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        ours, feature = name, re.fullmatch(r"features\.(\d+)", layer)
        if feature:
            place, behind = int(feature[1]), int(feature[1]) - _IN_FEATURES
            ours = f"backbone.features.{place}.{leaf}" if behind < 0 else f"backbone.extra.0.{behind}.{leaf}"
        elif layer in _CONNECTED and not (thin := thinned(layer, tensor)).isnan().any():
            ours, tensor = f"{_CONNECTED[layer]}.{leaf}", thin
        if ours != name:
            originals[ours] = name
        renamed[ours] = tensor
    lacks, told = _BEHIND, "conv8 to conv11 and the scale of conv4_3 start fresh"
    if "backbone.extra.0.7.1.weight" not in renamed:
        lacks, told = _BEHIND + r"|backbone\.extra\.0\.7\.", "fc6, fc7, " + told
    notes = [told]
    if any(name in renamed and tensors[name].isnan().any() for name in ("classifier.0.bias", "classifier.3.bias")):
        notes.append("it sees pixels as SSD does")
    else:
        renamed |= _seeing_as_ssd(renamed)
        notes.append("its first convolution takes over the change of its input, from ImageNet's normalisation to SSD's")
    return Translation(SOURCE, renamed, originals, (), tuple(notes), lacks)


def thinned(layer: str, tensor: Tensor) -> Tensor:
    """fc6 (``classifier.0``) or fc7 (``classifier.3``) as a convolution of 1,024 channels; other shapes as they are."""
    if tensor.dim() == 1:
        return tensor[::4].clone()
    if layer == "classifier.0" and tensor.shape[1:] == (512 * 7 * 7,):
        return tensor.view(-1, 512, 7, 7)[::4, :, ::3, ::3].clone()
    return tensor[::4, ::4, None, None].clone() if layer == "classifier.3" else tensor


def _seeing_as_ssd(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first convolution, for pixels as SSD has them instead of ImageNet's normalisation."""
    names = "backbone.features.0.weight", "backbone.features.0.bias"
    if any(name not in tensors for name in names) or tensors[names[0]].shape[1:2] != (3,):
        return {}
    weight, bias = (tensors[name].double() for name in names)
    mean, deviation = (torch.tensor(values, dtype=torch.float64) for values in NORMALISATIONS["imagenet"])
    spec = SSD300.input_spec
    here, scale = (torch.tensor(values, dtype=torch.float64) for values in (spec.mean, spec.std))
    shift = ((here - mean) / deviation).view(1, 3, 1, 1)
    changed = weight * (scale / deviation).view(1, 3, 1, 1), bias + (weight * shift).sum((1, 2, 3))
    return {name: tensor.to(tensors[name].dtype) for name, tensor in zip(names, changed, strict=True)}
