"""The mobile DeepLab networks: parameters by part, heads against a reference, rates, arguments, decoder, export."""

import pytest
import torch
from synthetic_weights import synthetic_images, synthetic_tensor
from torch import nn
from torch.nn import functional as F

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError
from featherseg.models.deeplab_heads import build_head
from featherseg.models.mobile_layers import LayerStyle
from featherseg.models.registry import create_model
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights

# Of the published TensorFlow code, 19 classes: parameters, and batch norms (58 and 66 in the ShuffleNets).
PUBLISHED = {
    "shufflenet_v2_basic": (1_148_249, 58),
    "shufflenet_v2_dpc": (1_506_121, 66),
    "mobilenet_v2_basic": (2_113_043, None),
    "mobilenet_v2_dpc": (2_506_195, None),
}


def meta(name, **arguments):
    with torch.device("meta"):
        return create_model(name, **arguments)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def filled(network):
    """``network`` in float64 and ``eval()``, with synthetic weights."""
    state = network.state_dict()
    network.load_state_dict({key: synthetic_tensor(key, tensor.shape) for key, tensor in state.items()})
    return network.double().eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones_to_the_unit(name):
    total, norms = PUBLISHED[name]
    network = meta(name)
    assert parameters(network) == total
    assert norms in (None, sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()))


@pytest.mark.parametrize(
    "change",
    [
        {"output_stride": 8},
        {"output_stride": 32},
        {"padding": "tf_same"},
        {"routing": "torchvision"},
        {"dilation": "released"},
    ],
    ids=str,
)
def test_readings_of_the_paper_do_not_change_the_parameters(change):
    assert parameters(meta("shufflenet_v2_dpc", **change)) == 1_506_121


def test_released_dilation_costs_what_the_paper_s_does():
    paper, released = (count("shufflenet_v2_dpc", (97, 97), dilation=reading) for reading in ("paper", "released"))
    assert paper.conv_macs == released.conv_macs


def test_the_basic_head_s_parts_have_the_published_parameters():
    head = meta("shufflenet_v2_basic").head
    assert {name: parameters(part) for name, part in head.named_children() if parameters(part)} == {
        "image_pooling": 119_296,
        "aspp0": 119_296,
        "concat_projection": 131_584,
    }


def test_the_dpc_head_s_parts_have_the_published_parameters():
    network = meta("shufflenet_v2_dpc")
    assert [parameters(branch) for branch in network.head.branches] == [124_400, 68_864, 68_864, 68_864, 68_864]
    assert parameters(network.head.concat_projection) == 328_192
    assert parameters(network.logits) == 4_883


def cbr(state, name, x, rate=(1, 1), groups=1):
    """Convolution, batch norm of eps 1e-5 and ReLU from tensors, padded by the rate."""
    weight = state[f"{name}.conv.weight"]
    padding = rate if weight.shape[-1] == 3 else (0, 0)
    x = F.conv2d(x, weight, None, 1, padding, rate, groups)
    mean, variance = (state[f"{name}.bn.running_{what}"].view(1, -1, 1, 1) for what in ("mean", "var"))
    scale, shift = (state[f"{name}.bn.{what}"].view(1, -1, 1, 1) for what in ("weight", "bias"))
    return ((x - mean) / (variance + 1e-5).sqrt() * scale + shift).clamp(min=0)


def reference_basic(state, x, step):
    pooled = cbr(state, "image_pooling", x.mean((2, 3), keepdim=True))
    pooled = F.interpolate(pooled, x.shape[2:], mode="bilinear", align_corners=True)
    return cbr(state, "concat_projection", torch.cat((pooled, cbr(state, "aspp0", x)), 1))


def reference_dpc(state, x, step):
    def branch(number, y, rate):
        y = cbr(state, f"branches.{number}.depthwise", y, (int(step * rate[0]), int(step * rate[1])), y.shape[1])
        return cbr(state, f"branches.{number}.pointwise", y)

    first = branch(0, x, (1, 6))
    second = branch(1, first, (18, 15))
    third, fourth, fifth = branch(2, second, (6, 3)), branch(3, first, (1, 1)), branch(4, first, (6, 21))
    return cbr(state, "concat_projection", torch.cat((first, second, third, fourth, fifth), 1))


def reference_pyramid(state, x, step, separable):
    branches = [cbr(state, "image_pooling", x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])]
    branches.append(cbr(state, "aspp0", x))
    for number, rate in enumerate((6, 12, 18)):
        rates, name = (int(step * rate),) * 2, f"atrous.{number}"
        if separable:
            deep = cbr(state, f"{name}.depthwise", x, rates, x.shape[1])
            branches.append(cbr(state, f"{name}.pointwise", deep))
        else:
            branches.append(cbr(state, name, x, rates))
    return cbr(state, "concat_projection", torch.cat(branches, 1))


REFERENCES = {
    "basic": reference_basic,
    "dpc": reference_dpc,
    "aspp": lambda *given: reference_pyramid(*given, separable=True),
    "deeplab_v3": lambda *given: reference_pyramid(*given, separable=False),
}


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", REFERENCES)
def test_heads_compute_what_the_reference_does(name, output_stride):
    head = filled(build_head(name, 6, output_stride, 0.1, LayerStyle(eps=1e-5)))
    torch.manual_seed(0)
    x = torch.randn(1, 6, 29, 43).double()
    with torch.no_grad():
        expected = REFERENCES[name](head.state_dict(), x, 16 / output_stride)
        torch.testing.assert_close(head(x), expected, rtol=1e-9, atol=1e-9)


DPC_RATES = {
    8: [(2, 12), (36, 30), (12, 6), (2, 2), (12, 42)],
    16: [(1, 6), (18, 15), (6, 3), (1, 1), (6, 21)],
    32: [(1, 3), (9, 8), (3, 2), (1, 1), (3, 11)],
}


@pytest.mark.parametrize("output_stride", DPC_RATES)
def test_rates_follow_the_output_stride(output_stride):
    dpc = meta("shufflenet_v2_dpc", output_stride=output_stride).head
    assert [branch.depthwise.conv.dilation for branch in dpc.branches] == DPC_RATES[output_stride]
    aspp = meta("shufflenet_v2_aspp", output_stride=output_stride).head
    expected = [(rate * 16 // output_stride,) * 2 for rate in (6, 12, 18)]
    assert [branch.depthwise.conv.dilation for branch in aspp.atrous] == expected


@pytest.mark.parametrize(("name", "channels"), [("dpc", 1280), ("basic", 256), ("aspp", 256)])
def test_dropout_stands_where_the_published_code_has_it(name, channels):
    head = build_head(name, 6, 16, 0.25, LayerStyle()).train()
    seen = []
    head.dropout.register_forward_hook(lambda module, given, output: seen.append((given[0], output)))
    result = head(torch.randn(2, 6, 8, 8))
    ((before, after),) = seen
    assert head.dropout.p == 0.25
    assert before.shape[1] == channels
    assert (after is result) == (channels == 256)


def test_batch_norms_have_the_published_constants():
    network = meta("shufflenet_v2_dpc")
    constants = {
        part: {(m.eps, round(m.momentum, 6)) for m in module.modules() if isinstance(m, nn.BatchNorm2d)}
        for part, module in network.named_children()
    }
    assert constants == {"base": {(1e-3, 0.003)}, "head": {(1e-5, 0.0003)}, "logits": set()}


def test_batch_norms_follow_the_arguments():
    network = meta("mobilenet_v2_basic", backbone_eps=1e-5, norm_momentum=0.05)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.05)}


def test_weights_start_from_the_published_distributions():
    torch.manual_seed(0)
    network = create_model("shufflenet_v2_dpc")

    def xavier(weight):
        receptive = weight[0, 0].numel()
        return (6 / (receptive * (weight.shape[0] + weight.shape[1]))) ** 0.5

    for name, weight in network.named_parameters():
        if weight.dim() < 4:
            continue
        if "branches" in name:
            bound = 2 * (0.33 if "depthwise" in name else 0.06)
        else:
            bound = 0.02 if name == "logits.weight" else xavier(weight)
        assert 0.9 * bound < weight.abs().max() <= bound, name
    assert not network.logits.bias.any()


@pytest.mark.parametrize(
    ("name", "arguments", "mean", "stride"),
    [
        ("shufflenet_v2_dpc", {}, 0.5, 16),
        ("shufflenet_v2_dpc", {"output_stride": 8}, 0.5, 8),
        ("mobilenet_v2_basic", {"normalisation": "imagenet", "output_stride": 32}, 0.485, 32),
        ("efficientnet_lite0_dpc", {}, 127 / 255, 16),
        ("mobilenet_v2_dpc", {"decoder": True}, 0.5, 4),
    ],
)
def test_the_input_spec_follows_the_arguments(name, arguments, mean, stride):
    spec = meta(name, **arguments).input_spec
    assert (spec.color_order, spec.align_corners, spec.min_size) == ("RGB", True, 1)
    assert (spec.mean[0], spec.output_stride) == (mean, stride)


@pytest.mark.parametrize(
    "arguments",
    [
        {"output_stride": 8},
        {"output_stride": 32},
        {"output_stride": 8, "padding": "tf_same"},
        {"decoder": True},
        {"decoder": True, "input_scale": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (16, 17)], ids=str)
def test_any_size_is_taken_under_every_argument(arguments, size):
    network = create_model("shufflenet_v2_dpc", 3, **arguments).eval()
    with torch.no_grad():
        logits = network(synthetic_images(*size)).logits
    stride = network.input_spec.output_stride
    assert logits.shape == (1, 3, -(-size[0] // stride), -(-size[1] // stride))
    assert network.input_spec.enlarge(logits, size).isfinite().all()


@pytest.mark.parametrize("name", ["shufflenet_v2_dpc", "mobilenet_v2_basic", "efficientnet_lite0_dpc"])
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("output_stride", 4, "output_stride is 4; it must be 8, 16 or 32"),
        ("padding", "valid", "it must be symmetric or tf_same"),
        ("normalisation", "units", "did you mean 'unit'"),
        ("dropout", 1.0, "dropout is 1.0"),
        ("decoder", "no", "decoder is 'no'"),
        ("input_scale", 0.5, "input_scale is 0.5"),
        ("input_scale", "2", "input_scale is '2'"),
        ("norm_momentum", -1, "momentum"),
    ],
)
def test_a_wrong_argument_is_refused(name, argument, value, message):
    with pytest.raises(FeathersegError, match=message):
        create_model(name, **{argument: value})


@pytest.mark.parametrize("name", ["shufflenet_v2_dpc", "mobilenet_v2_basic", "efficientnet_lite0_aspp"])
def test_the_decoder_sees_both_maps_and_costs_what_it_says(name):
    with_decoder = filled(create_model(name, 3, decoder=True)).float()
    images = synthetic_images(48, 64)
    with torch.no_grad():
        whole = with_decoder(images).logits
        skip, features = with_decoder.base(images)
        high = with_decoder.head(features)
        no_detail = with_decoder.logits(with_decoder.decoder(high, torch.zeros_like(skip)))
        no_context = with_decoder.logits(with_decoder.decoder(torch.zeros_like(high), skip))
    assert whole.shape == (1, 3, 12, 16)
    assert (whole - no_detail).abs().max() > 0.01
    assert (whole - no_context).abs().max() > 0.01
    plain, refined = (count(name, (360, 640), decoder=decoder) for decoder in (False, True))
    assert refined.parameters - plain.parameters == 22_640
    # 256 -> 64 at stride 16; at stride 4 the skip 24 -> 48, 3x3 and 1x1 on 112, and the logits there instead.
    at_16, at_4 = 23 * 40, 90 * 160
    logits_moved = 19 * (64 * at_4 - 256 * at_16)
    expected = 256 * 64 * at_16 + at_4 * (24 * 48 + 9 * 112 + 112 * 64) + logits_moved
    assert refined.conv_macs - plain.conv_macs == expected


@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
def test_input_scale_is_enlarging_the_image_before_the_trunk(size):
    plain = filled(create_model("mobilenet_v2_dpc", 3, decoder=True)).float()
    scaled = create_model("mobilenet_v2_dpc", 3, decoder=True, input_scale=1.5).eval()
    scaled.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, *size)
    larger = torch.nn.functional.interpolate(
        images, size=[round(1.5 * side) for side in size], mode="bilinear", align_corners=True
    )
    with torch.inference_mode():
        torch.testing.assert_close(scaled(images).logits, plain(larger).logits)
    narrow, wide = (count("mobilenet_v2_dpc", (360, 480), input_scale=scale) for scale in (1, 1.5))
    assert wide.conv_macs / narrow.conv_macs == pytest.approx(2.25, rel=0.03)


def test_the_decoder_is_trained_throughout():
    torch.manual_seed(0)
    network = create_model("shufflenet_v2_basic", 3, decoder=True).train()
    network(synthetic_images(64, 64, batch=2)).logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("shufflenet_v2_dpc", {"padding": "tf_same", "routing": "torchvision"}),
        ("mobilenet_v2_basic", {"decoder": True, "output_stride": 8}),
    ],
)
def test_the_deployed_graph_is_plain_and_gives_the_same_logits(name, arguments):
    network = filled(create_model(name, 3, **arguments)).float()
    images = synthetic_images(32, 50)
    program = torch.export.export(network, (images,))
    # Old mobile interpreters transpose four axes at most, which the channel shuffle keeps to.
    values = [node.meta.get("val") for node in program.graph.nodes]
    assert max(value.dim() for value in values if isinstance(value, torch.Tensor)) == 4
    assert not [node for node in program.graph.nodes if "dropout" in str(node.target) and node.args[2]]
    with torch.no_grad():
        theirs, ours = program.module()(images)[0], network(images).logits
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4)


def test_saved_weights_bring_their_arguments(tmp_path):
    arguments = {"output_stride": 8, "routing": "torchvision", "stage2_mid_channels": 58, "decoder": True}
    network = create_model("shufflenet_v2_dpc", 3, **arguments).eval()
    metadata = describe_network(network, "shufflenet_v2_dpc", 3, arguments)
    file = save_weights(tmp_path / "w", network.state_dict(), metadata)
    loaded = build_network(read_weights(file), str(file))
    assert loaded.input_spec == network.input_spec
    with torch.no_grad():
        images = synthetic_images(40, 40)
        assert torch.equal(loaded(images).logits, network(images).logits)
