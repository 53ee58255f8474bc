"""Exporting, as far as it needs no runtime: the doors, the graph and the images for int8."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from featherseg.cli.main import main
from featherseg.deploy import doors
from featherseg.deploy.calibration import calibration_images, covering
from featherseg.deploy.export import export, network_and_metadata, open_door
from featherseg.deploy.label_graph import LabelGraph, fold_batch_norm
from featherseg.deploy.parity import noise_pictures, scene_pictures
from featherseg.errors import FeathersegError
from featherseg.models.output import InputSpec


def drawn_batch_norm(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
            nn.init.uniform_(layer.weight, 0.7, 1.4, generator=generator)
    return network


@pytest.mark.parametrize("name", ["shufflenet_v2_dpc", "mobilenet_v2_basic", "fassd_net_l2", "drbanet"])
def test_folding_batch_norm_leaves_the_logits_alone(name):
    network = drawn_batch_norm(network_and_metadata(name)[0])
    image = torch.rand(1, 3, 65, 97, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        expected, found = network(image).logits, fold_batch_norm(network, (65, 97))(image).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["shufflenet_v2_dpc", "mobilenet_v2_basic"])
def test_every_batch_norm_of_the_mobile_networks_is_folded(name):
    folded = fold_batch_norm(network_and_metadata(name)[0], (33, 33))
    assert not [layer for layer in folded.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_folding_keeps_the_network_itself():
    network, _ = network_and_metadata("shufflenet_v2_basic")
    before = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    fold_batch_norm(network, (33, 33))
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()) == before > 0


def test_a_batch_norm_that_reads_a_sum_is_not_folded():
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            return self.norm(self.conv(x) + x)

    assert isinstance(fold_batch_norm(Sum(), (4, 4)).norm, nn.BatchNorm2d)


def test_the_graph_gives_the_labels_of_the_network():
    network, _ = network_and_metadata("mobilenet_v2_basic")
    nn.init.normal_(network.logits.weight)  # type: ignore[union-attr]
    image = torch.from_numpy(next(noise_pictures((33, 49)))[1])[None]
    spec: InputSpec = network.input_spec  # type: ignore[assignment]
    with torch.inference_mode():
        expected = spec.enlarge(network(spec.normalise(image)).logits, (33, 49)).argmax(1)
        given_labels = LabelGraph(network, (33, 49))(image)
    assert given_labels.dtype == torch.int32
    assert (given_labels == expected).double().mean() > 0.999


def test_the_graph_lays_its_kernels_out_channels_first():
    network = network_and_metadata("fassd_net_l2")[0].to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    kernels = [tensor for tensor in LabelGraph(network, (64, 64)).parameters() if tensor.dim() == 4]
    assert kernels
    assert all(tensor.stride() == torch.empty(tensor.shape).stride() for tensor in kernels)


@pytest.mark.parametrize("size", [(65, 97), (8, 200), (1, 1)])
def test_pictures_of_the_gate_have_the_exports_size(size):
    shapes = {image.shape for _, image in [*noise_pictures(size), *scene_pictures(size, 2)]}
    assert shapes == {(*size, 3)}


@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 40)), size=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_an_image_is_fitted_without_borders_and_of_the_size_asked_for(shape, size):
    fitted = covering(np.full((*shape, 3), 200, np.uint8), size)
    assert fitted.shape == (*size, 3)
    assert (fitted == 200).all()


def test_an_image_twice_as_wide_loses_its_sides():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, 5:15] = 255
    assert (covering(image, (10, 10)) == 255).all()


def test_labels_are_fitted_without_inventing_ids():
    label = np.random.default_rng(0).choice(np.array([0, 7, 255], np.uint8), (30, 41))
    assert set(np.unique(covering(label, (17, 19), nearest=True))) <= {0, 7, 255}


def write_pictures(folder, count):
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:02}.png"), np.full((40, 50, 3), number, np.uint8))


def test_a_folder_of_pictures_is_split_into_calibration_and_judging(tmp_path):
    write_pictures(tmp_path, 20)
    images = calibration_images(tmp_path, (16, 16))
    used, judged = ({sample.key for sample in part} for part in (images.calibration, images.judging))
    assert (len(used), len(judged), used & judged, images.labels) == (16, 4, set(), None)


def test_a_data_set_is_calibrated_on_one_split_and_judged_on_the_next():
    images = calibration_images("streets", (48, 64), count=12, judged=3)
    assert {sample.key.split("-")[1] for sample in images.calibration} == {"train"}
    assert {sample.key.split("-")[1] for sample in images.judging} == {"val"}
    assert images.labels is not None


def test_fewer_than_ten_images_are_refused(tmp_path):
    write_pictures(tmp_path, 9)
    with pytest.raises(FeathersegError, match="at least 10"):
        calibration_images(tmp_path, (16, 16))


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(FeathersegError, match="holds no data set"):
        calibration_images(tmp_path, (16, 16))


def test_an_unknown_runtime_is_refused_with_the_nearest_name():
    with pytest.raises(FeathersegError, match="did you mean 'litert'"):
        open_door("litrt")


@pytest.mark.parametrize("runtime", doors.DOORS)
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, runtime):
    package = {"litert": "litert-torch", "coreml": "coremltools"}.get(runtime, runtime)
    monkeypatch.setattr(doors, "find_spec", lambda name: None)
    with pytest.raises(FeathersegError, match=rf"{package}.*pip install 'featherseg\[{runtime}\]'"):
        open_door(runtime)


@pytest.fixture
def packages_present(monkeypatch):
    monkeypatch.setattr(doors, "find_spec", lambda name: True)


def test_another_suffix_is_refused(packages_present, tmp_path):
    network, about = network_and_metadata("shufflenet_v2_basic")
    with pytest.raises(FeathersegError, match=r"end in \.tflite"):
        export(network, about, "litert", tmp_path / "a.onnx", size=(33, 33))


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_done(packages_present, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    told = []
    network, about = network_and_metadata("shufflenet_v2_basic")
    with pytest.raises(FeathersegError, match=r"a\.onnx: cannot be written"):
        export(network, about, "onnx", tmp_path / "file" / "a.onnx", told=told.append)
    assert told == []


def test_calibration_images_without_int8_are_refused(packages_present, tmp_path):
    network, about = network_and_metadata("shufflenet_v2_basic")
    with pytest.raises(FeathersegError, match="int8"):
        export(network, about, "litert", tmp_path / "a.tflite", size=(33, 33), calibrate="streets")


def test_the_command_without_the_packages_ends_with_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(doors, "find_spec", lambda name: None)
    target = str(tmp_path / "a.tflite")
    assert main(["export", "shufflenet_v2_basic", "--to", "litert", "--size", "33x33", "-o", target]) == 2
    assert capsys.readouterr().err.count("\n") == 1


class Sky:
    """A session that labels everything as class 0."""

    output, runtime = "labels", "litert"

    def run(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(images.shape[:3], dtype=torch.uint8)


@pytest.fixture
def sky_door(monkeypatch):
    """LiteRT's door, behind which nothing is converted and everything is sky."""
    module = SimpleNamespace(
        PACKAGES=(),
        make_graph=lambda network, **asked: network,
        convert=lambda graph: b"",
        quantise=lambda content, images: content,
        open_session=lambda content, where, **running: Sky(),
        with_metadata=lambda content, values: content,
        files=lambda content: {".tflite": content},
        operators=lambda content: {},
    )
    monkeypatch.setattr("featherseg.deploy.export.open_door", lambda runtime: (doors.DOORS[runtime], module))


@pytest.mark.usefixtures("sky_door")
@pytest.mark.parametrize(("fresh", "distance", "warned"), [(False, 7.0, 1), (False, None, 0), (True, 7.0, 0)])
def test_int8_of_images_of_another_kind_is_warned_of_but_for_fresh_weights(
    monkeypatch, tmp_path, capsys, fresh, distance, warned
):
    network, about = network_and_metadata("shufflenet_v2_basic")
    about = {key: value for key, value in about.items() if fresh or key != "untrained"}
    monkeypatch.setattr("featherseg.deploy.export.network_and_metadata", lambda name: (network, about))
    monkeypatch.setattr("featherseg.deploy.export.unlike_training", lambda network, images: distance)
    write_pictures(tmp_path, 20)
    asked = ["--to", "litert", "--size", "33x33", "--int8", "--calibrate", str(tmp_path), "--force"]
    assert main(["export", "mine", *asked, "-o", str(tmp_path / "a.tflite")]) == 0
    said = capsys.readouterr().err
    assert said.count(f"warning: the images of {tmp_path} are of another kind") == warned
    assert said.count("distance 7") == warned
