"""What a pyramid block costs against MobileNet V2's plain block, in use and in training, on one thread.

Every shape of block in the network at 224x224 is measured, K = 4 and rates 1 to 4:

- ``plain``: MobileNet V2's inverted residual as it is used and trained here;
- ``folded``: the same with its batch norms folded into the convolutions, in use only;
- ``pyramid``: the paper's block as it is used and trained here;
- ``separate``: the paper's block with four convolutions like the plain block's, on copies, and a concatenation.

In use: float32, one image. In training: forward and backward under bfloat16 autocast. Maps are channels_last. Times
are processor time, so that other work on the machine adds little; a block is measured in interleaved rounds, and what
counts is each contestant's median. The network's ratio weighs every shape by how many layers have it.

In OpenVINO, in float32 and, where the CPU has it, bfloat16, both trunks are measured whole, from pixels to layer 17, as
`featherseg export` writes them: of a block by itself the call and the way into the layout of the kernels would be a
large part. The pyramid is there with the published rates and with the capped ones.

The card lists every ratio that the task bounds, with the bound and whether it is met.
"""

import copy
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from featherseg.deploy.image_graph import ImageGraph
from featherseg.deploy.openvino import OpenVinoSession, convert, has_bf16
from featherseg.deploy.session import Precision
from featherseg.models.depthwise import DepthwiseConv2d
from featherseg.models.mobile_layers import ConvBN, LayerStyle
from featherseg.models.mobilenet_v2 import GROUPS, STEM_CHANNELS, InvertedResidual
from featherseg.models.output import SegmentationOutput
from featherseg.models.pyramid_depthwise import PyramidDepthwiseConv2d
from featherseg.models.pyramid_mobilenet import DEFAULT_RATES, PyramidBlock
from featherseg.models.registry import create_model
from featherseg.randomness import generator
from measuring import finish, interleaved, load_average, parser

STYLE = LayerStyle(eps=1e-5, momentum=0.1, relu6=True)
WHOLE = "the network's 17 layers"
BOUNDS = {"use": 1.15, "training": 1.5}
"""The most that the pyramid's layers may take of the plain ones' time."""
Shape = tuple[int, int, int, int, int]  # side of the input, channels in and out, expansion, stride


def shapes() -> Counter[Shape]:
    """The blocks of the network at 224x224, and how many layers are so."""
    found: Counter[Shape] = Counter()
    side, channels = 112, STEM_CHANNELS
    for group in GROUPS:
        for block in range(group.blocks):
            stride = group.stride if block == 0 else 1
            found[side, channels, group.out_channels, group.expansion, stride] += 1
            side, channels = side // stride, group.out_channels
    return found


def folded(block: InvertedResidual) -> nn.Module:
    """A copy of a block in ``eval()`` without batch norms."""
    made = copy.deepcopy(block)
    for layer in made.modules():
        if isinstance(layer, ConvBN):
            layer.conv, layer.bn = fuse_conv_bn_eval(layer.conv, layer.bn), nn.Identity()  # type: ignore[assignment]
    return made.eval()


def seconds(run: Callable[[], object], times: int) -> float:
    began = time.process_time()  # OpenVINO works in a thread of its own
    for _ in range(times):
        run()
    return (time.process_time() - began) / times


def repeats(run: Callable[[], object]) -> int:
    """So many that a measurement takes two milliseconds, far above the clock's grain; compiles by the way."""
    run()
    return max(1, round(2e-3 / max(seconds(run, 2), 1e-6)))


class Separate(nn.ModuleList):
    """The pyramid as a depthwise convolution a rate, on its own copy of its channels."""

    bias = None  # as a convolution has it

    def __init__(self, layer: PyramidDepthwiseConv2d) -> None:
        size = layer.in_channels // len(layer.rates)
        stride = layer.stride[0]
        super().__init__(DepthwiseConv2d(size, size, 3, stride, rate, rate, size, bias=False) for rate in layer.rates)

    def forward(self, x: Tensor) -> Tensor:
        parts = (part.contiguous(memory_format=torch.channels_last) for part in x.chunk(len(self), 1))
        return torch.cat([layer(part) for layer, part in zip(self, parts, strict=True)], 1)


def separate(block: PyramidBlock) -> PyramidBlock:
    """A copy of a block with its convolutions apart."""
    made = copy.deepcopy(block)
    made.depthwise.conv = Separate(made.depthwise.conv)  # type: ignore[assignment]
    return made


def in_use(block: nn.Module, x: Tensor) -> Callable[[], None]:
    def run() -> None:
        with torch.inference_mode():
            block(x)

    return run


def in_training(block: nn.Module, x: Tensor) -> Callable[[], None]:
    x = x.bfloat16().requires_grad_()

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            y = block(x)
        y.backward(torch.ones_like(y))

    return run


def contestants(shape: Shape, training: bool, batch: int) -> dict[str, Callable[[], None]]:
    side, channels, out, expansion, stride = shape
    torch.manual_seed(0)
    plain = InvertedResidual(channels, out, expansion, 3, stride, 1, STYLE)
    pyramid = PyramidBlock(channels, out, expansion, stride, DEFAULT_RATES, STYLE)
    for block in (plain, pyramid):
        block.train(training).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(batch if training else 1, channels, side, side).contiguous(memory_format=torch.channels_last)
    prepare = in_training if training else in_use
    made = {"plain": prepare(plain, x)}
    if not training:
        made["folded"] = in_use(folded(plain), x)
    return made | {"pyramid": prepare(pyramid, x), "separate": prepare(separate(pyramid), x)}


class TrunkAlone(nn.Module):
    """A classifier's trunk as exports take a network: float ``[B, 3, H, W]`` to the map of layer 17."""

    def __init__(self, name: str, **arguments: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        classifier = create_model(name, 1, **arguments)
        self.base, self.input_spec = classifier.base, classifier.input_spec

    def forward(self, images: Tensor) -> SegmentationOutput:
        return SegmentationOutput(self.base(images)[1])  # type: ignore[operator]


def measure_exported(precision: Precision, rounds: int) -> dict[str, float]:
    """The trunks through OpenVINO: milliseconds of the plain one, and the others' ratios to it."""
    trunks = {
        "plain": TrunkAlone("mobilenet_v2"),
        "pyramid": TrunkAlone("pyramid_mobilenet"),
        "pyramid, capped": TrunkAlone("pyramid_mobilenet", rates="capped"),
    }
    image = torch.from_numpy(generator(0, "image").integers(0, 256, (1, 224, 224, 3), dtype=np.uint8))
    timed = {}
    for name, trunk in trunks.items():
        graph = ImageGraph(trunk.eval(), size=(224, 224), batch=1)
        session = OpenVinoSession(convert(graph), threads=1, precision=precision)
        run = partial(session.run, image)
        timed[name] = partial(seconds, run, repeats(run))
    medians = {name: statistics.median(values) * 1e3 for name, values in interleaved(timed, rounds).items()}
    plain = medians.pop("plain")
    found = {f"{name} / plain": round(value / plain, 3) for name, value in medians.items()}
    found["plain_ms"] = round(plain, 3)
    print(f"OpenVINO {precision}: {found}", flush=True)
    return found


def against_bounds(figures: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every ratio that the task bounds: its value, its bound, and whether it is met."""
    found = {}
    for name, measured in figures.items():
        if not name.endswith(WHOLE):
            continue
        bound = BOUNDS["training" if name.startswith("training") else "use"]
        for ratio in ("pyramid / plain", "pyramid, capped / plain"):
            if ratio in measured:
                value = measured[ratio]
                found[f"{name}: {ratio}"] = {"ratio": value, "bound": bound, "met": value <= bound}
    return found


def measure(training: bool, rounds: int, batch: int) -> dict[str, object]:
    """Milliseconds and ratios of every shape, and of the network's 17 layers together."""
    kind = "training" if training else "use"
    figures: dict[str, object] = {}
    totals: Counter[str] = Counter()
    for shape, layers in shapes().items():
        runs = contestants(shape, training, batch)
        timed = {name: partial(seconds, run, repeats(run)) for name, run in runs.items()}
        medians = {name: statistics.median(values) * 1e3 for name, values in interleaved(timed, rounds).items()}
        for name, milliseconds in medians.items():
            totals[name] += milliseconds * layers  # type: ignore[assignment]
        side, channels, out, _, stride = shape
        name = f"{kind}, {side}x{side}, {channels} to {out}, stride {stride}"
        figures[name] = ratios(medians) | {"layers": layers, "plain_ms": round(medians["plain"], 3)}
        print(f"{name}: {figures[name]}", flush=True)
    figures[f"{kind}, {WHOLE}"] = ratios(totals) | {"plain_ms": round(totals["plain"], 3)}
    return figures


def ratios(times: dict[str, float] | Counter[str]) -> dict[str, float]:
    """The pyramid's time over each of the others'."""
    return {f"pyramid / {name}": round(times["pyramid"] / times[name], 3) for name in times if name != "pyramid"}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=25, help="interleaved rounds of a shape (default 25)")
    arguments.add_argument("--batch", type=int, default=8, help="images of a training step (default 8)")
    arguments.add_argument("--only-openvino", action="store_true", help="leave PyTorch out")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    load = load_average()
    figures: dict[str, Any] = {}
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if has_bf16() else ("fp32",)
    for precision in precisions:
        figures[f"use, OpenVINO {precision}, {WHOLE}"] = measure_exported(precision, options.rounds)
    if not options.only_openvino:
        for training in (False, True):
            figures |= measure(training, options.rounds, options.batch)
    bounds = against_bounds(figures)
    for name, said in bounds.items():
        print(f"{name} {said['ratio']}, bound {said['bound']}: {'met' if said['met'] else 'NOT met'}")
    finish(
        "cost of the pyramid block",
        f"blocks of 224x224, one thread; use: float32, 1 image; training: bf16, batch {options.batch}; OpenVINO: "
        "from pixels to layer 17; processor time, medians of interleaved rounds",
        figures,
        options.card,
        load,
        seeds=[0],
        rounds=options.rounds,
        batch=options.batch,
        threads=1,
        bounds=bounds,
    )


if __name__ == "__main__":
    main()
