"""Weights files: what is written comes back, and whatever is wrong with a file is one FeathersegError."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from synthetic_weights import synthetic_images, synthetic_network

from featherseg.errors import FeathersegError
from featherseg.models import weights as module
from featherseg.models.weights import (
    Weights,
    build_network,
    describe_network,
    read_metadata,
    read_weights,
    save_weights,
)


@pytest.fixture(scope="module")
def network():
    return synthetic_network("fassd_net_l2", 3)


@pytest.fixture(scope="module")
def metadata(network):
    return describe_network(network, "fassd_net_l2", 3)


@pytest.fixture
def small_file(tmp_path, metadata):
    return save_weights(tmp_path / "small.safetensors", {"a": torch.arange(6.0).reshape(2, 3)}, metadata)


def test_arguments_travel_with_the_weights(tmp_path):
    from featherseg.models.registry import create_model

    wide = create_model("fassd_net", 2, alpha=4)
    file = save_weights(tmp_path / "w", wide.state_dict(), describe_network(wide, "fassd_net", 2, {"alpha": 4}))
    assert build_network(read_weights(file), "w").DAPF.conv1x1.out_channels == 56


def test_the_input_spec_of_the_file_is_followed(tmp_path, network, metadata):
    changed = {**metadata, "input_spec": {**metadata["input_spec"], "color_order": "RGB", "min_size": 96}}
    file = save_weights(tmp_path / "w", network.state_dict(), changed)
    spec = build_network(read_weights(file), "w").input_spec
    assert (spec.color_order, spec.min_size, spec.mean) == ("RGB", 96, network.input_spec.mean)


def test_half_storage_rounds_kernels_by_half_a_unit_and_keeps_vectors(tmp_path, network, metadata):
    state = network.state_dict()
    whole = save_weights(tmp_path / "whole", state, metadata)
    half = save_weights(tmp_path / "half", state, metadata, half=True)
    assert half.stat().st_size < 0.56 * whole.stat().st_size
    for name, tensor in read_weights(half).tensors.items():
        if state[name].dim() > 1:
            # 2^-11 relative where float16 is normal, half of its smallest step 2^-24 below.
            bound = torch.clamp(state[name].abs() * 2**-11, min=2**-25)
            assert tensor.dtype == torch.float32
            assert ((tensor - state[name]).abs() <= bound).all()
        else:
            assert torch.equal(tensor, state[name])


def test_half_storage_keeps_the_label_map(tmp_path, network, metadata):
    file = save_weights(tmp_path / "half", network.state_dict(), metadata, half=True)
    images = synthetic_images(128, 128)
    with torch.no_grad():
        whole = network(images).logits.argmax(1)
        half = build_network(read_weights(file), "half")(images).logits.argmax(1)
    assert (whole == half).float().mean() > 0.98


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FeathersegError, match="there is no such weights file"):
        read_weights(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_posing_as_weights_is_refused_and_not_run(tmp_path, zipped):
    class Exploit:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was-run"),)

    file = tmp_path / "model.safetensors"
    torch.save({"a": Exploit()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(FeathersegError, match=r"PyTorch pickle.*featherseg import"):
        read_weights(file)
    assert not (tmp_path / "was-run").exists()


def test_safetensors_of_another_program_are_told_apart(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(FeathersegError, match="without featherseg's metadata"):
        read_weights(tmp_path / "other.safetensors")


def test_a_newer_format_is_refused(tmp_path, metadata):
    file = save_weights(tmp_path / "w", {"a": torch.zeros(1)}, {**metadata, "format": module.FORMAT + 1})
    with pytest.raises(FeathersegError, match="Upgrade featherseg"):
        read_metadata(file)


def test_weights_for_another_network_name_what_differs(network, metadata):
    with pytest.raises(
        FeathersegError, match=r"not for fassd_net: tensors \d+ missing .*unexpected .*of another shape"
    ):
        build_network(Weights(network.state_dict(), {**metadata, "architecture": "fassd_net"}), "w")


def test_weights_for_another_number_of_classes_are_refused(network, metadata):
    with pytest.raises(FeathersegError, match=r"2 of another shape \(finalConv\.weight, finalConv\.bias\)"):
        build_network(Weights(network.state_dict(), {**metadata, "num_classes": 19}), "w")


def test_damaged_files_never_end_in_another_exception(small_file):
    whole = small_file.read_bytes()
    header_end = 8 + int.from_bytes(whole[:8], "little")
    random = np.random.default_rng(5)
    refused = unnamed = 0
    for trial in range(400):
        content = bytearray(whole)
        if trial % 4 == 0:
            content = content[: random.integers(len(content))]
        else:
            for position in random.integers(header_end, size=1 + trial % 7):
                content[position] = random.integers(256)
        small_file.write_bytes(bytes(content))
        try:
            read_weights(small_file)
        except FeathersegError as error:
            refused += 1
            unnamed += str(small_file) not in str(error)
    assert refused > 200
    assert unnamed == 0


WRONG_VALUES = (None, "text", -1, 3.5, 10**30, [], [1], {}, {"x": 1}, {"num_classes": 2}, True)


@pytest.mark.parametrize("key", ["format", "architecture", "arguments", "num_classes", "input_spec"])
def test_wrong_metadata_never_ends_in_another_exception(tmp_path, metadata, key):
    for value in (*WRONG_VALUES, "absent"):
        garbled = {name: old for name, old in metadata.items() if name != key or value != "absent"}
        if value != "absent":
            garbled[key] = value
        file = tmp_path / "w"
        file.write_bytes(save({"a": torch.zeros(1)}, {module.METADATA_KEY: json.dumps(garbled)}))
        with pytest.raises(FeathersegError, match="^" + str(file)):
            build_network(read_weights(file), str(file))


@pytest.mark.parametrize("key", ["color_order", "mean", "std", "min_size", "output_stride", "align_corners"])
def test_a_wrong_input_spec_is_refused(network, metadata, key):
    for value in (None, "text", -1, [1], {"x": 1}, [0.1, "b", 0.2]):
        spec = {**metadata["input_spec"], key: value}
        with pytest.raises(FeathersegError, match=r"^w: the metadata"):
            build_network(Weights(network.state_dict(), {**metadata, "input_spec": spec}), "w")


def test_wrong_arguments_in_the_metadata_are_refused(metadata):
    metadata = {**metadata, "architecture": "fassd_net"}
    for arguments in ({"alpha": "two"}, {"alpha": 0}, {"alpha": None}, {"alpha": 1000}, {"beta": 1}):
        with pytest.raises(FeathersegError, match=r"alpha|beta"):
            build_network(Weights({}, {**metadata, "arguments": arguments}), "w")


def test_a_full_disk_leaves_the_old_file_intact(tmp_path, metadata, monkeypatch):
    file = save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1000)}, metadata)
    old = file.read_bytes()
    open_descriptor = os.fdopen

    def nearly_full(descriptor, mode):
        stream = open_descriptor(descriptor, mode, buffering=0)

        class Stream:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                stream.close()

            def fileno(self):
                return stream.fileno()

            def write(self, content):
                stream.write(content[:100])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Stream()

    monkeypatch.setattr("featherseg.files.os.fdopen", nearly_full)
    with pytest.raises(FeathersegError, match=r"no space left .* the previous file is intact"):
        save_weights(file, {"a": torch.ones(1000)}, metadata)
    assert file.read_bytes() == old
    assert os.listdir(tmp_path) == ["w.safetensors"]
