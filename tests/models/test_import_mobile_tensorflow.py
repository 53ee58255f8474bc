"""Weights by TensorFlow's names: imported networks compute what the published graph does, anything else is refused."""

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import reference_tf_mobile as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from featherseg.errors import FeathersegError
from featherseg.models.importer import CheckpointMismatch, import_checkpoint, import_encoder
from featherseg.models.registry import create_model

CLASSES = 5
TOLERANCE = 4e-4
CLASSIFIERS = {"shufflenet_v2": tf.shufflenet_classifier, "mobilenet_v2": tf.mobilenet_classifier}


def pixels(height, width, seed=0):
    """Noise on a coarse pattern, uint8 RGB ``[1, H, W, 3]``."""
    random = np.random.default_rng([seed, height, width])
    coarse = random.integers(0, 200, (1, -(-height // 16), -(-width // 16), 3))
    pattern = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    return (pattern + random.integers(0, 56, pattern.shape)).astype(np.uint8)


def saved(tmp_path, variables):
    np.savez(tmp_path / "weights.npz", **variables)
    return tmp_path / "weights.npz"


def close(found, expected):
    """Equal to 4e-4, for outputs that are neither constant nor tiny."""
    assert found.shape == expected.shape
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def run(network, images):
    with torch.inference_mode():
        return network(network.input_spec.normalise(torch.from_numpy(images)))


@pytest.fixture(scope="module")
def dpc():
    """Variables of a ShuffleNet V2 with the DPC head."""
    variables = tf.Variables()
    tf.segmentation(variables, pixels(33, 33), "shufflenet_v2", "dpc", CLASSES)
    return variables


@pytest.fixture(scope="module", params=CLASSIFIERS)
def imagenet(request):
    """A backbone, its ImageNet checkpoint's variables, images and their logits."""
    variables, images = tf.Variables(1), pixels(62, 97)
    return request.param, variables, images, CLASSIFIERS[request.param](variables, images * (2 / 255) - 1, CLASSES)


# 19x3 and 4x23 pixels for the head: its rates of 18 rows and 21 columns still see the map.
@pytest.mark.parametrize("size", [(304, 48), (49, 353)], ids=["even", "odd"])
@pytest.mark.parametrize("head", ["basic", "dpc"])
@pytest.mark.parametrize("backbone", CLASSIFIERS)
def test_published_networks_compute_what_the_graph_does(tmp_path, backbone, head, size):
    variables, images = tf.Variables(), pixels(*size)
    expected = tf.segmentation(variables, images, backbone, head, CLASSES)
    network, report = import_checkpoint(f"{backbone}_{head}", saved(tmp_path, variables))
    close(run(network, images).logits.permute(0, 2, 3, 1).numpy(), expected)
    assert report.percent == 100
    assert not network.training


@pytest.mark.parametrize("head", ["aspp", "deeplab_v3"])
def test_pyramid_heads_compute_what_the_graph_does(tmp_path, head):
    variables, images = tf.Variables(), pixels(64, 305)
    expected = tf.segmentation(variables, images, "shufflenet_v2", head, CLASSES)
    network, _ = import_checkpoint(f"shufflenet_v2_{head}", saved(tmp_path, variables))
    close(run(network, images).logits.permute(0, 2, 3, 1).numpy(), expected)


def test_imagenet_classifiers_compute_what_the_graph_does(tmp_path, imagenet):
    backbone, variables, images, expected = imagenet
    network, report = import_checkpoint(backbone, saved(tmp_path, variables))
    close(run(network, images).numpy(), expected)
    assert report.percent == 100


@pytest.mark.parametrize("trunk_alone", [False, True])
def test_imagenet_checkpoints_start_an_encoder(tmp_path, imagenet, trunk_alone):
    backbone, variables, images, _ = imagenet
    others = [name for name in variables if any(part in name for part in ("Conv5", "Conv_1", "classifier", "Logits"))]
    given = {name: value for name, value in variables.items() if not (trunk_alone and name in others)}
    network = create_model(f"{backbone}_dpc", output_stride=32, padding="tf_same").eval()
    report = import_encoder(network, saved(tmp_path, given))
    assert sorted(report.ignored) == ([] if trunk_alone else sorted(others))
    assert report.percent == 100
    with torch.inference_mode():
        found = network.base(network.input_spec.normalise(torch.from_numpy(images)))[1]
    trunk = {"shufflenet_v2": tf.shufflenet, "mobilenet_v2": tf.mobilenet}[backbone]
    close(found.permute(0, 2, 3, 1).numpy(), trunk(variables, images * (2 / 255) - 1, output_stride=32))
    assert not any("give" in note for note in report.notes)


def test_a_whole_network_starts_an_encoder(tmp_path, dpc):
    network = create_model("shufflenet_v2_basic", padding="tf_same")
    report = import_encoder(network, saved(tmp_path, dpc))
    assert "meta_architecture/branch0_depthwise/depthwise_weights" in report.ignored
    kernel = network.base.conv1.conv.weight.detach().numpy()
    np.testing.assert_array_equal(kernel.transpose(2, 3, 1, 0), dpc["ShuffleNetV2/Conv1/weights"])


def test_a_network_is_built_as_its_source_was(tmp_path, dpc):
    network, report = import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, dpc))
    assert report.arguments == {
        "padding": "tf_same",
        "normalisation": "unit",
        "backbone_eps": 1e-3,
        "routing": "tf",
        "stage2_mid_channels": 24,
        "dilation": "released",
    }
    assert network.logits.out_channels == CLASSES
    assert any("published TensorFlow" in line for line in report.lines())


def test_arguments_that_are_given_win(tmp_path, dpc):
    network, report = import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, dpc), dilation="paper", output_stride=8)
    assert report.arguments["dilation"] == "paper"
    assert network.input_spec.output_stride == 8


def test_what_only_a_training_needs_is_reported_and_not_fatal(tmp_path, dpc):
    extra = {
        "global_step": np.int64(120000),
        "beta1_power": np.float32(0),
        "ShuffleNetV2/Conv1/weights/Adam": dpc["ShuffleNetV2/Conv1/weights"] * 0,
        "ShuffleNetV2/Conv1/weights/Adam_1": dpc["ShuffleNetV2/Conv1/weights"] * 0,
        "ShuffleNetV2/Conv1/batch_norm/gamma/Momentum": np.zeros(24),
        "logits/semantic/biases/ExponentialMovingAverage": np.zeros(CLASSES),
    }
    network, report = import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, {**extra, **dpc}))
    assert set(report.ignored) == set(extra)
    assert report.percent == 100
    assert "global_step" in " ".join(report.lines())
    np.testing.assert_array_equal(network.logits.bias.detach().numpy(), dpc["logits/semantic/biases"])


def test_names_may_end_as_tensors_names_do(tmp_path, dpc):
    path = saved(tmp_path, {f"{name}:0": value.astype(">f8") for name, value in dpc.items()})
    network, report = import_checkpoint("shufflenet_v2_dpc", path)
    assert report.percent == 100
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("theirs", "ours"), [("dpc", "basic"), ("basic", "dpc"), ("basic", "aspp"), ("aspp", "deeplab_v3")]
)
def test_another_head_is_refused_by_its_name(tmp_path, theirs, ours):
    variables = tf.Variables()
    tf.segmentation(variables, pixels(17, 17), "shufflenet_v2", theirs, CLASSES)
    with pytest.raises(CheckpointMismatch, match=f"It is a checkpoint of shufflenet_v2_{theirs}") as caught:
        import_checkpoint(f"shufflenet_v2_{ours}", saved(tmp_path, variables))
    assert any(name.startswith("head.") for name in caught.value.report.missing)


def test_unexpected_variables_are_named_as_in_the_file(tmp_path, dpc):
    scope = "decoder/feature_projection0"
    with pytest.raises(CheckpointMismatch) as caught:
        import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, {**dpc, f"{scope}/weights": np.zeros((1, 1, 24, 48))}))
    assert caught.value.report.unexpected == (f"{scope}/weights",)
    assert f"{scope}/weights" in str(caught.value)


def test_a_missing_variable_is_refused(tmp_path, dpc):
    kept = {name: value for name, value in dpc.items() if name != "meta_architecture/branch4_pointwise/weights"}
    with pytest.raises(CheckpointMismatch) as caught:
        import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, kept))
    assert caught.value.report.missing == ("head.branches.4.pointwise.conv.weight",)


@pytest.mark.parametrize("shape", [(3, 3, 24), (3, 24, 24, 1), ()], ids=str)
def test_a_variable_of_another_shape_is_refused(tmp_path, dpc, shape):
    name = "ShuffleNetV2/Stage2/unit_1/depthwise/depthwise_weights"
    with pytest.raises(CheckpointMismatch) as caught:
        import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, {**dpc, name: np.zeros(shape)}))
    assert len(caught.value.report.shape_mismatch) == 1
    assert "base.stage2.0.main.depthwise.conv.weight" in caught.value.report.shape_mismatch[0]


def test_an_encoder_is_no_network(tmp_path, imagenet):
    backbone, variables, _, _ = imagenet
    said = rf"It is of {backbone}, and not.*start\.encoder.*{backbone}_\*.*padding: tf_same"
    with pytest.raises(CheckpointMismatch, match=said):
        import_checkpoint(f"{backbone}_dpc", saved(tmp_path, variables))


def test_one_variable_under_two_names_is_refused(tmp_path, dpc):
    clash = {**dpc, "concat_projection/weights": dpc["meta_architecture/concat_projection/weights"]}
    with pytest.raises(FeathersegError, match="are the same"):
        import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, clash))


class Exploit:
    """Pickles as a call that leaves a folder behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def as_object_array(path, exploit):
    np.savez(path, **{"ShuffleNetV2/Conv1/weights": np.array([exploit], dtype=object)})


def as_member(path, exploit):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ShuffleNetV2/Conv1/weights.npy", pickle.dumps(exploit))


def as_pickle(path, exploit):
    path.write_bytes(pickle.dumps({"ShuffleNetV2/Conv1/weights": exploit}))


def as_checkpoint(path, exploit):
    torch.save({"ShuffleNetV2/Conv1/weights": exploit}, path)


@pytest.mark.parametrize("disguise", [as_object_array, as_member, as_pickle, as_checkpoint])
def test_a_pickle_posing_as_weights_is_refused_and_not_run(tmp_path, disguise):
    mark = tmp_path / "was-run"
    disguise(tmp_path / "weights.npz", Exploit(mark))
    with pytest.raises(FeathersegError, match=r"weights\.npz: (refused, nothing of it was run|not a readable)"):
        import_checkpoint("shufflenet_v2_dpc", tmp_path / "weights.npz")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Exploit(mark)))
    assert mark.exists(), "the exploit is harmless by itself, so that the test above shows nothing"


@pytest.mark.parametrize("values", [np.array(["text"]), np.array([1j]), np.array(["2020-01-01"], "datetime64[D]")])
def test_arrays_of_no_numbers_are_refused(tmp_path, values):
    with pytest.raises(FeathersegError, match="no array of numbers"):
        import_checkpoint("shufflenet_v2_dpc", saved(tmp_path, {"global_step": values}))


def _small_archive():
    buffer = io.BytesIO()
    np.savez(buffer, **{"ShuffleNetV2/Conv1/weights": np.ones((3, 3, 3, 24), np.float32), "global_step": np.int64(3)})
    return buffer.getvalue()


@settings(max_examples=150)
@given(st.data())
def test_a_garbled_archive_is_refused_without_a_traceback(tmp_path_factory, data):
    content = bytearray(_small_archive())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
            content[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "garbled.npz"
    path.write_bytes(bytes(content))
    # Even whole it is no network.
    with pytest.raises(FeathersegError, match=r"garbled\.npz"):
        import_checkpoint("shufflenet_v2_basic", path)
