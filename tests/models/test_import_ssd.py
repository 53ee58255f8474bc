"""SSD300 by torchvision's names: an imported detector finds what its source finds, and VGG-16 starts its trunk."""

import json

import numpy as np
import pytest
import reference_torchvision_ssd as reference
import torch

import featherseg
from featherseg.cli.main import main
from featherseg.detection.decode import read_output
from featherseg.errors import FeathersegError
from featherseg.models.import_ssd import thinned
from featherseg.models.importer import CheckpointMismatch, import_checkpoint, import_encoder
from featherseg.models.registry import create_model
from featherseg.models.weights import read_metadata

BACKGROUND_AND_TWO = 3


@pytest.fixture(scope="module")
def state():
    return reference.random_state(reference.ssd_shapes(BACKGROUND_AND_TWO))


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("torchvision") / "ssd300_vgg16.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def imported(file):
    return import_checkpoint("ssd300_vgg16", file)


@pytest.fixture(scope="module")
def pixels():
    random = np.random.default_rng(5)
    coarse = random.integers(0, 200, (10, 10, 3)).repeat(30, 0).repeat(30, 1)
    return torch.from_numpy((coarse + random.integers(0, 56, coarse.shape)).astype(np.uint8))[None]


@pytest.fixture(scope="module")
def both(state, imported, pixels):
    """Scores and deltas of the reference, then of the imported network."""
    network, _ = imported
    with torch.inference_mode():
        theirs = reference.forward(state, pixels.permute(0, 3, 1, 2) / 255, BACKGROUND_AND_TWO)
        return theirs, network(network.input_spec.normalise(pixels))


def test_scores_and_deltas_are_the_sources(both):
    for theirs, ours in zip(*both, strict=True):
        assert theirs.std() > 0.3
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_anchors_are_the_sources(imported):
    torch.testing.assert_close(imported[0].anchors(300, 300), reference.default_boxes(), atol=2e-4, rtol=0)


def test_detections_are_the_sources(both, imported):
    (logits, deltas), _ = both
    network, _ = imported
    anchors = network.anchors(300, 300)
    # With more of a background, so that some scores lie below the threshold.
    logits = 2 * logits[0] + torch.tensor([5.0, 0.0, 0.0])
    assert 0.2 < (logits.softmax(1)[:, 1:] < 0.01).float().mean() < 0.9
    expected = reference.detections(logits, deltas[0])
    found = read_output(logits, deltas[0], anchors, network.detector_spec, (300, 300))
    assert 20 < len(expected) <= 200
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.scores, [score for score, _, _ in expected], atol=1e-5)
    assert found.labels.tolist() == [label for _, label, _ in expected]
    np.testing.assert_allclose(found.boxes, [box for _, _, box in expected], atol=1e-2)


def test_the_number_of_classes_is_read_off_without_the_background(imported):
    network, report = imported
    assert network.num_classes == BACKGROUND_AND_TWO - 1
    assert (report.complete, report.percent) == (True, 100)


def test_another_number_of_classes_is_refused(file):
    with pytest.raises(CheckpointMismatch, match=r"12 of another shape: head\.classification_head.module_list.0"):
        import_checkpoint("ssd300_vgg16", file, 1)


def test_with_other_classes_the_trunk_starts_a_training_and_the_heads_are_left_out(state, file):
    network = create_model("ssd300_vgg16", 1)
    before = network.head.classification_head.module_list[0].weight.clone()
    report = import_encoder(network, file)
    assert len(report.ignored) == 24
    assert all(name.startswith("head.") for name in report.ignored)
    assert torch.equal(network.backbone.extra[4][2].weight, state["backbone.extra.4.2.weight"])
    assert torch.equal(network.head.classification_head.module_list[0].weight, before)


def test_the_command_writes_weights_that_load_as_a_detector(file, tmp_path, capsys):
    names, output = tmp_path / "names.txt", tmp_path / "ssd.safetensors"
    names.write_text("Car\nPedestrian\n")
    command = ["import", "ssd300_vgg16", str(file), "--classes-from", str(names), "-o", str(output), "--half"]
    assert main(command) == 0
    assert "ssd300_vgg16 with 2 classes written" in capsys.readouterr().out
    about = read_metadata(output)
    assert (about["task"], about["num_classes"], about["classes"]) == ("detection", 2, ["Car", "Pedestrian"])
    assert featherseg.load(output).classes == ("Car", "Pedestrian")
    assert json.dumps(about)


def test_a_detector_is_no_segmenter(file):
    with pytest.raises(FeathersegError, match="ssd300_vgg16 is a detector"):
        featherseg.import_weights("ssd300_vgg16", file)


def vgg_state(connected: float) -> reference.State:
    """torchvision's VGG-16, with one value all over fc6 and fc7 and none behind them."""
    shapes = {}
    for place, (inside, out) in reference.CONVOLUTIONS.items():
        shapes |= {f"features.{place}.weight": (out, inside, 3, 3), f"features.{place}.bias": (out,)}
    state = reference.random_state(shapes, seed=1)
    # One number in memory each, for hundreds of millions.
    for name, shape in (
        ("0.weight", (4096, 25088)),
        ("0.bias", (4096,)),
        ("3.weight", (4096, 4096)),
        ("3.bias", (4096,)),
    ):
        state[f"classifier.{name}"] = torch.tensor(connected).expand(shape)
    return state


def test_vgg16_starts_the_trunk_and_what_lies_behind_it_is_fresh():
    network = create_model("ssd300_vgg16", 1)
    fresh = {name: tensor.clone() for name, tensor in network.state_dict().items() if "extra.2" in name}
    report = import_encoder(network, vgg_state(0.125))
    assert report.percent == 100
    assert (network.backbone.extra[0][7][1].weight == 0.125).all()
    assert (network.backbone.extra[0][7][3].weight == 0.125).all()
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in fresh.items())
    assert any("conv8 to conv11 and the scale of conv4_3 start fresh" in note for note in report.notes)


def test_vgg16s_first_convolution_sees_what_it_was_trained_on(pixels):
    state = vgg_state(0.0)
    network = create_model("ssd300_vgg16", 1)
    import_encoder(network, state)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    small = pixels[:, :40, :40]
    theirs = reference.convolved(state, ((small / 255 - mean) / deviation).permute(0, 3, 1, 2), "features.0")
    with torch.inference_mode():
        ours = network.backbone.features[0](network.input_spec.normalise(small))
    torch.testing.assert_close(ours[..., 1:-1, 1:-1], theirs[..., 1:-1, 1:-1], atol=1e-5, rtol=1e-4)


def test_features_without_fc6_and_fc7_are_taken_over_as_they_are(pixels):
    state = vgg_state(float("nan"))
    network = create_model("ssd300_vgg16", 1)
    report = import_encoder(network, state)
    x = network.input_spec.normalise(pixels[:, :72, :72])
    with torch.inference_mode():
        conv4, conv5 = reference.vgg_maps(state, x, lambda place: f"features.{place}")
        ours4 = network.backbone.features(x)
        ours5 = network.backbone.extra[0][:7](ours4)
    assert conv5.std() > 0.1
    torch.testing.assert_close(ours4, conv4, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours5, conv5, atol=1e-4, rtol=1e-4)
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert any("fc6, fc7, conv8" in note for note in report.notes)


def test_fc6_keeps_every_fourth_channel_and_every_third_place():
    """A linear layer on a 7x7 map that looks at those places alone is a 3x3 convolution of rate 3 at the centre."""
    random = torch.Generator().manual_seed(2)
    places = torch.zeros(7, 7)
    places[[[0], [3], [6]], [0, 3, 6]] = 1
    weight = torch.randn(8, 512, 7, 7, generator=random) * places
    x = torch.randn(1, 512, 7, 7, generator=random)
    linear = x.flatten(1) @ weight.flatten(1).T
    kernel = thinned("classifier.0", weight.flatten(1))
    found = torch.nn.functional.conv2d(x, kernel, dilation=3)
    torch.testing.assert_close(found.flatten(), linear[0, ::4], atol=1e-3, rtol=1e-4)


def test_vgg16_is_no_detector(tmp_path):
    torch.save({name: tensor for name, tensor in vgg_state(0.0).items() if "features" in name}, tmp_path / "vgg.pth")
    with pytest.raises(CheckpointMismatch, match=r"VGG-16 starts a training \(start.encoder\) of ssd300_vgg16"):
        import_checkpoint("ssd300_vgg16", tmp_path / "vgg.pth", 1)
