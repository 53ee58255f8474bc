"""Foreign checkpoints: every known layout loads to the same network, everything else is refused and nothing is run."""

import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from synthetic_weights import synthetic_network

from featherseg.errors import FeathersegError
from featherseg.models.importer import CheckpointMismatch, import_checkpoint, import_encoder, read_checkpoint
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights

# Names of the published files, one of each kind; the counts are those of the published networks' state dicts.
OFFICIAL_KEYS = {
    "fassd_net": (
        "base.0.conv.weight",
        "base.4.layers.3.norm.running_var",
        "base.14.norm.num_batches_tracked",
        "DAPF.conv1x1.weight",
        "DAPF.bn1x1.bias",
        "DAPF.pyBranch2.atrous_conv3x1.weight",
        "DAPF.pyBranch3.atrous_conv1x3.weight",
        "DAPF.pyBranch4.bn3x1.running_mean",
        "DAPF.pyBranch4.bn1x3.weight",
        "DAPF.conv1.weight",
        "DAPF.bn1.running_var",
        "denseBlocksUp.0.layers.7.conv.weight",
        "conv1x1_up.2.norm.weight",
        "mda.0.bn_relu_1.bn.weight",
        "mda.0.bn_relu_1.acti.weight",
        "mda.1.conv3x3.conv.weight",
        "mda.1.conv3x3.bn_prelu.bn.running_mean",
        "mda.2.parallel_conv3x3.bn_prelu.acti.weight",
        "mda.2.parallel_ddconv3x1.conv.weight",
        "mda.2.parallel_ddconv1x3.bn_prelu.bn.bias",
        "mda.0.bn_relu_2.bn.running_var",
        "mda.0.conv1x1.conv.weight",
        "finalConv.bias",
    ),
    "fassd_net_l2": ("denseBlocksUp.0.conv.weight", "denseBlocksUp.2.norm.bias", "finalConv.weight"),
    "fc_hardnet_70": ("base.16.layers.7.conv.weight", "base.17.norm.weight", "denseBlocksUp.3.layers.0.conv.weight"),
}
TENSORS = {"fassd_net": 479, "fassd_net_l1": 479, "fassd_net_l2": 401, "fc_hardnet_70": 416}


class Exploit:
    """Pickles as a call that leaves a file behind."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def same(network, state):
    own = network.state_dict()
    return set(own) == set(state) and all(torch.equal(own[key], state[key]) for key in own)


def with_module(state):
    return OrderedDict((f"module.{key}", value) for key, value in state.items())


def before_release(state):
    names = (
        ("DAPF.", "aspp."),
        (".pyBranch", ".aspp"),
        ("mda.", "Dab_leo."),
        ("parallel_ddconv", "ddconv"),
    )
    renamed = {}
    for key, value in state.items():
        for new, old in names:
            key = key.replace(new, old)
        renamed[key] = value
    return renamed


@pytest.fixture(scope="module")
def state():
    return synthetic_network("fassd_net").state_dict()


@pytest.fixture(scope="module")
def light_state():
    return synthetic_network("fassd_net_l2", 11).state_dict()


@pytest.mark.parametrize("name", TENSORS)
def test_networks_carry_the_published_names(name):
    with torch.device("meta"):
        keys = set(create_model(name).state_dict())
    assert len(keys) == TENSORS[name]
    assert keys.issuperset(OFFICIAL_KEYS.get(name, ()))


LAYOUTS = {
    "published": lambda s: {"epoch": 90000, "model_state": with_module(s), "best_iou": np.float64(0.7412)},
    "while training": lambda s: {
        "epoch": 500,
        "model_state": with_module(s),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.02}]},
        "scheduler_state": {"last_epoch": 500, "base_lrs": [0.02]},
        "best_iou": -100.0,
    },
    "bare": lambda s: OrderedDict(s),
    "bare, parallel": with_module,
    "state_dict": lambda s: {"state_dict": s},
    "before release": lambda s: {"model_state": with_module(before_release(s))},
}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_every_tensor(tmp_path, light_state, layout, zipped):
    file = tmp_path / "file.pth"
    torch.save(LAYOUTS[layout](light_state), file, _use_new_zipfile_serialization=zipped)
    network, report = import_checkpoint("fassd_net_l2", file)
    assert same(network, light_state)
    assert not network.training
    assert report.percent == 100
    assert len(report.matched) == 401
    assert bool(report.aliases) == (layout == "before release")


def test_a_numpy_score_from_before_numpy_2_is_read(tmp_path, light_state):
    file = tmp_path / "file.pth"
    torch.save(LAYOUTS["published"](light_state), file, _use_new_zipfile_serialization=False)
    content = file.read_bytes()
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    file.write_bytes(old)
    assert b"numpy.core.multiarray" in old
    assert same(import_checkpoint("fassd_net_l2", file)[0], light_state)


def test_safetensors_are_read(tmp_path, light_state):
    save_file(dict(light_state), tmp_path / "file.safetensors")
    assert same(import_checkpoint("fassd_net_l2", tmp_path / "file.safetensors")[0], light_state)


def test_older_names_are_reported(tmp_path, state):
    torch.save(before_release(state), tmp_path / "file.pth")
    network, report = import_checkpoint("fassd_net", tmp_path / "file.pth")
    assert same(network, state)
    assert ("aspp.aspp2.bn3x1.weight", "DAPF.pyBranch2.bn3x1.weight") in report.aliases
    assert ("Dab_leo.1.ddconv1x3.conv.weight", "mda.1.parallel_ddconv1x3.conv.weight") in report.aliases
    assert any("renamed" in line and "aspp" in line for line in report.lines())


def test_classes_are_read_off_the_file(tmp_path, light_state):
    torch.save(light_state, tmp_path / "file.pth")
    assert import_checkpoint("fassd_net_l2", tmp_path / "file.pth")[0].finalConv.out_channels == 11


def test_arguments_of_the_network_are_handed_on(tmp_path):
    torch.save(create_model("fassd_net", 4, alpha=4).state_dict(), tmp_path / "file.pth")
    network, _ = import_checkpoint("fassd_net", tmp_path / "file.pth", alpha=4)
    assert network.DAPF.conv1x1.out_channels == 56
    with pytest.raises(CheckpointMismatch):
        import_checkpoint("fassd_net", tmp_path / "file.pth")


def test_a_file_of_ours_decides_the_arguments_that_are_not_given(tmp_path):
    network = create_model("fassd_net_l2", 3, alpha=4)
    file = save_weights(
        tmp_path / "ours.safetensors", network.state_dict(), describe_network(network, "fassd_net_l2", 3, {"alpha": 4})
    )
    imported, report = import_checkpoint("fassd_net_l2", file)
    assert {key: tuple(value.shape) for key, value in imported.state_dict().items()} == {
        key: tuple(value.shape) for key, value in network.state_dict().items()
    }
    assert report.arguments == {"alpha": 4}
    with pytest.raises(CheckpointMismatch, match="another shape"):
        import_checkpoint("fassd_net_l2", file, alpha=2)


def test_absent_counters_are_reported_and_start_at_zero(tmp_path, light_state):
    torch.save({k: v for k, v in light_state.items() if "num_batches" not in k}, tmp_path / "file.pth")
    network, report = import_checkpoint("fassd_net_l2", tmp_path / "file.pth")
    counters = [key for key in light_state if "num_batches" in key]
    assert sorted(report.counters_absent) == sorted(counters)
    assert report.percent == 100
    assert any("counters" in line for line in report.lines())
    assert all(int(network.state_dict()[key]) == 0 for key in counters)


def refusal(tmp_path, content, name="fassd_net_l2", num_classes=None):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointMismatch) as caught:
        import_checkpoint(name, tmp_path / "file.pth", num_classes)
    return caught.value


def test_a_missing_tensor_is_refused(tmp_path, light_state):
    content = {key: value for key, value in light_state.items() if key != "mda.1.bn_relu_2.acti.weight"}
    error = refusal(tmp_path, content)
    assert error.report.missing == ("mda.1.bn_relu_2.acti.weight",)
    assert "mda.1.bn_relu_2.acti.weight" in str(error)
    assert 99 < error.report.percent < 100


def test_a_whole_missing_batch_norm_is_missing_with_its_counter(tmp_path, light_state):
    content = {key: value for key, value in light_state.items() if not key.startswith("base.0.norm")}
    assert len(refusal(tmp_path, content).report.missing) == 5


def test_an_unexpected_tensor_is_refused(tmp_path, light_state):
    error = refusal(tmp_path, {**light_state, "auxiliary.weight": torch.zeros(1)})
    assert error.report.unexpected == ("auxiliary.weight",)


def test_another_shape_is_refused_with_both_shapes(tmp_path, light_state):
    error = refusal(tmp_path, light_state, num_classes=19)
    assert len(error.report.shape_mismatch) == 2
    assert "finalConv.weight: [19, 64, 1, 1] / [11, 64, 1, 1]" in str(error)


def test_another_network_is_refused(tmp_path, state):
    report = refusal(tmp_path, state, "fc_hardnet_70").report
    assert report.missing
    assert report.unexpected
    assert report.shape_mismatch


def test_two_tensors_of_one_name_are_refused(tmp_path, light_state):
    torch.save({**light_state, "aspp.conv1.weight": light_state["DAPF.conv1.weight"]}, tmp_path / "file.pth")
    with pytest.raises(FeathersegError, match=r"two of its tensors are DAPF\.conv1\.weight"):
        import_checkpoint("fassd_net_l2", tmp_path / "file.pth")


def test_an_encoder_alone_is_told_from_a_network(tmp_path):
    torch.save(trunk_of(4).base.state_dict(), tmp_path / "file.pth")
    with pytest.raises(CheckpointMismatch, match="encoder alone"):
        import_checkpoint("fassd_net", tmp_path / "file.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, light_state, zipped):
    mark = tmp_path / "was-run"
    content = {"model_state": light_state, "best_iou": Exploit(mark)}
    torch.save(content, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(FeathersegError, match=r"refused, nothing of it was run: .*mkdir"):
        import_checkpoint("fassd_net_l2", tmp_path / "file.pth")
    assert not mark.exists()
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert mark.exists(), "the exploit is harmless by itself, so that the test above shows nothing"


def test_a_numpy_object_in_a_pickle_is_refused(tmp_path):
    torch.save({"model_state": {"a": np.array([{}], dtype=object)}}, tmp_path / "file.pth")
    with pytest.raises(FeathersegError, match="refused"):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "no state dict"),
        ({}, "no state dict"),
        ({"epoch": 3}, "'epoch' is no tensor"),
        ({"model_state": {"a": 3}}, "'a' is no tensor"),
    ],
    ids=str,
)
def test_a_pickle_without_a_state_dict_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(FeathersegError, match=message):
        read_checkpoint(tmp_path / "file.pth")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FeathersegError, match="there is no such checkpoint"):
        import_checkpoint("fassd_net", tmp_path / "absent.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_refused_without_a_traceback(tmp_path, kind):
    tensors = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3)}
    file = tmp_path / "file"
    if kind == "safetensors":
        save_file(tensors, file)
    else:
        torch.save(
            {"model_state": tensors, "best_iou": np.float64(1)}, file, _use_new_zipfile_serialization=kind == "zip"
        )
    whole = file.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for trial in range(150):
        content = bytearray(whole[: random.integers(len(whole))] if trial % 3 == 0 else whole)
        for position in random.integers(max(len(content), 1), size=trial % 3 * 4):
            content[position] = random.integers(256)
        file.write_bytes(bytes(content))
        try:
            assert all(isinstance(tensor, torch.Tensor) for tensor in read_checkpoint(file).values())
        except FeathersegError:
            refused += 1
    assert refused >= 50


def trunk_of(blocks):
    torch.manual_seed(blocks)
    return create_model("hardnet_petite", 10, num_blocks=blocks)


@pytest.mark.parametrize("name", ["fassd_net", "fassd_net_l1", "fassd_net_l2", "fassd_net_mda"])
def test_the_imagenet_file_of_five_blocks_starts_four(tmp_path, name):
    source = trunk_of(5).base.state_dict()
    torch.save(source, tmp_path / "imagenet.pth")
    network = create_model(name)
    untouched = network.conv1x1_up[0].conv.weight.clone()
    report = import_encoder(network, tmp_path / "imagenet.pth")
    assert all(torch.equal(value, source[key]) for key, value in network.base.state_dict().items())
    assert torch.equal(network.conv1x1_up[0].conv.weight, untouched)
    assert report.percent == 100
    assert {key.split(".")[1] for key in report.ignored} == {"16", "17"}


def test_the_imagenet_file_fills_all_of_fc_hardnet():
    network = create_model("fc_hardnet_70")
    source = trunk_of(5).base.state_dict()
    report = import_encoder(network, source)
    assert all(torch.equal(value, source[key]) for key, value in network.base.state_dict().items())
    assert not report.ignored


def test_our_own_classifier_starts_a_network():
    network, classifier = create_model("fassd_net_l2"), trunk_of(4)
    report = import_encoder(network, classifier.state_dict())
    assert all(
        torch.equal(value, classifier.base.state_dict()[key]) for key, value in network.base.state_dict().items()
    )
    assert report.ignored == ("fc.weight", "fc.bias")


def test_an_incomplete_trunk_is_refused_and_nothing_is_loaded():
    network = create_model("fc_hardnet_70")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(CheckpointMismatch, match="not an encoder") as caught:
        import_encoder(network, trunk_of(4).state_dict())
    assert "base.17.conv.weight" in caught.value.report.missing
    assert same(network, before)


def test_a_trunk_of_another_shape_is_refused():
    source = trunk_of(4).base.state_dict()
    source["0.conv.weight"] = torch.zeros(16, 1, 3, 3)
    with pytest.raises(CheckpointMismatch, match=r"base\.0\.conv\.weight: \[16, 3, 3, 3\] / \[16, 1, 3, 3\]"):
        import_encoder(create_model("fassd_net"), source)


def test_a_network_without_a_trunk_takes_no_encoder():
    with pytest.raises(FeathersegError, match="no trunk"):
        import_encoder(torch.nn.Linear(2, 2), trunk_of(4).state_dict())


def test_a_network_may_name_its_encoder_otherwise():
    class Branched(torch.nn.Module):
        encoder_prefixes = ("stem.", "trunk.")

        def __init__(self):
            super().__init__()
            self.stem, self.trunk, self.head = (torch.nn.Linear(2, 2) for _ in range(3))

    network, source = Branched(), Branched()
    head = network.head.weight.clone()
    report = import_encoder(network, source.state_dict())
    assert torch.equal(network.stem.weight, source.stem.weight)
    assert torch.equal(network.trunk.weight, source.trunk.weight)
    assert torch.equal(network.head.weight, head)
    assert report.ignored == ("head.weight", "head.bias")
