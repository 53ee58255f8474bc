"""FasterSeg's published state dicts: their names, and the cells that they hold twice.

| published                                       | here                                             |
|-------------------------------------------------|--------------------------------------------------|
| stem.0.conv.{0,1}                               | stem.0.{conv,norm}                               |
| cells.LAYER-BRANCH._op._op.*                    | cells.LAYER-BRANCH.*                             |
| arms32.i.conv.{0,1}, refines32.i.conv.{0,1}     | decoders.0.{arms,refines}.i.{conv,norm}          |
| arms16.conv.{0,1}, refines16.conv.{0,1}         | decoders.1.{arms,refines}.0.{conv,norm}          |
| ffm.conv_1x1.{conv,bn}                          | ffm.{conv,norm}                                  |
| ffm.channel_attention.{1,2}.conv                | ffm.channel_attention.{0,1}, or ignored          |
| heads{8,16,32}.conv_3x3.{conv,bn}, .conv_1x1    | heads{8,16,32}.conv_3x3.{conv,norm}, .conv_1x1   |

Design choices:
- a cell that both branches share stands in the file under both branches' numbers; the two must agree to the bit, or the
  file is of another architecture and refused;
- the published files list the branch to 1/32 first, and so do the published architectures here. Where a branch to 1/32
  is missing, or comes second, the decoders are numbered by the architecture (:func:`fit`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models.fasterseg import FasterSeg
from featherseg.models.import_mobile import Source, Translation

_CONV_NORM = {"0": "conv", "1": "norm"}
_NAMES = (
    (r"^(cells\.\d+-\d+)\._op\._op\.", r"\1."),
    (r"^(arms|refines)32\.(\d)\.conv\.([01])\.", lambda m: f"decoders.to32.{m[1]}.{m[2]}.{_CONV_NORM[m[3]]}."),
    (r"^(arms|refines)16\.conv\.([01])\.", lambda m: f"decoders.to16.{m[1]}.0.{_CONV_NORM[m[2]]}."),
    (r"^stem\.0\.conv\.([01])\.", lambda m: f"stem.0.{_CONV_NORM[m[1]]}."),
    (r"^ffm\.conv_1x1\.conv\.", "ffm.conv."),
    (r"^ffm\.conv_1x1\.bn\.", "ffm.norm."),
    (r"^ffm\.channel_attention\.([12])\.conv\.", lambda m: f"ffm.channel_attention.{int(m[1]) - 1}."),
    (r"^(heads\d+)\.conv_3x3\.bn\.", r"\1.conv_3x3.norm."),
)
_EXTRAS = "ffm.channel_attention."


@dataclass(frozen=True)
class FasterSegSource(Source):
    """Published FasterSeg weights; the network's name and architecture are the person's to give."""

    def arguments_for(self, name: str) -> dict[str, Any]:
        return {}

    def advice(self) -> str:
        return (
            "Import it as fasterseg_student or fasterseg_teacher, or as fasterseg with the architecture (a JSON file) "
            "that it was trained with."
        )


SOURCE = FasterSegSource(
    "the published FasterSeg", "fasterseg", "cells.0-0._op._op.conv1.weight", layers={}, arguments={}
)


def translate(tensors: Mapping[str, Tensor]) -> Translation | None:
    """``tensors`` by our names, or None where they are not in the published layout."""
    if not any(re.match(r"cells\.\d+-\d+\._op\._op\.", name) for name in tensors):
        return None
    renamed, originals = {}, {}
    for name, tensor in tensors.items():
        ours = name
        for pattern, replacement in _NAMES:
            ours = re.sub(pattern, replacement, ours)
        if ours != name:
            originals[ours] = name
        renamed[ours] = tensor
    return Translation(SOURCE, renamed, originals, ())


def fit(translation: Translation, network: nn.Module, where: str) -> Translation:
    """A published file's tensors as ``network`` has them: decoders numbered, shared cells once, extras left out.

    What is left out is listed as the file names it; other sources' translations come back as they are.

    Raises:
        FeathersegError: the file holds two versions of a cell that the network's branches share.
    """
    if translation.source is not SOURCE or not isinstance(network, FasterSeg):
        return translation
    own = network.state_dict()
    numbers = {f"to{branch.scale}": str(i) for i, branch in enumerate(network.architecture.branches)}
    tensors, originals, left_out = {}, dict(translation.originals), []
    for name, tensor in translation.tensors.items():
        ours = re.sub(r"(?<=^decoders\.)(to\d+)", lambda m: numbers.get(m[1], m[1]), name)
        original = originals.get(name, name)
        cell = re.match(r"cells\.(\d+)-1\.(.+)", ours)
        if cell and int(cell[1]) < network.architecture.shared_layers:
            first = f"cells.{cell[1]}-0.{cell[2]}"
            if first not in translation.tensors or not torch.equal(tensor, translation.tensors[first]):
                raise FeathersegError(
                    f"{where}: {original} and {originals.get(first, first)} differ, and in this architecture both "
                    "branches share that cell. Give the architecture that the file was trained with."
                )
            left_out.append(original)
        elif ours not in own and ours.startswith(_EXTRAS):
            left_out.append(original)
        else:
            tensors[ours], originals[ours] = tensor, original
    return Translation(SOURCE, tensors, originals, tuple(left_out))
