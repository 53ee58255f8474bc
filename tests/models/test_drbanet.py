"""DRBANet: counts of every part and of every reading, the network against a second one, heads of training alone."""

from typing import Any

import pytest
import torch
from reference_drbanet import drbanet as reference
from synthetic_weights import synthetic_images, synthetic_tensor
from torch import nn

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError
from featherseg.models.drbanet import BatchNorm
from featherseg.models.importer import CheckpointMismatch, import_encoder
from featherseg.models.registry import create_model
from featherseg.recipes.schema import Loss
from featherseg.training.segmentation import criterion
from featherseg.training.task import UpdateSize

# Parameters and conv MACs (10^9, 1024x2048, 19 classes) of a count made from the layer table, without the stem's bias
# and with one boundary logit.
PARTS = {
    "base.stem": (928, 0.453),
    "base.layers_2_3": (7_200, 1.263),
    "base.layers_4_5": (20_192, 0.823),
    "base.low_6_7": (73_152, 0.781),
    "base.low_9_10": (277_376, 0.759),
    "base.low_12": (541_440, 0.476),
    "base.high_6_7": (19_712, 0.612),
    "base.high_9_10": (19_712, 0.612),
    "base.high_12": (36_352, 1.149),
    "elppm": (549_120, 0.156),
    "base.bfm_8": (82_304, 0.671),
    "base.bfm_11": (385_920, 1.242),
    "boundary_fusion": (8_448, 0.268),
    "head": (75_091, 2.456),
    "auxiliary_head": (148_819, 0.0),
    "boundary_head": (37_057, 0.0),
}
# The readings: parameters in 10^6 with and without the training heads, conv MACs in 10^9 at 1024x2048.
READINGS = [
    ({}, 2.283, 2.097, 11.72),
    ({"bfm": "sequential"}, 2.283, 2.097, 11.72),
    ({"shortcut": "pointwise"}, 2.277, 2.091, 11.67),
    ({"shortcut": "none"}, 2.092, 1.906, 10.99),
    ({"expand": "twice_in"}, 2.510, 2.324, 14.91),
    ({"expand": "twice_out"}, 3.083, 2.897, 17.47),
    ({"expand": "in"}, 1.996, 1.810, 10.44),
]
CLASSES = 5


def synthetic(**arguments: str) -> nn.Module:
    with torch.device("meta"):
        network = create_model("drbanet", CLASSES, **arguments)
    state = {key: synthetic_tensor(key, tensor.shape) for key, tensor in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


@pytest.fixture(scope="module")
def macs() -> dict[str, float]:
    """Conv MACs of each part in an eval pass, in 10^9."""
    with torch.device("meta"):
        network = create_model("drbanet").eval()
    found = dict.fromkeys(PARTS, 0.0)

    def watch(part: str):
        def note(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            found[part] += output.numel() * module.weight[0].numel() / 1e9  # type: ignore[index,union-attr]

        return note

    for part in PARTS:
        for module in network.get_submodule(part).modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(watch(part))
    with torch.no_grad():
        network(torch.empty(1, 3, 1024, 2048, device="meta"))
    return found


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_the_parameters_and_macs_of_the_table(macs: dict[str, float], part: str) -> None:
    with torch.device("meta"):
        module = create_model("drbanet").get_submodule(part)
    parameters, giga_macs = PARTS[part]
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters
    assert macs[part] == pytest.approx(giga_macs, abs=6e-4)


def test_the_parts_are_the_whole() -> None:
    counted = count("drbanet")
    assert counted.parameters == sum(parameters for parameters, _ in PARTS.values()) == 2_282_823
    assert counted.parameters_deployed == 2_282_823 - 148_819 - 37_057
    assert counted.conv_macs == 11_721_179_136


@pytest.mark.parametrize(("arguments", "trained", "deployed", "giga_macs"), READINGS, ids=str)
def test_every_reading_has_its_counts(
    arguments: dict[str, Any], trained: float, deployed: float, giga_macs: float
) -> None:
    counted = count("drbanet", **arguments)
    assert counted.parameters / 1e6 == pytest.approx(trained, abs=5.1e-4)
    assert counted.parameters_deployed / 1e6 == pytest.approx(deployed, abs=5.1e-4)
    assert counted.conv_macs / 1e9 == pytest.approx(giga_macs, abs=5.1e-3)


def test_a_square_image_costs_half() -> None:
    assert count("drbanet", (1024, 1024)).conv_macs / 1e9 == pytest.approx(5.86, abs=5.1e-3)


def test_preactivation_costs_4_600_parameters_and_no_macs() -> None:
    post, pre = count("drbanet"), count("drbanet", elppm="pre")
    assert pre.parameters - post.parameters == 4608
    assert pre.conv_macs == post.conv_macs


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"bfm": "sequential"},
        {"elppm": "pre"},
        {"shortcut": "none"},
        {"shortcut": "pointwise", "expand": "twice_in"},
    ],
    ids=str,
)
@torch.no_grad()
def test_the_network_equals_the_layer_table_written_again(arguments: dict[str, Any]) -> None:
    network = synthetic(**arguments)
    images = synthetic_images(94, 133)
    kinds = (arguments.get("bfm", "parallel"), arguments.get("elppm", "post"))
    logits, auxiliary, boundary = reference(network.state_dict(), images, *kinds)
    network.training = True  # the heads run, while batch norm stays as in eval()
    ours = network(images)
    for own, expected in ((ours.logits, logits), (ours.auxiliary[0], auxiliary), (ours.boundary, boundary)):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_the_readings_differ() -> None:
    images = synthetic_images(128, 128)
    with torch.no_grad():
        parallel, sequential = (synthetic(bfm=kind)(images).logits for kind in ("parallel", "sequential"))
    assert (parallel - sequential).abs().max() > 1e-3 * parallel.abs().max()


def test_training_gives_the_three_supervised_outputs_at_their_strides() -> None:
    torch.manual_seed(0)
    output = create_model("drbanet", CLASSES).train()(synthetic_images(128, 192, batch=2))
    assert output.logits.shape == (2, CLASSES, 16, 24)
    assert [tuple(extra.shape) for extra in output.auxiliary] == [(2, CLASSES, 4, 6)]
    assert output.boundary.shape == (2, 1, 16, 24)


def test_the_total_loss_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = create_model("drbanet", CLASSES).train()
    output = network(synthetic_images(128, 128, batch=2))
    labels = torch.randint(0, CLASSES, (2, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    size = UpdateSize(labels.numel(), len(labels))
    criterion(output, labels, Loss(), network.input_spec, weight=labels.numel(), total=size).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


def test_the_heads_of_training_never_run_in_eval() -> None:
    network = create_model("drbanet", CLASSES).eval()
    del network.auxiliary_head, network.boundary_head
    with torch.no_grad():
        assert network(synthetic_images(64, 64)).logits.shape == (1, CLASSES, 8, 8)


@pytest.mark.parametrize("name", ["drbanet", "drbanet_trunk"])
def test_an_update_of_one_small_image_is_possible(name: str) -> None:
    torch.manual_seed(0)
    network = create_model(name, CLASSES).train()
    output = network(synthetic_images(40, 64))
    logits = output if name == "drbanet_trunk" else output.logits
    logits.square().mean().backward()
    assert logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


def test_batch_norm_of_a_single_value_uses_and_keeps_the_running_statistics() -> None:
    layer = BatchNorm(2)
    layer(torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0)))
    assert layer.running_mean is not None
    before = layer.running_mean.clone()
    pixel = torch.tensor([[[[1.0]], [[2.0]]]])
    trained = layer.train()(pixel)
    assert torch.equal(layer.running_mean, before)
    torch.testing.assert_close(trained, layer.eval()(pixel))
    assert trained.any()


def test_batch_norm_of_many_values_is_pytorch_s() -> None:
    x = torch.randn(2, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(BatchNorm(3).train()(x), nn.BatchNorm2d(3).train()(x))


def test_the_trunk_s_classifier_starts_the_network() -> None:
    torch.manual_seed(0)
    network, classifier = create_model("drbanet"), create_model("drbanet_trunk", 10)
    report = import_encoder(network, classifier.state_dict())
    trunk = classifier.get_submodule("base").state_dict()
    assert all(torch.equal(value, trunk[key]) for key, value in network.get_submodule("base").state_dict().items())
    assert report.percent == 100
    assert report.ignored == ("fc.weight", "fc.bias")


def test_a_trunk_of_another_reading_is_refused() -> None:
    classifier = create_model("drbanet_trunk", 10, expand="twice_in")
    with pytest.raises(CheckpointMismatch, match="of another shape"):
        import_encoder(create_model("drbanet"), classifier.state_dict())


@pytest.mark.parametrize(
    ("name", "argument", "value", "said"),
    [
        ("drbanet", "expand", "twice_inn", "did you mean 'twice_in'"),
        ("drbanet", "shortcut", None, "depthwise, pointwise, none"),
        ("drbanet", "bfm", "paralel", "did you mean 'parallel'"),
        ("drbanet", "elppm", "pos", "did you mean 'post'"),
        ("drbanet_trunk", "expand", 2, "out, in, twice_in, twice_out"),
    ],
)
def test_an_unknown_reading_is_refused(name: str, argument: str, value: Any, said: str) -> None:
    with pytest.raises(FeathersegError, match=f"{name}: {argument} is .*{said}"):
        create_model(name, **{argument: value})


def test_the_exported_network_has_the_same_logits() -> None:
    network = synthetic()
    images = synthetic_images(64, 96)
    program = torch.export.export(network, (images,))
    with torch.no_grad():
        exported = program.module()(images)
        torch.testing.assert_close(exported[0], network(images).logits, rtol=0, atol=1e-4)
    assert exported[1:] == (None, None)
