"""Pyramid MobileNet: its readings counted, Table 1 and equation 1, MobileNet V2 as a special case, rates, messages."""

import copy

import pytest
import torch
from synthetic_weights import synthetic_images, synthetic_tensor
from torch import nn
from torch.nn import functional as F

from featherseg.bench.complexity import count
from featherseg.deploy.label_graph import fold_batch_norm
from featherseg.errors import FeathersegError
from featherseg.models import pyramid_mobilenet
from featherseg.models.import_mobile import network_of, traits
from featherseg.models.importer import import_encoder
from featherseg.models.mobile_layers import LayerStyle
from featherseg.models.pyramid_depthwise import PyramidDepthwiseConv2d
from featherseg.models.pyramid_mobilenet import LAYERS, PyramidBlock, capped_rates, rates_of_layers, receptive_field
from featherseg.models.registry import create_model, list_models

STYLE = LayerStyle(eps=1e-5, momentum=0.1, relu6=True)
# (arguments, classes, parameters, 10^6 multiply-accumulates at 224x224), counted by hand from Tables 2 and 3.
READINGS = [
    ({}, 1000, 3_520_424, 300.8),
    ({}, 102, 2_370_086, 299.6),
    ({}, 257, 2_568_641, 299.8),
    ({"rates": [1, 2]}, 1000, 3_520_424, 300.8),
    ({"rates": [1, 2], "reading": "full"}, 1000, 4_569_256, 439.6),
    ({"rates": [1, 2, 3], "reading": "full"}, 1000, 5_618_088, 578.4),
    ({"reading": "full"}, 1000, 6_666_920, 717.3),
    ({"reading": "full", "widths": "early"}, 1000, 11_863_848, 1040.8),
    ({"reading": "reduce"}, 1000, 2_940_816, 206.7),
    ({"reading": "reduce"}, 102, 1_790_478, 205.5),
    ({"widths": "early"}, 1000, 5_586_216, 429.1),
    ({"widths": "early"}, 257, 4_634_433, 428.1),
    ({"widths": "late"}, 1000, 3_391_656, 276.0),
    ({"activation": "relu6"}, 1000, 3_504_872, 300.8),
    ({"rates": "capped"}, 1000, 3_520_424, 300.8),
]


def meta(**arguments):
    with torch.device("meta"):
        return create_model("pyramid_mobilenet", **arguments)


def filled(network):
    """``network`` in ``eval()`` with synthetic weights."""
    state = network.state_dict()
    network.load_state_dict({key: synthetic_tensor(key, tensor.shape) for key, tensor in state.items()})
    return network.eval()


@pytest.mark.parametrize(("arguments", "classes", "parameters", "macs"), READINGS, ids=str)
def test_each_reading_costs_what_the_tables_give(arguments, classes, parameters, macs):
    counted = count("pyramid_mobilenet", (224, 224), classes, **arguments)
    assert counted.parameters == parameters
    assert round((counted.conv_macs + counted.matrix_macs) / 1e6, 1) == macs


def test_widths_are_those_of_table_3():
    def widths(reading):
        return [block.project.conv.out_channels for block in meta(widths=reading).base.blocks]

    start = [16, 24, 24, 32, 32, 32, 64]
    assert widths("condensed") == [*start, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]
    assert widths("early") == [*start, 96, 96, 96, 96, 96, 96, 160, 320, 320, 320]
    assert widths("late") == [*start, 64, 64, 64, 64, 64, 96, 160, 160, 160, 320]


def test_maps_are_those_of_table_3():
    network, sides = meta(), []
    for block in network.base.blocks:
        block.register_forward_hook(lambda module, given, output: sides.append(output.shape[2]))
    network.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    assert sides == [112, 56, 56, 28, 28, 28, 14, 14, 14, 14, 14, 14, 14, 7, 7, 7, 7]


@pytest.mark.parametrize("training", [False, True])
def test_one_rate_of_1_with_relu6_is_mobilenet_v2(training):
    plain = filled(create_model("mobilenet_v2", 7))
    pyramid = create_model("pyramid_mobilenet", 7, rates=[1], activation="relu6")
    assert {key: value.shape for key, value in pyramid.state_dict().items()} == {
        key: value.shape for key, value in plain.state_dict().items()
    }
    pyramid.load_state_dict(plain.state_dict())
    images = synthetic_images(65, 97, batch=2).contiguous(memory_format=torch.channels_last)
    outputs = []
    for network in (plain.train(training), pyramid.train(training)):
        torch.manual_seed(0)
        with torch.set_grad_enabled(training):
            outputs.append(network(images))
    scale = outputs[0].abs().max().item()
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-4 * scale)
    if training:
        for output in outputs:
            output.square().mean().backward()
        theirs, ours = (
            plain.base.blocks[3].depthwise.conv.weight.grad,
            pyramid.base.blocks[3].depthwise.conv.weight.grad,
        )
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-2 * theirs.abs().max().item())


def test_one_rate_of_1_with_relu6_is_mobilenet_v2_to_the_bit_in_float64():
    plain = filled(create_model("mobilenet_v2", 7)).double()
    pyramid = create_model("pyramid_mobilenet", 7, rates=[1], activation="relu6").double().eval()
    pyramid.load_state_dict(plain.state_dict())
    with torch.no_grad():
        images = synthetic_images(65, 97).double()
        assert torch.equal(pyramid(images), plain(images))


def reference_block(state, x, stride, rates, reading, expansion, slopes=True):
    """The block by its definition from tensors: shapes tell the rest."""

    def norm(name, x):
        vectors = [state[f"{name}.bn.{what}"] for what in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *vectors, eps=1e-5)

    def activated(name, x):
        return F.prelu(x, state[f"{name}.acti.weight"])

    y = x
    if "expand.conv.weight" in state:
        y = activated("expand", norm("expand", F.conv2d(x, state["expand.conv.weight"])))
    branches, weight = [], state["depthwise.conv.weight"]
    size = weight.shape[0] // len(rates)
    for number, rate in enumerate(rates):
        own = slice(number * size, (number + 1) * size)
        given = y[:, own] if reading == "split" else y
        branches.append(F.conv2d(given, weight[own], None, stride, rate, rate, size))
    y = activated("depthwise", norm("depthwise", torch.cat(branches, 1)))
    y = norm("project", F.conv2d(y, state["project.conv.weight"]))
    return x + y if stride == 1 and x.shape[1] == y.shape[1] else y


@pytest.mark.parametrize("reading", ["split", "full", "reduce"])
@pytest.mark.parametrize(("expansion", "stride", "out"), [(1, 1, 16), (6, 1, 8), (6, 2, 12)])
@pytest.mark.parametrize("rates", [(1, 2, 3, 4), (1, 2), (5,)], ids=str)
def test_the_block_is_its_definition(reading, expansion, stride, out, rates):
    block = filled(PyramidBlock(8, out, expansion, stride, rates, STYLE, "prelu", reading)).double()
    x = torch.randn(2, 8, 13, 10, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        expected = reference_block(block.state_dict(), x, stride, rates, reading, expansion)
        torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("activation", ["prelu", "relu6"])
@pytest.mark.parametrize("expansion", [1, 6])
def test_the_block_in_use_is_the_block(activation, expansion):
    block = filled(PyramidBlock(8, 8, expansion, 1, (1, 2, 3, 4), STYLE, activation))
    x = torch.randn(2, 8, 37, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = copy.deepcopy(block).double()(x.double())
        in_use = block(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(in_use.double(), exact, rtol=0, atol=3e-6 * exact.abs().max().item())


def test_the_block_in_use_tells_its_hooks():
    block = filled(PyramidBlock(8, 8, 6, 1, (1, 2, 3, 4), STYLE))
    heard = []
    for layer in (block.expand.bn, block.depthwise.conv):
        layer.register_forward_hook(lambda module, given, output: heard.append(type(module)))
    with torch.inference_mode():
        block(torch.randn(1, 8, 9, 9).contiguous(memory_format=torch.channels_last))
    assert heard == [nn.BatchNorm2d, PyramidDepthwiseConv2d]


def test_the_block_in_use_sees_weights_that_change():
    block = filled(PyramidBlock(8, 8, 6, 1, (1, 2, 3, 4), STYLE))
    x = torch.randn(1, 8, 9, 9).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        before = block(x)
        block.depthwise.bn.running_mean.data.add_(1)
        assert (block(x) - before).abs().max() > 0.1


# Table 1 of the paper; n, C, C', g.
@pytest.mark.parametrize(("n", "c", "out", "g"), [(3, 32, 64, 4), (3, 144, 24, 8), (5, 16, 16, 2)])
def test_table_1_counts_the_parameters_of_convolutions(n, c, out, g):
    def parameters(*layers):
        return sum(layer.weight.numel() for layer in layers)

    assert parameters(nn.Conv2d(c, out, n, bias=False)) == n**2 * c * out
    assert parameters(nn.Conv2d(c, out, n, groups=g, bias=False)) == n**2 * c * out // g
    pointwise = nn.Conv2d(c, out, 1, bias=False)
    assert parameters(nn.Conv2d(c, c, n, groups=c, bias=False), pointwise) == n**2 * c + c * out
    if n == 3:
        assert parameters(PyramidDepthwiseConv2d(c, c, 1, (1, 2, 3, 4)), pointwise) == n**2 * c + c * out


@pytest.mark.parametrize("rates", [(1, 2, 3, 4), (1, 2, 4, 8)], ids=str)
def test_each_branch_sees_the_field_of_equation_1(rates):
    layer = PyramidDepthwiseConv2d(4, 4, 1, rates)
    nn.init.ones_(layer.weight)
    for number, rate in enumerate(rates):
        x = torch.zeros(1, 4, 31, 31, requires_grad=True)
        (gradient,) = torch.autograd.grad(layer(x)[0, number, 15, 15], x)
        seen = gradient[0].nonzero()
        assert seen[:, 0].unique().tolist() == [number]
        sides = seen[:, 1:].amax(0) - seen[:, 1:].amin(0) + 1
        assert sides.tolist() == [receptive_field(3, rate)] * 2
        assert len(seen) == 9


def test_the_block_sees_the_field_of_its_largest_rate():
    block = PyramidBlock(4, 4, 6, 1, (1, 2, 3, 4), STYLE).double().eval()
    x = torch.randn(1, 4, 21, 21).double().requires_grad_()
    (gradient,) = torch.autograd.grad(block(x)[0, :, 10, 10].sum(), x)
    seen = gradient[0].abs().sum(0).nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [9, 9]


def test_capped_rates_fit_the_maps_as_in_espnetv2():
    assert [capped_rates(stride) for stride in (2, 4, 8, 16, 32)] == [
        (1, 2, 3, 4),
        (1, 2, 3, 4),
        (1, 2, 3, 4),
        (1, 1, 2, 3),
        (1, 1, 1, 2),
    ]
    inputs = [112, 112, 56, 56, 28, 28, 28] + [14] * 7 + [7] * 3
    expected = {112: (1, 2, 3, 4), 56: (1, 2, 3, 4), 28: (1, 2, 3, 4), 14: (1, 1, 2, 3), 7: (1, 1, 1, 2)}
    assert rates_of_layers("capped") == tuple(expected[side] for side in inputs)


def test_taps_outside_a_map_of_4x4_learn_nothing_and_capped_rates_have_none():
    """What the page says of 128 pixels: layers 15 to 17 have maps of 4x4 there, and at crops of 112."""

    def positions_inside(rates):
        """How many of the 16 places of the output each tap sees the map from: its gradient, where all is one."""
        layer = PyramidDepthwiseConv2d(len(rates), len(rates), 1, rates).double()
        layer(torch.ones(1, len(rates), 4, 4).double()).sum().backward()
        return layer.weight.grad.flatten(1)

    published = positions_inside((1, 2, 3, 4))
    assert [round(100 * share) for share in (published.mean(1) / 16).tolist()] == [69, 44, 25, 11]
    assert (published == 0).sum(1).tolist() == [0, 0, 0, 8]
    assert round(100 * (published == 0).double().mean().item()) == 22
    assert (positions_inside(capped_rates(32)) > 0).all()
    for side in (112, 128):
        x = torch.zeros(1, 3, side, side, device="meta")
        assert meta().base(x)[1].shape[2:] == (4, 4)


def test_rates_may_differ_from_layer_to_layer():
    rates = [[1, 2, 4, 8]] * 6 + [[1, 2]] * 7 + [[1]] * 4
    network = meta(rates=rates)
    assert [list(block.depthwise.conv.rates) for block in network.base.blocks] == rates


@pytest.mark.parametrize(
    "rates", [[], "cap", [0, 1], [1.5], [True, 2], 3, [[1, 2]] * 5, [[1]] * (LAYERS - 1) + [[]]], ids=str
)
def test_what_is_no_rates_is_refused(rates):
    with pytest.raises(FeathersegError, match=r"it must be capped, a list of whole numbers.*17 such lists"):
        meta(rates=rates)


def test_rates_that_do_not_divide_the_channels_are_refused_by_the_layer_s_name():
    message = r"5 rates, \[1, 2, 3, 4, 5\], do not divide the 32 channels of layer 1 evenly.*1, 2, 4, 8.*reading=full"
    with pytest.raises(FeathersegError, match=message):
        meta(rates=[1, 2, 3, 4, 5])
    with pytest.raises(FeathersegError, match="channels of layer 3"):
        meta(rates=[[1]] * 2 + [[1, 2, 3, 4, 5]] + [[1]] * 14)
    assert meta(rates=[1, 2, 3, 4, 5], reading="full").base.rates[0] == (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("reading", "splitt", "did you mean 'split'"),
        ("widths", "condense", "did you mean 'condensed'"),
        ("activation", "relu", "it must be prelu or relu6"),
        ("norm_eps", 0, "eps of batch norm"),
    ],
)
def test_a_wrong_reading_is_refused(argument, value, message):
    with pytest.raises(FeathersegError, match=message):
        meta(**{argument: value})


@pytest.mark.parametrize(("activation", "slope"), [("prelu", 0.25), ("relu6", 0.0)])
def test_weights_start_as_he_et_al_have_it(activation, slope):
    torch.manual_seed(0)
    network = create_model("pyramid_mobilenet", 1000, activation=activation)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            fan = 9 if layer.groups > 1 else layer.out_channels * layer.kernel_size[0] ** 2
            expected = (2 / ((1 + slope**2) * fan)) ** 0.5
            count = layer.weight.numel()
            assert layer.weight.std().item() == pytest.approx(expected, rel=5 / count**0.5), name
    assert network.fc.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not network.fc.bias.any()
    assert {parameter.item() for m in network.modules() if isinstance(m, nn.PReLU) for parameter in m.weight} <= {0.25}


@pytest.mark.parametrize("name", list_models("classification"))
def test_classifiers_train_in_channels_last_bfloat16(name):
    torch.manual_seed(0)
    network = create_model(name, 5).train().to(memory_format=torch.channels_last)
    images = synthetic_images(64, 64, batch=4).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(network(images).float(), torch.arange(4))
    loss.backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in network.parameters()
    )


@pytest.mark.parametrize("reading", ["full", "reduce"])
def test_the_other_readings_train(reading):
    torch.manual_seed(0)
    network = create_model("pyramid_mobilenet", 5, reading=reading).train()
    network(synthetic_images(96, 96, batch=2)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_a_graph_without_batch_norms_labels_the_same():
    network = filled(create_model("pyramid_mobilenet_basic", 5))
    folded = fold_batch_norm(network, (64, 96))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for layout in (torch.contiguous_format, torch.channels_last):
        images = synthetic_images(64, 96).contiguous(memory_format=layout)
        with torch.no_grad():
            torch.testing.assert_close(folded(images).logits, network(images).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_denser_trunk_sees_what_strides_saw(output_stride):
    images = synthetic_images(65, 97).double()
    coarse = filled(pyramid_mobilenet.PyramidTrunk(STYLE)).double()
    dense = pyramid_mobilenet.PyramidTrunk(STYLE, output_stride).double().eval()
    dense.load_state_dict(coarse.state_dict())
    step = 32 // output_stride
    with torch.no_grad():
        torch.testing.assert_close(dense(images)[1][..., ::step, ::step], coarse(images)[1], rtol=1e-9, atol=1e-9)


def test_a_classifier_s_trunk_starts_a_segmentation_network_and_tells_other_rates():
    classifier = create_model("pyramid_mobilenet", 7)
    network = create_model("pyramid_mobilenet_basic", output_stride=8, rates="capped")
    report = import_encoder(network, classifier.state_dict())
    assert report.percent == 100
    assert all(
        torch.equal(value, classifier.base.state_dict()[key]) for key, value in network.base.state_dict().items()
    )
    assert network_of(classifier.state_dict()) == "pyramid_mobilenet"
    assert network_of(network.state_dict()) == "pyramid_mobilenet_basic"
    found = traits(classifier)
    assert found == {"normalisation": "imagenet", "padding": "symmetric", "norm_eps": 1e-5, "rates": [1, 2, 3, 4]}
    assert traits(network)["rates"] == "capped"
    assert [note for note in report.notes if "rates" in note] == []  # bare tensors tell of no arguments
