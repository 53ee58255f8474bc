"""int8 for LiteRT: what ``featherseg export --to litert --int8`` does, with layers that stay in float32.

A program in which a layer stays in float32 goes to floats before it and back to integers behind it.
"""

import copy
from collections.abc import Collection
from typing import Any

from featherseg.deploy import litert, litert_file
from featherseg.deploy.litert_file import litert_module
from featherseg.deploy.quantization_images import Samples
from featherseg.deploy.quantization_judge import Progress

PACKAGES = litert.PACKAGES
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


class LiteRTQuantiser:
    """A LiteRT program calibrated once.

    Args:
        content: the bytes of the float32 file.
        images: to calibrate with, of the program's size.
        progress: told that it begins; the quantiser runs through all images by itself.

    Attributes:
        layers: the operators with weights, each called by its kind and the number of the tensor that it gives.

    Raises:
        FeathersegError: a package is missing, or the quantiser fails.
    """

    def __init__(self, content: bytes, images: Samples, progress: Progress) -> None:
        self._content = content
        model, names = litert_file.parse(content, "the model"), litert_file.operator_names()
        graph = model.subgraphs[0]
        self._tensors: dict[str, str] = {}
        for operator in graph.operators:
            kind = litert_file.name_of(model, operator, names)
            if kind in WEIGHTED:
                tensor = bytes(graph.tensors[int(operator.outputs[0])].name).decode()
                self._tensors[f"{kind} {tensor}"] = tensor
        self.layers: tuple[str, ...] = tuple(self._tensors)
        progress("calibrating", 0, len(images))
        with litert.hushed_litert("calibrating"):
            signature, takes = litert.signature_of(content)
            samples = {signature: [{takes: sample.image[None]} for sample in images]}
            self._ranges: Any = litert.extremes(content, self._recipe(()), samples)

    def _recipe(self, kept: Collection[str]) -> Any:
        managers = litert_module("ai_edge_quantizer.recipe_manager")
        names = litert_module("ai_edge_quantizer.qtyping").TFLOperationName
        manager = managers.RecipeManager()
        manager.load_quantization_recipe(litert_module("ai_edge_quantizer.recipe").static_wi8_ai8())
        for layer in kept:
            manager.add_quantization_config(
                f"^{self._tensors[layer]};", names.ALL_SUPPORTED, algorithm_key="no_quantize"
            )
        return manager.get_quantization_recipe()

    def program(self, kept: Collection[str]) -> bytes:
        """The int8 file in which the operators ``kept`` stay in float32."""
        with litert.hushed_litert("quantising"):
            quantizer = litert_module("ai_edge_quantizer.quantizer").Quantizer(
                bytearray(self._content), self._recipe(kept)
            )
            made = bytes(quantizer.quantize(copy.deepcopy(self._ranges)).quantized_model)
        return litert_file.tidied(made)


Quantiser = LiteRTQuantiser
