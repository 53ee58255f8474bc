"""Weights by torchvision's, tonylins' and lukemelas' names: imported networks compute what their sources do."""

import os

import numpy as np
import pytest
import reference_torch_mobile as reference
import torch
import yaml
from PIL import Image

from featherseg.cli.main import main
from featherseg.errors import FeathersegError
from featherseg.models.import_mobile import SOURCES
from featherseg.models.importer import CheckpointMismatch, import_checkpoint, import_encoder
from featherseg.models.registry import create_model
from featherseg.models.weights import build_network, describe_network, read_weights, save_weights
from featherseg.recipes.reading import parse_recipe
from featherseg.training.start import build_initial_network

CLASSES = 7
# By source: the classifier it becomes, its output, its encoder's output, and the arguments an encoder of it goes with.
CASES = {
    "torchvision shufflenet": (
        "shufflenet_v2",
        reference.torchvision_shufflenet,
        reference.torchvision_shufflenet_trunk,
        {"routing": "torchvision", "stage2_mid_channels": 58, "normalisation": "imagenet", "backbone_eps": 1e-5},
    ),
    "torchvision mobilenet": (
        "mobilenet_v2",
        lambda state, images, classes: reference.mobilenet(state, images, classes, nested=True),
        lambda state, images: reference.mobilenet_trunk(state, images, nested=True),
        {"normalisation": "imagenet", "backbone_eps": 1e-5},
    ),
    "tonylins mobilenet": (
        "mobilenet_v2",
        lambda state, images, classes: reference.mobilenet(state, images, classes, nested=False),
        lambda state, images: reference.mobilenet_trunk(state, images, nested=False),
        {"normalisation": "imagenet", "backbone_eps": 1e-5},
    ),
    "lukemelas lite0": ("efficientnet_lite0", reference.lite0, reference.lite0_trunk, {}),
}
SHARED = {
    "mobilenet_v2": "mobilenetv2_1.0_imagenet_features_mixed16.pth",
    "efficientnet_lite0": "efficientnet_lite0_imagenet_mixed16.pth",
}
SHARED_ARGUMENTS = {"mobilenet_v2": {"normalisation": "imagenet", "backbone_eps": 1e-5}, "efficientnet_lite0": {}}


def pixels(height=62, width=97):
    """Noise on a coarse pattern, uint8 RGB ``[1, H, W, 3]``."""
    random = np.random.default_rng([height, width])
    coarse = random.integers(0, 200, (1, -(-height // 16), -(-width // 16), 3))
    pattern = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    return torch.from_numpy((pattern + random.integers(0, 56, pattern.shape)).astype(np.uint8))


def close(found, expected):
    """Equal to 4e-4, for outputs that are neither constant nor tiny."""
    assert found.shape == expected.shape
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, atol=4e-4, rtol=0)


def run(network, images):
    with torch.inference_mode():
        return network(network.input_spec.normalise(images))


def run_encoder(network, images):
    with torch.inference_mode():
        return network.eval().base(network.input_spec.normalise(images))[1]


def saved(tmp_path, state):
    torch.save(dict(state), tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


@pytest.fixture(scope="module")
def states():
    """A random state dict of every source, from the names that its reference asks for."""
    found = {}
    for case, (_, classifier, _, _) in CASES.items():
        found[case] = reference.RandomState()
        classifier(found[case], pixels(33, 33), CLASSES)
    return found


@pytest.mark.parametrize("case", CASES)
def test_classifiers_compute_what_their_source_does(tmp_path, states, case):
    name, classifier, _, _ = CASES[case]
    network, report = import_checkpoint(name, saved(tmp_path, states[case]))
    close(run(network, pixels()), classifier(states[case], pixels(), CLASSES))
    assert report.percent == 100
    assert report.complete
    assert report.counters_absent == ()
    assert not any("give" in note for note in report.notes)


@pytest.mark.parametrize("case", CASES)
def test_encoders_compute_what_their_source_does(tmp_path, states, case):
    name, _, trunk, arguments = CASES[case]
    network = create_model(f"{name}_basic", output_stride=32, **arguments)
    report = import_encoder(network, saved(tmp_path, states[case]))
    close(run_encoder(network, pixels()), trunk(states[case], pixels()))
    assert report.percent == 100
    assert any(key.endswith(("fc.weight", "classifier.1.weight")) for key in report.ignored)
    assert not any("give" in note for note in report.notes)


@pytest.mark.parametrize("case", CASES)
def test_arguments_that_differ_from_the_sources_are_reported(tmp_path, states, case):
    name, _, _, arguments = CASES[case]
    right = {"normalisation": "imagenet", "backbone_eps": "1.0e-05", "padding": "symmetric"}
    if name == "efficientnet_lite0":
        right = {"normalisation": "lite", "backbone_eps": "1.0e-03", "padding": "tf_same"}
    padding = "tf_same" if right["padding"] == "symmetric" else "symmetric"
    wrong = {"normalisation": "unit", "backbone_eps": 1e-4, "padding": padding}
    notes = import_encoder(create_model(f"{name}_dpc", **(arguments | wrong)), saved(tmp_path, states[case])).notes
    for argument, value in right.items():
        assert any(note.endswith(f"give {argument}={value}") for note in notes)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.title)
def test_the_advice_on_arguments_is_what_a_recipe_takes(source):
    advised = yaml.safe_load("{" + source.advice().rsplit("{", 1)[1].rstrip("."))
    assert advised == {k: v for k, v in source.arguments_for(f"{source.backbone}_dpc").items() if k != "dilation"}
    create_model(f"{source.backbone}_dpc", **advised)


def test_the_wrong_routing_is_refused_and_nothing_is_loaded(tmp_path, states):
    network = create_model("shufflenet_v2_dpc", stage2_mid_channels=58)
    before = network.base.conv1.conv.weight.clone()
    with pytest.raises(FeathersegError, match=r"routed as in torchvision.*routing=torchvision"):
        import_encoder(network, saved(tmp_path, states["torchvision shufflenet"]))
    assert torch.equal(network.base.conv1.conv.weight, before)


def test_the_wrong_width_is_refused_with_the_right_arguments(tmp_path, states):
    network = create_model("shufflenet_v2_dpc", routing="torchvision")
    with pytest.raises(CheckpointMismatch, match="stage2_mid_channels: 58") as caught:
        import_encoder(network, saved(tmp_path, states["torchvision shufflenet"]))
    assert all("base.stage2.0.main" in name for name in caught.value.report.shape_mismatch)


def test_another_backbone_is_refused_with_the_right_networks(tmp_path, states):
    with pytest.raises(CheckpointMismatch, match=r"starts a training .* of the networks mobilenet_v2_\*"):
        import_encoder(create_model("shufflenet_v2_dpc"), saved(tmp_path, states["torchvision mobilenet"]))


@pytest.mark.parametrize(("theirs", "ours"), [("dpc", "basic"), ("aspp", "deeplab_v3"), ("basic", "dpc")])
def test_our_own_checkpoint_of_another_head_is_refused_by_its_name(tmp_path, theirs, ours):
    path = saved(tmp_path, create_model(f"mobilenet_v2_{theirs}", CLASSES).state_dict())
    with pytest.raises(CheckpointMismatch, match=f"It is a checkpoint of mobilenet_v2_{theirs}"):
        import_checkpoint(f"mobilenet_v2_{ours}", path)


def test_classes_are_read_off_our_own_checkpoint(tmp_path):
    path = saved(tmp_path, create_model("mobilenet_v2_basic", CLASSES).state_dict())
    assert import_checkpoint("mobilenet_v2_basic", path)[0].logits.out_channels == CLASSES


def test_an_encoder_without_last_layer_becomes_a_classifier_of_zeros(tmp_path, states):
    state = {key: value for key, value in states["tonylins mobilenet"].items() if not key.startswith("classifier")}
    network, report = import_checkpoint("mobilenet_v2", saved(tmp_path, state))
    assert report.missing == ("fc.weight", "fc.bias")
    assert any("no last layer" in line for line in report.lines())
    assert not run(network, pixels()).any()
    assert torch.equal(network.head.conv.weight, state["features.18.0.weight"])


def test_anything_else_that_is_missing_is_refused(tmp_path, states):
    state = {key: value for key, value in states["tonylins mobilenet"].items() if key != "classifier.1.bias"}
    with pytest.raises(CheckpointMismatch) as caught:
        import_checkpoint("mobilenet_v2", saved(tmp_path, state))
    assert caught.value.report.missing == ("fc.bias",)


def test_half_precision_becomes_single(tmp_path, states):
    state = {key: value.half() if value.dim() > 1 else value for key, value in states["lukemelas lite0"].items()}
    network, _ = import_checkpoint("efficientnet_lite0", saved(tmp_path, state))
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32, torch.int64}
    close(run(network, pixels()), reference.lite0(state, pixels(), CLASSES))


def test_unexpected_tensors_are_named_as_in_the_file(tmp_path, states):
    extra = {**states["torchvision mobilenet"], "features.18.0.bias": torch.zeros(1280), "ema.decay": torch.zeros(1)}
    with pytest.raises(CheckpointMismatch) as caught:
        import_checkpoint("mobilenet_v2", saved(tmp_path, extra))
    assert caught.value.report.unexpected == ("features.18.0.bias", "ema.decay")


class Exploit:
    """Pickles as a call that leaves a folder behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, states):
    mark = tmp_path / "was-run"
    path = saved(tmp_path, {**states["torchvision mobilenet"], "classifier.1.bias": Exploit(mark)})
    with pytest.raises(FeathersegError, match="refused, nothing of it was run"):
        import_encoder(create_model("mobilenet_v2_basic"), path)
    assert not mark.exists()


def test_the_command_writes_a_classifier_that_rebuilds(tmp_path, states, capsys):
    case = "torchvision shufflenet"
    out = tmp_path / "ours.safetensors"
    assert main(["import", "shufflenet_v2", str(saved(tmp_path, states[case])), "-o", str(out)]) == 0
    assert "100.00 %" in capsys.readouterr().out
    network = build_network(read_weights(out), str(out))
    close(run(network, pixels()), reference.torchvision_shufflenet(states[case], pixels(), CLASSES))


def test_the_command_takes_arguments_of_the_network(tmp_path, capsys):
    given = create_model("mobilenet_v2_basic", 3).state_dict()
    out = tmp_path / "ours.safetensors"
    arguments = ["import", "mobilenet_v2_basic", str(saved(tmp_path, given)), "output_stride=8", "-o", str(out)]
    assert main(arguments) == 0
    weights = read_weights(out)
    assert weights.metadata["arguments"] == {"output_stride": 8}
    assert build_network(weights, str(out)).input_spec.output_stride == 8


@pytest.mark.parametrize("argument", ["output_strid=8", "num_classes=3", "device=cpu", "output_stride=7", "nonsense"])
def test_the_command_refuses_arguments_that_the_network_does_not_take(tmp_path, capsys, argument):
    path = saved(tmp_path, create_model("mobilenet_v2_basic", 3).state_dict())
    out = tmp_path / "ours.safetensors"
    assert main(["import", "mobilenet_v2_basic", str(path), argument, "-o", str(out)]) == 2
    assert argument.split("=")[0] in capsys.readouterr().err
    assert not out.exists()


def test_our_own_weights_file_says_what_its_network_expected(tmp_path):
    classifier = create_model("mobilenet_v2", CLASSES)
    about = describe_network(classifier, "mobilenet_v2", CLASSES)
    path = save_weights(tmp_path / "ours.safetensors", classifier.state_dict(), about)
    notes = import_encoder(create_model("mobilenet_v2_dpc"), path).notes
    assert any("give normalisation=imagenet" in note for note in notes)
    right = create_model("mobilenet_v2_dpc", normalisation="imagenet", backbone_eps=1e-5)
    assert import_encoder(right, path).notes == ()


def shared_file(shared_data, name):
    return shared_data / "pretrained-weights" / SHARED[name]


@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED)
def test_shared_files_match_strictly(shared_data, name):
    _, report = import_checkpoint(name, shared_file(shared_data, name))
    assert report.missing == (("fc.weight", "fc.bias") if name == "mobilenet_v2" else ())
    assert (report.unexpected, report.ignored, report.shape_mismatch, report.counters_absent) == ((), (), (), ())


@pytest.mark.shared
def test_the_shared_classifier_computes_what_its_source_does(shared_data):
    path = shared_file(shared_data, "efficientnet_lite0")
    network, _ = import_checkpoint("efficientnet_lite0", path)
    state = torch.load(path, weights_only=True)
    close(run(network, pixels(224, 224)), reference.lite0(state, pixels(224, 224), 1000))


@pytest.mark.shared
def test_the_shared_features_are_what_their_source_computes(shared_data):
    path = shared_file(shared_data, "mobilenet_v2")
    network, _ = import_checkpoint("mobilenet_v2", path)
    expected = reference.mobilenet_features(torch.load(path, weights_only=True), pixels(), nested=False)
    with torch.inference_mode():
        close(network.head(run_encoder(network, pixels())), expected)


@pytest.mark.shared
@pytest.mark.parametrize("head", ["basic", "dpc"])
@pytest.mark.parametrize("name", SHARED)
def test_recipes_start_from_shared_files_as_they_are(shared_data, name, head):
    path = shared_file(shared_data, name)
    arguments = SHARED_ARGUMENTS[name] | {"output_stride": 32}
    recipe = parse_recipe(
        {
            "name": "start",
            "model": {"name": f"{name}_{head}", "arguments": arguments},
            "data": {"source": "nowhere"},
            "augment": {"crop": [64, 64]},
            "train": {"steps": 1, "batch_size": 2},
            "start": {"encoder": str(path)},
        },
        "test",
    )
    network, start = build_initial_network(recipe, CLASSES)
    assert start is not None
    assert "100.00 %" in start.lines[0]
    assert not any("give" in line for line in start.lines)
    trunk = {
        "mobilenet_v2": lambda state: reference.mobilenet_trunk(state, pixels(), nested=False),
        "efficientnet_lite0": lambda state: reference.lite0_trunk(state, pixels()),
    }[name]
    close(run_encoder(network, pixels()), trunk(torch.load(path, weights_only=True)))


@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED)
def test_shared_encoders_tell_things_apart(shared_data, name):
    """Three pictures a class make a class mean; chance is 1 in 8."""
    network = create_model(f"{name}_basic", output_stride=32, **SHARED_ARGUMENTS[name])
    import_encoder(network, shared_file(shared_data, name))
    classes = ("airplanes", "Motorbikes", "Leopards", "car_side", "watch", "ketch", "sunflower", "pagoda")
    features = []
    for label in classes:
        files = sorted((shared_data / "caltech101-s168/images" / label).iterdir())[:6]
        pictures = [np.array(Image.open(file).convert("RGB").resize((128, 128))) for file in files]
        features.append(run_encoder(network, torch.from_numpy(np.stack(pictures))).mean((2, 3)))
    together = torch.nn.functional.normalize(torch.stack(features), dim=2)
    means, questions = together[:, :3].mean(1), together[:, 3:]
    answers = (questions @ means.T).argmax(2)
    assert (answers == torch.arange(len(classes))[:, None]).float().mean() > 0.8
