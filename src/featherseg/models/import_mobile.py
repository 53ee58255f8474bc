"""Where weights of the mobile networks come from: how each source names its tensors, and what its network was like.

| source                     | networks                 | padding   | input    | norm eps | besides                   |
|----------------------------|--------------------------|-----------|----------|----------|---------------------------|
| published TensorFlow code  | shufflenet_v2, all heads | tf_same   | unit     | 1e-3     | routing tf, 24 wide       |
| slim, research/deeplab     | mobilenet_v2, all heads  | tf_same   | unit     | 1e-3     |                           |
| torchvision                | shufflenet_v2            | symmetric | imagenet | 1e-5     | routing torchvision, 58   |
| torchvision, tonylins      | mobilenet_v2             | symmetric | imagenet | 1e-5     |                           |
| lukemelas                  | efficientnet_lite0       | tf_same   | lite     | 1e-3     |                           |

Design choices:
- a source is known by a tensor's name that no other has; then every tensor is renamed through one table, and what the
  table lacks keeps its name, so that it is reported as the file has it;
- an imported network is built as its source was, by the arguments above, unless others are asked for. A published
  ShuffleNet with a head gets ``dilation="released"``, which its weights were trained with;
- a training that starts from a classifier (``start.encoder=FILE``) brings its own arguments. Where they differ from the
  source's the report says so and which to give; the wrong routing is refused, since no feature survives it and no shape
  shows it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from featherseg.errors import FeathersegError
from featherseg.models import tf_variables
from featherseg.models.efficientnet_lite import GROUPS as EFFICIENTNET_LITE0_GROUPS
from featherseg.models.mobile_layers import NORMALISATIONS, ConvBN
from featherseg.models.mobilenet_v2 import GROUPS as MOBILENET_V2_GROUPS
from featherseg.models.mobilenet_v2 import InvertedResidualClassifier, InvertedResidualTrunk
from featherseg.models.output import InputSpec
from featherseg.models.pyramid_mobilenet import ConvNorm, PyramidTrunk, rates_of_layers
from featherseg.models.shufflenet_v2 import STAGES, ShuffleNetV2Classifier, ShuffleNetV2Trunk

TENSORFLOW = {"padding": "tf_same", "normalisation": "unit", "norm_eps": 1e-3}
PYTORCH = {"padding": "symmetric", "normalisation": "imagenet", "norm_eps": 1e-5}
CLASSIFIER = ("fc.weight", "fc.bias")
IMAGENET_CLASSES = 1000
LONGEST = 60
"""Characters of a value that is told to a person; a searched architecture is no line to read."""


@dataclass(frozen=True)
class Source:
    """A family of weights files.

    Attributes:
        title: for messages.
        backbone: the classifier here that computes the same.
        sign: a tensor's name by which the family is known.
        layers: the source's layers and ours. Layers of TensorFlow are scopes.
        arguments: of the classifier.
        head_arguments: of the networks with a head on it, besides.
    """

    title: str
    backbone: str
    sign: str
    layers: dict[str, str]
    arguments: Mapping[str, Any]
    head_arguments: Mapping[str, Any] = field(default_factory=dict)

    def arguments_for(self, name: str) -> dict[str, Any]:
        """What to build the network ``name`` with so that it computes what the source does; none for a stranger."""
        if name == self.backbone:
            return dict(self.arguments)
        if not name.startswith(f"{self.backbone}_"):
            return {}
        renamed = {"backbone_eps" if key == "norm_eps" else key: value for key, value in self.arguments.items()}
        return renamed | dict(self.head_arguments)

    def advice(self) -> str:
        """Which networks, and which arguments in a recipe, the encoder goes with."""
        wanted = {key: value for key, value in self.arguments_for(f"{self.backbone}_dpc").items() if key != "dilation"}
        return (
            f"{self.title} starts a training (start.encoder) of the networks {self.backbone}_* with model.arguments: "
            f"{as_yaml(wanted)}."
        )


@dataclass(frozen=True)
class Translation:
    """Tensors of a source by our names.

    Attributes:
        source: where they come from.
        tensors: by our names; those without a place here by their own.
        originals: our name of each renamed tensor and the source's.
        training_state: names of variables that only a training needs, which are left out.
        notes: sentences for the report.
        lacks: pattern of our encoder's tensors that the source never has, and that start fresh.
    """

    source: Source
    tensors: dict[str, Tensor]
    originals: dict[str, str]
    training_state: tuple[str, ...]
    notes: tuple[str, ...] = ()
    lacks: str = "$^"

    def as_named(self, names: Iterable[str]) -> tuple[str, ...]:
        """``names``, as the file has them."""
        return tuple(self.originals.get(name, name) for name in names)


def as_yaml(value: Any) -> str:
    """Arguments as a recipe takes them; small numbers with the point that YAML asks for."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {as_yaml(each)}" for key, each in value.items()) + "}"
    small = f"{value:.1e}" if isinstance(value, float) and abs(value) < 0.1 else ""
    return small if small and float(small) == value else str(value)


def _conv_bn(ours: str, conv: str, bn: str) -> dict[str, str]:
    return {conv: f"{ours}.conv", bn: f"{ours}.bn"}


def _torchvision_shufflenet() -> dict[str, str]:
    layers = {"fc": "fc", **_conv_bn("base.conv1", "conv1.0", "conv1.1"), **_conv_bn("conv5", "conv5.0", "conv5.1")}
    for stage, (units, _) in enumerate(STAGES, start=2):
        for unit in range(units):
            ours, theirs = f"base.stage{stage}.{unit}", f"stage{stage}.{unit}"
            main = f"{ours}.main" if unit == 0 else ours
            # The activation after the depthwise convolution is missing, hence the uneven steps.
            for part, place in (("before", 0), ("depthwise", 3), ("after", 5)):
                layers |= _conv_bn(f"{main}.{part}", f"{theirs}.branch2.{place}", f"{theirs}.branch2.{place + 1}")
            if unit == 0:
                for part, place in (("depthwise", 0), ("after", 2)):
                    names = f"{theirs}.branch1.{place}", f"{theirs}.branch1.{place + 1}"
                    layers |= _conv_bn(f"{ours}.second.{part}", *names)
    return layers


def _mobilenet(nested: bool) -> dict[str, str]:
    """torchvision's layers, or tonylins', whose blocks are flat and whose last layers had two names over time."""
    layers = {"classifier.1": "fc", **_conv_bn("base.stem", "features.0.0", "features.0.1")}
    layers |= _conv_bn("head", "features.18.0", "features.18.1")
    if not nested:
        layers |= {"classifier": "fc", **_conv_bn("head", "conv.0", "conv.1")}
    for block in range(sum(group.blocks for group in MOBILENET_V2_GROUPS)):
        theirs, parts = f"features.{block + 1}.conv", ("expand", "depthwise", "project")[block == 0 :]
        for place, part in enumerate(parts):
            if not nested:
                names = f"{theirs}.{3 * place}", f"{theirs}.{3 * place + 1}"
            elif part == "project":
                names = f"{theirs}.{place}", f"{theirs}.{place + 1}"
            else:
                names = f"{theirs}.{place}.0", f"{theirs}.{place}.1"
            layers |= _conv_bn(f"base.blocks.{block}.{part}", *names)
    return layers


def _efficientnet_lite() -> dict[str, str]:
    layers = {"_fc": "fc", **_conv_bn("base.stem", "_conv_stem", "_bn0"), **_conv_bn("head", "_conv_head", "_bn1")}
    for block in range(sum(group.blocks for group in EFFICIENTNET_LITE0_GROUPS)):
        for number, part in enumerate(("expand", "depthwise", "project")):
            theirs = f"_blocks.{block}"
            layers |= _conv_bn(f"base.blocks.{block}.{part}", f"{theirs}._{part}_conv", f"{theirs}._bn{number}")
    return layers


SOURCES = (
    Source(
        "the published TensorFlow ShuffleNet V2",
        "shufflenet_v2",
        "ShuffleNetV2/Conv1/weights",
        tf_variables.shufflenet_scopes() | tf_variables.head_scopes(),
        {**TENSORFLOW, "routing": "tf", "stage2_mid_channels": 24},
        {"dilation": "released"},
    ),
    Source(
        "slim's MobileNet V2",
        "mobilenet_v2",
        "MobilenetV2/Conv/weights",
        tf_variables.mobilenet_scopes() | tf_variables.head_scopes(),
        TENSORFLOW,
    ),
    Source(
        "torchvision's shufflenet_v2_x1_0",
        "shufflenet_v2",
        "stage2.0.branch1.0.weight",
        _torchvision_shufflenet(),
        {**PYTORCH, "routing": "torchvision", "stage2_mid_channels": 58},
    ),
    Source(
        "torchvision's mobilenet_v2", "mobilenet_v2", "features.1.conv.0.0.weight", _mobilenet(nested=True), PYTORCH
    ),
    Source("tonylins' MobileNet V2", "mobilenet_v2", "features.1.conv.0.weight", _mobilenet(nested=False), PYTORCH),
    Source(
        "lukemelas' EfficientNet-Lite0",
        "efficientnet_lite0",
        "_conv_stem.weight",
        _efficientnet_lite(),
        {**TENSORFLOW, "normalisation": "lite"},
    ),
)


def translate(tensors: Mapping[str, Tensor], where: str) -> Translation | None:
    """``tensors`` by our names, or None where they are of no known source.

    Raises:
        FeathersegError: two tensors are the same one.
    """
    source = next((source for source in SOURCES if source.sign in tensors), None)
    if source is None:
        return None
    renamed: dict[str, Tensor] = {}
    originals: dict[str, str] = {}
    training_state = []
    for name, tensor in tensors.items():
        if tf_variables.TRAINING_STATE.search(name):
            training_state.append(name)
            continue
        ours = name
        if "/" in source.sign:
            ours, tensor = tf_variables.converted(name, tensor, source.layers) or (name, tensor)
        else:
            layer, _, leaf = name.rpartition(".")
            ours = f"{source.layers[layer]}.{leaf}" if layer in source.layers else name
        if ours in renamed:
            raise FeathersegError(f"{where}: {originals.get(ours, ours)} and {name} are the same. Remove one of them.")
        if ours != name:
            originals[ours] = name
        renamed[ours] = tensor
    return Translation(source, renamed, originals, tuple(training_state))


def network_of(names: Iterable[str]) -> str | None:
    """The network of the mobile family that tensors, by our names, belong to; None for others and for a bare trunk."""
    names = set(names)
    if "base.stage2.0.second.after.conv.weight" in names:
        backbone, classifier = "shufflenet_v2", "conv5.conv.weight" in names
    elif "base.blocks.15.project.conv.weight" in names:
        last = f"base.blocks.{sum(group.blocks for group in MOBILENET_V2_GROUPS) - 1}.project.conv.weight"
        backbone = "mobilenet_v2" if last in names else "efficientnet_lite0"
        if "base.stem.acti.weight" in names:
            backbone = "pyramid_mobilenet"
        classifier = "head.conv.weight" in names
    else:
        return None
    heads = {
        "dpc": "head.branches.0.depthwise.conv.weight",
        "aspp": "head.atrous.0.depthwise.conv.weight",
        "deeplab_v3": "head.atrous.0.conv.weight",
        "basic": "head.image_pooling.conv.weight",
    }
    head = next((head for head, name in heads.items() if name in names), None)
    return f"{backbone}_{head}" if head else backbone if classifier else None


def traits(network: nn.Module) -> dict[str, Any]:
    """What a network of the mobile family asks of its encoder's weights and no tensor's shape shows, by argument.

    Other networks have none. ``backbone_eps`` goes by its name in classifiers, ``norm_eps``.
    """
    trunk = getattr(network, "base", None)
    if not isinstance(trunk, ShuffleNetV2Trunk | InvertedResidualTrunk):
        return {}
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    named = (name for name, values in NORMALISATIONS.items() if values == (spec.mean, spec.std))
    stem: Any = next(layer for layer in trunk.modules() if isinstance(layer, ConvBN | ConvNorm))
    found: dict[str, Any] = {
        "normalisation": next(named, f"mean {spec.mean}, std {spec.std}"),
        "padding": "tf_same" if getattr(stem, "pads_same", False) else "symmetric",
        "norm_eps": stem.bn.eps,
    }
    if isinstance(trunk, ShuffleNetV2Trunk):
        found["routing"] = trunk.stage2.routing
    if isinstance(trunk, PyramidTrunk):
        found["rates"] = [list(rates) for rates in trunk.rates]
        if len(set(trunk.rates)) == 1:
            found["rates"] = found["rates"][0]
        elif trunk.rates == rates_of_layers("capped"):
            found["rates"] = "capped"
    return found


def differences(wanted: Mapping[str, Any], network: nn.Module, where: str) -> list[str]:
    """In what a network differs from the one that its encoder's weights are for: a sentence each, with what to give.

    Args:
        wanted: arguments of the source's classifier, or :func:`traits` of the weights' own network.
        network: that the weights are loaded into.
        where: names the weights in messages.

    Raises:
        FeathersegError: the channels are routed otherwise.
    """
    within = getattr(network, "trunk_argument", None)
    classifier = isinstance(network, ShuffleNetV2Classifier | InvertedResidualClassifier)
    sentences = []
    for argument, here in traits(network).items():
        there = wanted.get(argument, here)
        if here == there:
            continue
        if argument == "routing":
            raise FeathersegError(
                f"{where}: its channels are routed as in {there}, this network's as in {here}; it would load and "
                f"compute nothing sensible. Give routing={there}."
            )
        if within and argument != "normalisation":
            sentences.append(told_difference(argument, there, here, within))
            continue
        name = "backbone_eps" if argument == "norm_eps" and not classifier else argument
        sentences.append(told_difference(name, there, here))
    return sentences


def told_difference(argument: str, there: Any, here: Any, within: str | None = None) -> str:
    """One difference for a person: the argument in the file, here, and what to give, if that is short.

    Args:
        argument: its name.
        there, here: its values.
        within: the argument of this network that holds it, where that takes those of its trunk together.
    """
    there, here = as_yaml(there), as_yaml(here)
    if max(len(there), len(here)) > LONGEST:
        return f"the file's network has another {argument} than this one"
    give = f"{within}={{{argument}: {there}}}" if within else f"{argument}={there}"
    return f"the file's network has {argument} {there}, this one {here}: to compute the same, give {give}"
