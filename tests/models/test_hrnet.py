"""HRNet: published sizes, an independent implementation, and the three layouts of published weights."""

import re

import pytest
import torch
from reference_hrnet import hrnet as reference
from synthetic_weights import synthetic_images, synthetic_tensor

from featherseg.bench.complexity import count
from featherseg.errors import FeathersegError
from featherseg.models.importer import CheckpointMismatch, import_checkpoint, import_encoder
from featherseg.models.registry import create_model

# Measured on the published code: parameters, conv MACs in 10^9 at 1024x2048, 19 classes.
COUNTS = {
    "hrnet_w18_small_v1": (1_540_819, 33.39),
    "hrnet_w18_small_v2": (3_939_579, 76.86),
    "hrnet_w48": (65_859_379, 747.5),
    "hrnet_w48_ocr": (70_372_678, 1295.3),
}
CLASSES = 3
NARROW = {"hrnet_w18_small_v1": {"width": 4}, "hrnet_w48_ocr": {"width": 2, "ocr_width": 16}}


@pytest.mark.parametrize("name", COUNTS)
def test_costs_are_the_published_ones(name):
    parameters, macs = COUNTS[name]
    counted = count(name)
    assert counted.parameters == counted.parameters_deployed == parameters
    assert counted.conv_macs / 1e9 == pytest.approx(macs, abs=0.05 if macs > 100 else 0.005)


def published(name):
    """Synthetic weights by the names of HRNet-Semantic-Segmentation, without its ``model.``."""
    with torch.device("meta"):
        network = create_model(name, CLASSES, **NARROW[name])
    names = {key: key.removeprefix("ocr.") for key in network.state_dict()}
    state = {names[key]: synthetic_tensor(names[key], tensor.shape) for key, tensor in network.state_dict().items()}
    for key in ("last_layer.3.weight", "cls_head.weight"):
        if key in state:
            state[key] *= 0.1
    return state


@pytest.fixture(scope="module", params=NARROW)
def case(request):
    return request.param, published(request.param)


def wrapped(state):
    return {f"model.{key}": value for key, value in state.items()} | {"loss.criterion.weight": torch.ones(CLASSES)}


def nvidia(state):
    """Its names, under the ``module.`` of a distributed training; attention over scales besides."""
    renamed = {"module.scale_attn.conv0.weight": torch.zeros(8, 16, 3, 3)}
    for key, value in state.items():
        inside = re.match(r"aux_head|conv3x3_ocr|ocr_distri_head|cls_head", key)
        key = re.sub(r"^aux_head\.3\.", "aux_head.2.", key)
        key = re.sub(r"^(aux_head|conv3x3_ocr)\.1\.", r"\1.1.0.", key)
        renamed[f"module.{'ocr' if inside else 'backbone'}.{key}"] = value
    return {"state_dict": renamed, "epoch": 3}


@pytest.mark.parametrize("align", [True, False])
@pytest.mark.parametrize("size", [(64, 96), (37, 51)], ids=str)
def test_published_weights_give_the_logits_of_an_independent_implementation(case, align, size, tmp_path):
    name, state = case
    torch.save(wrapped(state), tmp_path / "w.pth")
    network, report = import_checkpoint(name, tmp_path / "w.pth", align_corners=align, **NARROW[name])
    assert report.percent == 100
    images = synthetic_images(*size, batch=2)
    with torch.no_grad():
        expected, regions = reference(state, images, align)
        torch.testing.assert_close(network(images).logits, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        if regions is not None:
            found = network.ocr(network.features(images))[1]
            torch.testing.assert_close(found, regions, rtol=1e-4, atol=1e-4 * regions.abs().max().item())


def test_object_context_is_imported_with_its_branch_s_corners(tmp_path):
    state = published("hrnet_w48_ocr")
    torch.save(wrapped(state), tmp_path / "w.pth")
    network, report = import_checkpoint("hrnet_w48_ocr", tmp_path / "w.pth", **NARROW["hrnet_w48_ocr"])
    assert network.align_corners
    assert network.input_spec.align_corners
    assert report.ignored == ("loss.criterion.weight",)


def test_nvidia_s_weights_are_imported_without_aligned_corners_and_attention_over_scales(tmp_path):
    state = published("hrnet_w48_ocr")
    torch.save(nvidia(state), tmp_path / "w.pth")
    network, report = import_checkpoint("hrnet_w48_ocr", tmp_path / "w.pth", **NARROW["hrnet_w48_ocr"])
    assert (report.percent, report.ignored) == (100, ("scale_attn.conv0.weight",))
    assert not network.align_corners
    images = synthetic_images(40, 64)
    with torch.no_grad():
        expected = reference(state, images, align=False)[0]
        atol = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(network(images).logits, expected, rtol=1e-4, atol=atol)


def test_a_plain_file_tells_of_the_corners_that_no_tensor_shows(tmp_path):
    torch.save(wrapped(published("hrnet_w18_small_v1")), tmp_path / "w.pth")
    network, report = import_checkpoint("hrnet_w18_small_v1", tmp_path / "w.pth", width=4)
    assert not network.align_corners
    assert any("align_corners=true" in note for note in report.notes)


def test_a_classifier_and_a_plain_network_start_one_with_object_context():
    network = create_model("hrnet_w48_ocr", 2, **NARROW["hrnet_w48_ocr"])
    state = {
        key: tensor for key, tensor in published("hrnet_w48_ocr").items() if not re.match("aux|conv3x3|ocr|cls", key)
    }
    classifier = {**state, "incre_modules.0.0.conv1.weight": torch.zeros(1), "classifier.bias": torch.zeros(1000)}
    for tensors in (classifier, wrapped({**state, "last_layer.0.bias": torch.zeros(30)})):
        report = import_encoder(network, tensors)
        assert report.percent == 100
        assert len(report.ignored) == len(tensors) - len(state)
        assert torch.equal(network.stage4[0].branches[3][0].conv1.weight, state["stage4.0.branches.3.0.conv1.weight"])


def test_a_classifier_is_refused_as_a_network(tmp_path):
    state = published("hrnet_w18_small_v1")
    torch.save({key: value for key, value in state.items() if "last" not in key}, tmp_path / "w.pth")
    with pytest.raises(CheckpointMismatch, match=r"last_layer.*encoders to start from \(start\.encoder\)"):
        import_checkpoint("hrnet_w18_small_v1", tmp_path / "w.pth", width=4)


def test_the_two_conventions_of_corners_differ():
    networks = [create_model("hrnet_w18_small_v1", 2, width=4, align_corners=align).eval() for align in (True, False)]
    networks[1].load_state_dict(networks[0].state_dict())
    images = synthetic_images(64, 64)
    with torch.no_grad():
        first, second = (network(images).logits for network in networks)
    assert (first - second).abs().max() > 1e-3 * first.abs().max()


def test_object_context_trains_its_regions():
    network = create_model("hrnet_w48_ocr", 2, **NARROW["hrnet_w48_ocr"]).train()
    output = network(synthetic_images(64, 64, batch=2))
    assert [tuple(extra.shape) for extra in output.auxiliary] == [tuple(output.logits.shape)] == [(2, 2, 16, 16)]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("hrnet_w48", {"width": 0}, "width is 0"),
        ("hrnet_w48", {"width": 10**6}, "width is 1000000"),
        ("hrnet_w48", {"align_corners": "yes"}, "align_corners is 'yes'"),
        ("hrnet_w18_small_v2", {"norm_momentum": 0}, "norm_momentum is 0"),
        ("hrnet_w48_ocr", {"ocr_width": 1}, "ocr_width is 1"),
    ],
)
def test_a_wrong_argument_is_refused(name, arguments, message):
    with pytest.raises(FeathersegError, match=f"{name}: {message}"):
        create_model(name, 2, **arguments)
